"""Content of a hostile shape that comes through a registry, signed or not.

Reference §6, "Titles", "Archives" and the deep indexes of "JSON". Each shape is judged
where `tests/attacks/` tests it; here it arrives over the wire, and what a device asks
for on the way is bounded.
"""

from __future__ import annotations

import json
import random
import threading
from typing import TYPE_CHECKING, Final

import pytest

from margo_supplychain.errors import (
    DigestMismatchError,
    FetchError,
    MalformedError,
    UnsafeArchiveError,
)
from margo_supplychain.formats import oci
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.oci import COMPOSE_COMPONENT, Entry, index_bytes
from tests.attacks.packages import GENERIC, artifact, compose, packed
from tests.attacks.standing import refused
from tests.attacks.test_unsafe_archive import EVIL, MAIN
from tests.registries import lies
from tests.registries.hostile import HostileRegistry
from tests.registries.plant import CONTENT, plant_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor
    from tests.registries.hostile import Conversation
    from tests.registries.plant import Plant
    from tests.world import World

TITLES: Final = {
    "with a way out": ["../../outside"],
    "absolute": ["/etc/cron.d/outside"],
    "with a null": ["a\0b"],
    "with a backslash": ["..\\outside"],
    "of a drive": ["C:outside"],
    "reserved": ["CON"],
    "reserved with an ending": ["aux.txt"],
    "twice": ["one", "one"],
    "twice but for case": ["Margo.yaml", "margo.yaml"],
    "twice but for composition": ["caf\u00e9", "cafe\u0301"],
    "twice but for a ligature's case": ["stra\u00dfe", "STRASSE"],
    "with a direction": ["gpj.\u202eexe"],
}


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with HostileRegistry() as registry:
        yield plant_on(registry, tmp_path)


def outside(tmp_path: Path) -> set[Path]:
    return {one for one in tmp_path.rglob("*") if "staging" not in one.parts}


@pytest.mark.parametrize("evil", sorted(set(EVIL) - {"many members"}))
def test_unsafe_archive_from_a_registry(
    evil: str, plant: Plant, tmp_path: Path
) -> None:
    data, match = EVIL[evil]
    honest = compose(plant.world, packed(*MAIN))
    plant.release("2.0.0", artifact=honest, kind=COMPOSE_COMPONENT)
    assert plant.device.install() == "2.0.0"
    what = compose(plant.world, data)
    plant.release("3.0.0", artifact=what, kind=COMPOSE_COMPONENT)
    plant.device.verify()
    before = outside(tmp_path)
    with refused(plant.device, UnsafeArchiveError, "unsafe-archive", match=match):
        plant.device.fetch()
    assert outside(tmp_path) == before


@pytest.mark.parametrize("name", TITLES)
def test_title_from_a_registry(name: str, plant: Plant, tmp_path: Path) -> None:
    """By a stolen key's signature: the manifest is refused as a whole."""
    world = plant.world
    layer = json.loads(world.files.blobs[str(world.artifact(b"x").digest)])["layers"][0]
    layers = [
        {**layer, "annotations": {"org.opencontainers.image.title": title}}
        for title in TITLES[name]
    ]
    what = world.add_blob(json.dumps(document(layers)).encode(), oci.MANIFEST)
    plant.release("2.0.0", artifact=what)
    before = outside(tmp_path)
    with refused(plant.device, MalformedError, "malformed", match=".", newer=True):
        plant.device.fetch()
    assert outside(tmp_path) == before


def _named(data: bytes) -> dict[str, object]:
    return {"digest": str(Digest.of(data)), "size": len(data)}


def nested(world: World, depth: int) -> Descriptor:
    what = artifact(world, [("application/wasm", None, b"deep")])
    for _ in range(depth):
        data = index_bytes([Entry(descriptor=what)], artifact_type=GENERIC)
        what = world.add_blob(data, oci.INDEX)
    return what


def test_index_nested_a_thousand_deep(plant: Plant) -> None:
    plant.release("2.0.0", artifact=nested(plant.world, 1000))
    plant.device.verify()
    plant.registry.seen.clear()
    with refused(plant.device, MalformedError, "malformed", match="deeper than 8"):
        plant.device.fetch()
    assert len(plant.registry.asked(f"{CONTENT}/")) <= 10


def test_index_that_the_registry_repeats_without_end(plant: Plant) -> None:
    """Whatever manifest is asked for, the registry serves the same index again."""
    plant.release("2.0.0", artifact=nested(plant.world, 3))
    plant.device.verify()
    top = list(plant.registry.of(CONTENT).manifests.values())[-1][1]
    plant.registry.lies(f"GET .*/{CONTENT}/manifests/", lies.body(top))
    plant.registry.seen.clear()
    with refused(
        plant.device, DigestMismatchError, "digest-mismatch", match="has digest"
    ):
        plant.device.fetch()
    assert len(plant.registry.asked(f"{CONTENT}/")) <= 4


