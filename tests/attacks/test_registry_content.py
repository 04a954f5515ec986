"""T-53: a registry changes, cuts, prolongs or replaces content on its way."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import pytest

from margo_supplychain.errors import (
    DigestMismatchError,
    FetchError,
    LengthMismatchError,
    TooSlowError,
)
from tests.attacks.standing import offered, refused
from tests.registries import lies
from tests.registries.hostile import HostileRegistry
from tests.registries.plant import CONTENT, plant_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from margo_supplychain.errors import SupplyChainError
    from tests.registries.hostile import Conversation, Lie
    from tests.registries.plant import Plant

MODULE: Final = bytes(range(256)) * 4000
BLOB: Final = f"GET /v2/{CONTENT}/blobs/"
MANIFEST: Final = f"GET /v2/{CONTENT}/manifests/"
# Both kernels keep some of an endless answer that nobody reads.
SLACK: Final = 16 << 20


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with HostileRegistry() as registry:
        plant = plant_on(registry, tmp_path)
        plant.release("1.2.0", content=MODULE)
        registry.sent = 0
        yield plant


CHANGES: Final[dict[str, tuple[Lie, type[SupplyChainError], str, str]]] = {
    "tampered": (lies.tampered, DigestMismatchError, "digest-mismatch", "has digest"),
    "truncated": (lies.truncated, LengthMismatchError, "length-mismatch", "bytes"),
    "prolonged": (lies.trailing, LengthMismatchError, "length-mismatch", "larger"),
    "endless": (lies.endless, LengthMismatchError, "length-mismatch", "larger"),
    "replaced": (
        lies.body(b"\0" * len(MODULE)),
        DigestMismatchError,
        "digest-mismatch",
        "has digest",
    ),
    "cut": (lies.cut, FetchError, "fetch", "ended early"),
    "silent": (lies.silent_after_headers, TooSlowError, "too-slow", "."),
    "forbidden": (lies.status(403), FetchError, "fetch", "403"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_content_changed_by_a_registry(name: str, plant: Plant) -> None:
    """Mallory, who runs the registry, serves another layer than was pushed; the device
    offers nothing of it, and takes the right one as soon as it is there."""
    lie, kind, code, match = CHANGES[name]
    assert plant.device.version() == "1.2.0"
    plant.registry.lies(BLOB, lie)
    with refused(plant.device, kind, code, match=match, newer=True):
        plant.device.fetch()
    # Each cut brings half of what is left.
    assert len(plant.registry.asked(BLOB)) <= 25
    assert plant.registry.sent < 10 * len(MODULE) + SLACK
    plant.registry.is_honest_again()
    assert plant.device.install() == "1.2.0"


def test_manifest_changed_by_a_registry(plant: Plant) -> None:
    """Mallory serves an older, validly signed manifest under the new digest, and then
    one of the right length."""
    held = plant.registry.of(CONTENT)
    old = next(iter(held.manifests.values()))[1]
    changes: tuple[tuple[Lie, type[SupplyChainError], str], ...] = (
        (lies.body(old), LengthMismatchError, "length-mismatch"),
        (lies.tampered, DigestMismatchError, "digest-mismatch"),
    )
    for lie, kind, code in changes:
        plant.registry.lies(MANIFEST, lie)
        with refused(plant.device, kind, code, match="manifest", newer=True):
            plant.device.verify()
        assert not plant.registry.asked(BLOB)
    plant.registry.is_honest_again()
    assert plant.device.install() == "1.2.0"


def test_content_changes_between_two_ranges(plant: Plant) -> None:
    """Mallory cuts the download, changes the blob, and serves the rest of the other."""
    held = plant.registry.of(CONTENT)
    digest = next(name for name, data in held.blobs.items() if data == MODULE)

    def other(talk: Conversation) -> None:
        held.blobs[digest] = bytes(reversed(MODULE))
        talk.tell(talk.truth())

    plant.registry.lies(BLOB, lies.then(lies.cut, other))
    with refused(
        plant.device,
        DigestMismatchError,
        "digest-mismatch",
        match="has digest",
        newer=True,
    ):
        plant.device.fetch()
    held.blobs[digest] = MODULE
    plant.registry.is_honest_again()
    assert plant.device.install() == "1.2.0"


def test_content_of_a_second_registry(plant: Plant) -> None:
    """Mallory runs the nearer mirror; the device takes nothing false from it, and goes
    on to the next place."""
    with HostileRegistry() as mirror:
        mirror.holdings = plant.registry.holdings
        mirror.lies("GET", lies.tampered)
        near = f"oci://{mirror.host}/{CONTENT}"
        plant.device.content = (near, *plant.device.content)
        content = plant.device.fetch()
        assert mirror.asked(BLOB)
    (listed,) = [one for one in offered(plant.device) if "1.2.0" in str(one)]
    assert listed["digest"] == str(content.release.manifest.digest)
    layer = next(digest for digest in content.digests if digest.short)
    with content.open(layer) as stream:
        assert isinstance(stream, io.IOBase)
