"""A registry, a mirror or a disk gives other bytes than the signed ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import (
    DigestMismatchError,
    FetchError,
    LengthMismatchError,
    SupplyChainError,
)
from margo_supplychain.formats import oci
from tests.attacks.packages import (
    COMPOSE,
    DESCRIPTION,
    component,
    compose,
    member,
    package,
    packed,
)
from tests.attacks.standing import offered, refused
from tests.world import MemorySource, World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor
    from tests.world import Device

TAMPERED: dict[str, tuple[Callable[[bytes], bytes], type[SupplyChainError], str]] = {
    "one bit": (
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        DigestMismatchError,
        "has",
    ),
    "swapped": (lambda data: b"x" * len(data), DigestMismatchError, "has digest"),
    "truncated": (lambda data: data[:-1], LengthMismatchError, "bytes, expected"),
    "empty": (lambda data: b"", LengthMismatchError, "has 0 bytes"),
    "one byte more": (lambda data: data + b"\n", LengthMismatchError, "is larger"),
    "oversized": (lambda data: data + bytes(3 << 20), LengthMismatchError, "is larger"),
}


class Fixture:
    """A device that runs 1.0.0, and a package 2.0.0 with every kind of blob."""

    def __init__(self, tmp_path: Path) -> None:
        world = World()
        world.release("1.0.0")
        world.publish()
        self.device: Device = world.device(tmp_path)
        assert self.device.install() == "1.0.0"  # sane
        archive = packed(member("web/compose.yaml", COMPOSE))
        self.component = compose(world, archive)
        self.package = package(world, components=[component(self.component)])
        self.blobs: dict[str, Descriptor] = {
            "component": self.component,
            "archive": world.add_blob(archive, oci.COMPOSE_LAYER),
            "description": world.add_blob(DESCRIPTION, oci.MARGO_DESCRIPTION),
            "icon": world.add_blob(b"icon", "image/png"),
            "config": world.add_blob(b"{}", oci.EMPTY_TYPE),
        }
        self.device.source.files = world.publish()
        self.device.verify()

    def serve(self, source: MemorySource, blob: str, data: bytes) -> None:
        source.files.blobs[str(self.blobs[blob].digest)] = data

    def honest(self, blob: str) -> bytes:
        return self.device.source.files.blobs[str(self.blobs[blob].digest)]


def code_of(kind: type[SupplyChainError]) -> str:
    known = {
        DigestMismatchError: "digest-mismatch",
        LengthMismatchError: "length-mismatch",
        FetchError: "fetch",
    }
    return known[kind]


@pytest.mark.parametrize("blob", ["component", "archive", "description", "icon"])
@pytest.mark.parametrize("how", TAMPERED)
def test_tampered_content(tmp_path: Path, blob: str, how: str) -> None:
    """One blob of a release is not the signed one; the release is not offered."""
    fixture = Fixture(tmp_path)
    change, kind, match = TAMPERED[how]
    honest = fixture.honest(blob)
    fixture.serve(fixture.device.source, blob, change(honest))
    with refused(fixture.device, kind, code_of(kind), match=match):
        fixture.device.fetch()
    assert len(offered(fixture.device)) == 1  # still 1.0.0 alone

    fixture.serve(fixture.device.source, blob, honest)
    assert fixture.device.install() == "2.0.0"


@pytest.mark.parametrize("how", TAMPERED)
def test_tampered_manifest(tmp_path: Path, how: str) -> None:
    """The artifact's own manifest is not the signed one; there is no copy yet."""
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane

    digest = str(world.release("2.0.0"))
    device.source.files = world.publish()
    change, kind, match = TAMPERED[how]
    blobs = device.source.files.blobs
    honest = blobs[digest]
    blobs[digest] = change(honest)
    with refused(device, kind, code_of(kind), match=match, newer=True):
        device.verify()
    blobs[digest] = honest
    assert device.version() == "2.0.0"


def test_damaged_copy_of_a_manifest(tmp_path: Path) -> None:
    """A copy on the device's disk is judged like any other source's bytes."""
    fixture = Fixture(tmp_path)
    copies = fixture.device.state / "targets"
    for path in copies.iterdir():
        path.write_bytes(b"damaged")
    assert fixture.device.install() == "2.0.0"


@pytest.mark.parametrize("blob", ["component", "archive"])
def test_missing_content(tmp_path: Path, blob: str) -> None:
    """What nobody has is inconclusive: a retry may help, an installation may not."""
    fixture = Fixture(tmp_path)
    del fixture.device.source.files.blobs[str(fixture.blobs[blob].digest)]
    with refused(fixture.device, FetchError, "fetch", match="no such blob"):
        fixture.device.fetch()


@pytest.mark.parametrize(
    "blob", ["package", "component", "archive", "description", "icon"]
)
def test_one_of_two_sources_is_wrong(tmp_path: Path, blob: str) -> None:
    """A mirror that tampers is passed over, also for manifests; the next is asked."""
    fixture = Fixture(tmp_path)
    device = fixture.device
    digest = str(fixture.package if blob == "package" else fixture.blobs[blob].digest)
    wrong = MemorySource(device.source.files.copy())
    wrong.files.blobs[digest] = bytes(len(wrong.files.blobs[digest]))
    device.contents = [wrong, device.source]
    for path in (device.state / "targets").iterdir():
        path.unlink()
    content = device.fetch()
    assert digest in wrong.asked
    for one in content.digests:
        with content.open(one) as stream:
            assert stream.read() == device.source.files.blobs[str(one)]


def test_all_sources_are_wrong(tmp_path: Path) -> None:
    """Wrong bytes are said before a missing source: that is the alarm."""
    fixture = Fixture(tmp_path)
    device = fixture.device
    down = MemorySource(device.source.files.copy())
    down.down = True
    wrong = MemorySource(device.source.files.copy())
    fixture.serve(wrong, "archive", b"other")
    del device.source.files.blobs[str(fixture.blobs["archive"].digest)]
    device.contents = [down, wrong, device.source]
    with refused(device, LengthMismatchError, "length-mismatch", match="has 5 bytes"):
        device.fetch()
    device.contents = [down, device.source]
    with refused(device, FetchError, "fetch", match="the wire is cut"):
        device.fetch()
    device.contents = []
    with refused(device, FetchError, "fetch", match="there is no source for sha256"):
        device.fetch()