def test_what_the_registry_says_of_types_is_a_hint(plant: Plant) -> None:
    """The media type of a signed descriptor counts, not the header's."""
    plant.release("2.0.0")
    plant.registry.lies("GET", lies.header("Content-Type", "text/html"))
    assert plant.device.install() == "2.0.0"


def test_manifest_of_very_many_layers(plant: Plant) -> None:
    """It is refused before the first of them is asked for."""
    layer = {"mediaType": "application/wasm", "size": 1}
    layers = [{**layer, "digest": f"sha256:{n:064x}"} for n in range(20_000)]
    data = json.dumps(document(layers)).encode()
    assert len(data) < 4 << 20
    plant.release("2.0.0", artifact=plant.world.add_blob(data, oci.MANIFEST))
    plant.registry.seen.clear()
    with refused(plant.device, MalformedError, "malformed", match="layers", newer=True):
        plant.device.fetch()
    assert not plant.registry.asked(f"{CONTENT}/blobs/")


def document(layers: list[dict[str, object]]) -> dict[str, object]:
    return {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "artifactType": GENERIC,
        "config": {"mediaType": oci.EMPTY_TYPE, **_named(b"{}")},
        "layers": layers,
    }


# --- several at once, and broken off -------------------------------------------------


def of_layers(plant: Plant, version: str, *layers: bytes) -> list[str]:
    """Publish a release of these layers; return their digests."""
    made = [("application/wasm", None, layer) for layer in layers]
    plant.release(version, artifact=artifact(plant.world, made))
    return [str(Digest.of(layer)) for layer in layers]


def test_one_false_blob_among_silent_ones(plant: Plant) -> None:
    """Four at once: who waits for the others when one is an alarm? Nobody for long,
    and no thread stays behind."""
    digests = of_layers(plant, "2.0.0", *(b"layer %d" % n * 100 for n in range(8)))
    plant.device.verify()
    before = threading.active_count()
    for digest in digests[1:]:
        plant.registry.lies(f"GET .*{digest}", lies.silent)
    plant.registry.lies(f"GET .*{digests[0]}", lies.tampered)
    with refused(plant.device, DigestMismatchError, "digest-mismatch", match="digest"):
        plant.device.fetch()
    assert len(plant.registry.asked("/blobs/")) <= 8
    plant.registry.over.set()
    plant.registry.is_honest_again()
    # The server's own threads end when its clients have left.
    ours = [one for one in threading.enumerate() if "process_request" not in one.name]
    assert len(ours) <= before


def test_false_beginning_that_is_gone_on_with(plant: Plant) -> None:
    """A registry gives a false first half and breaks off, again and again: whatever a
    later attempt goes on with, it does not end in a false blob, nor never."""
    data = random.Random(7).randbytes(3_000_000)  # noqa: S311 - not for keys
    (digest,) = of_layers(plant, "2.0.0", data)

    def half(talk: Conversation) -> None:
        if "Range" in talk.headers:
            talk.hang_up()
            return
        talk.begin(200, {"Content-Length": str(len(data))})
        talk.give(bytes(len(data) // 2))
        talk.hang_up()

    plant.registry.lies(f"GET .*{digest}", half)
    plant.device.verify()
    for _ in range(2):
        with refused(plant.device, FetchError, "fetch", match="."):
            plant.device.fetch()
    plant.registry.is_honest_again()
    for attempt in range(2):
        try:
            assert plant.device.install() == "2.0.0"
        except DigestMismatchError:
            assert attempt == 0
            continue
        break
    else:
        pytest.fail("the false beginning was kept")


def test_false_beginning_of_another_registry(plant: Plant) -> None:
    """The nearer mirror poisons what is gone on with at the honest one."""
    data = random.Random(8).randbytes(3_000_000)  # noqa: S311 - not for keys
    (digest,) = of_layers(plant, "2.0.0", data)

    def half(talk: Conversation) -> None:
        talk.begin(200, {"Content-Length": str(len(data))})
        talk.give(bytes(len(data) // 2))
        talk.hang_up()

    with HostileRegistry() as mirror:
        mirror.holdings = plant.registry.holdings
        mirror.lies(f"GET .*{digest}", half)
        near = f"oci://{mirror.host}/{CONTENT}"
        plant.device.content = (near, *plant.device.content)
        assert plant.device.install() == "2.0.0"
