"""T-59: a registry's headers, digests and titles point out of the directory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from margo_supplychain.authoring.release import Release
from margo_supplychain.errors import FetchError, FormatError, SupplyChainError
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.versions import Version
from margo_supplychain.transport.opening import open_source
from tests.attacks.standing import refused
from tests.registries import lies
from tests.registries.hostile import IMAGE, INDEX, HostileRegistry, digest_of
from tests.registries.plant import CONTENT, EMPTY_TYPE, plant_on, quick

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.registries.plant import Plant

OUT: Final = "../../../../outside"


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with HostileRegistry() as registry:
        plant = plant_on(registry, tmp_path)
        plant.release("1.2.0")
        yield plant


def files_outside(plant: Plant, tmp_path: Path) -> set[Path]:
    """Return every file that is neither the device's state nor its staging."""
    inside = plant.device.state.parent
    below = {path for path in tmp_path.rglob("*") if inside not in path.parents}
    # Other workers write further up.
    return below | set(tmp_path.parent.iterdir())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Content-Disposition", f'attachment; filename="{OUT}"'),
        ("Content-Type", f"application/{OUT}"),
        ("Content-Location", f"file://{OUT}"),
        ("Location", f"file://{OUT}"),
        ("Link", f'<{OUT}>; rel="next"'),
    ],
)
def test_headers_that_name_a_path(
    name: str, text: str, plant: Plant, tmp_path: Path
) -> None:
    """Mallory names paths in headers; they are hints, and lead nowhere."""
    assert plant.device.version() == "1.2.0"
    before = files_outside(plant, tmp_path)
    plant.registry.lies(".", lies.header(name, text))
    assert plant.device.install() == "1.2.0"
    assert files_outside(plant, tmp_path) == before


@pytest.mark.parametrize(
    "text",
    [
        f"sha256:{OUT}",
        "/etc/passwd:x",
        f"{OUT}:" + "0" * 64,
        f"sha256:{'0' * 64}",
        f"sha256:{'A' * 64}",
    ],
)
def test_digest_header_that_names_a_path(
    text: str, plant: Plant, tmp_path: Path
) -> None:
    """Mallory names a path where other clients look for the manifest's digest, and
    wrote to it: the answer is refused, whatever else is in it."""
    assert plant.device.version() == "1.2.0"
    before = files_outside(plant, tmp_path)
    plant.registry.lies(".", lies.header("Docker-Content-Digest", text))
    with refused(plant.device, FetchError, "fetch", match="digest", newer=True):
        plant.device.verify()
    assert files_outside(plant, tmp_path) == before
    plant.registry.is_honest_again()
    # Of a blob, nobody looks at it.
    plant.registry.lies("/blobs/", lies.header("Docker-Content-Digest", text))
    assert plant.device.install() == "1.2.0"


def manifest(**layer: Any) -> dict[str, Any]:
    empty = {"mediaType": EMPTY_TYPE, "digest": digest_of(b"{}"), "size": 2}
    return {
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "artifactType": "application/wasm",
        "config": empty,
        "layers": [{**empty, "mediaType": "application/wasm", **layer}],
    }


def titled(title: str) -> dict[str, Any]:
    return manifest(annotations={"org.opencontainers.image.title": title})


def index(**entry: Any) -> dict[str, Any]:
    one = {"mediaType": IMAGE, "digest": digest_of(b"{}"), "size": 2}
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**one, **entry}]}


TWICE: Final = titled("one")["layers"] * 2
ADOPTED: Final[dict[str, dict[str, Any]]] = {
    "layer with a way out": manifest(digest=f"sha256:{OUT}"),
    "layer at an absolute path": manifest(digest="/etc/passwd"),
    "layer in upper case": manifest(digest=f"sha256:{'A' * 64}"),
    "layer of an unknown algorithm": manifest(digest="md5:" + "0" * 32),
    "size negative": manifest(size=-1),
    "size 2^63": manifest(size=1 << 63),
    "size text": manifest(size="2"),
    "entry with a way out": index(digest=f"sha256:{OUT}"),
    "entry at an absolute path": index(digest="/etc/passwd"),
    "title with a way out": titled(OUT),
    "title absolute": titled("/etc/passwd"),
    "title with a null": titled("a\0b"),
    "title with a backslash": titled("..\\..\\outside"),
    "title reserved": titled("CON"),
    "title empty": titled(""),
    "two of one title": {**manifest(), "layers": TWICE},
}


@pytest.mark.parametrize("name", ADOPTED)
def test_adopted_manifest_that_names_a_path(
    name: str, plant: Plant, tmp_path: Path
) -> None:
    """Mallory's manifest lies in the vendor's registry when the vendor adopts what is
    there: it is refused before a byte is written or signed."""
    held = plant.registry.of(CONTENT)
    held.add_blob(b"{}")
    data = json.dumps(ADOPTED[name]).encode()
    kind = ADOPTED[name]["mediaType"]
    digest = held.add_manifest(data, tag=None, kind=kind)
    before = files_outside(plant, tmp_path)
    place = f"oci://{plant.registry.host}/{CONTENT}"
    source = open_source(place, network=quick())
    with pytest.raises(SupplyChainError) as caught:
        Release.from_artifact(
            source,
            digest,
            name=ReleaseName.parse("acme/pump-monitor"),
            version=Version.parse("1.3.0"),
        )
    assert isinstance(caught.value, FormatError)
    assert files_outside(plant, tmp_path) == before
    assert plant.device.install() == "1.2.0"
