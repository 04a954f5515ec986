"""T-71: a stick with a layout, or a tar of one, is old, cut, half copied or swapped."""

from __future__ import annotations

import json
import shutil
import tarfile
import tracemalloc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import (
    FetchError,
    MixAndMatchError,
    RollbackError,
    TooLargeError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import MANIFEST, REFERENCE_NAME
from margo_supplychain.formats.registry_form import TUF_METADATA, wrapped
from margo_supplychain.transport.opening import open_source
from tests.attacks.standing import refused, stands
from tests.registries.plant import RegistryDevice, quick
from tests.world import World
from tests.world.media import put_files

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world import Files


@dataclass(frozen=True, slots=True)
class Plant:
    """A device that runs 1.1.0 from a layout; 1.2.0 is published and on its way."""

    world: World
    device: RegistryDevice
    old: Files
    new: Files
    layout: Path

    def deliver(self, *, packed: bool) -> None:
        """Show the device the layout as it lies there, or a tar of it."""
        url = f"oci-layout:{self.layout}"
        if packed:
            path = self.layout.with_suffix(".tar")
            with tarfile.open(path, "w") as archive:
                archive.add(self.layout, arcname=".")
            url = f"oci-archive:{path}"
        self.device.trust = url
        self.device.content = (url,)

    def replace(self, files: Files) -> None:
        """Let exactly these files be on the stick."""
        shutil.rmtree(self.layout, ignore_errors=True)
        put_files(files, f"oci-layout:{self.layout}")

    def blob(self, digest: str) -> Path:
        """Return a blob's file."""
        return self.layout / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def edit(self, tag: str, change: Any) -> None:
        """Change one entry of `index.json`; None takes it away."""
        path = self.layout / "index.json"
        document = json.loads(path.read_bytes())
        entries = []
        for entry in document["manifests"]:
            if entry.get("annotations", {}).get(REFERENCE_NAME) != tag:
                entries.append(entry)
            elif change is not None:
                entries.append({**entry, **change})
        document["manifests"] = entries
        path.write_text(json.dumps(document), encoding="utf-8")

    def entry(self, tag: str) -> dict[str, Any]:
        """Return one entry of `index.json`."""
        document = json.loads((self.layout / "index.json").read_bytes())
        (found,) = (
            one
            for one in document["manifests"]
            if one.get("annotations", {}).get(REFERENCE_NAME) == tag
        )
        assert isinstance(found, dict)
        return found

    def retag(self, tag: str, manifest: bytes) -> None:
        """Let a tag name a manifest of Mallory's making."""
        what = Descriptor.of(manifest, MANIFEST)
        self.blob(str(what.digest)).write_bytes(manifest)
        self.edit(tag, {"digest": str(what.digest), "size": what.size})


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    world = World()
    world.release("1.0.0")
    old = world.publish()
    layout = tmp_path / "stick"
    url = f"oci-layout:{layout}"
    device = RegistryDevice(
        tmp_path / "device",
        old,
        world.clock,
        trust=url,
        content=(url,),
        network=quick(),
    )
    world.release("1.1.0")
    put_files(world.publish(), url)
    assert device.install() == "1.1.0"
    world.release("1.2.0")
    new = world.publish()
    plant = Plant(world, device, old, new, layout)
    plant.replace(new)
    return plant


SECRET = b"PASSWORD=hunter2 of the device\n" * 40
OF_THE_DEVICE = ("secret", "/proc/kmsg", "/proc/self/environ", "/dev/zero")


@pytest.mark.parametrize("target", OF_THE_DEVICE)
@pytest.mark.parametrize("name", ["oci-layout", "index.json", "the archive"])
def test_a_link_to_a_file_of_the_device(
    plant: Plant, tmp_path: Path, name: str, target: str
) -> None:
    """A stick's links are not followed: nothing is read, or waited for, elsewhere."""
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    to = secret if target == "secret" else target
    if name == "the archive":
        plant.deliver(packed=True)
        link = plant.layout.with_suffix(".tar")
    else:
        link = plant.layout / name
    link.unlink()
    link.symlink_to(to)
    with pytest.raises(FetchError, match="is a symbolic link") as caught:
        open_source(plant.device.trust).metadata("timestamp.json", limit=1000)
    assert "hunter2" not in str(caught.value)
    memory, before = plant.device.memory, stands(plant.device)
    if name == "the archive":
        # No archive is no source: the device stays on what it had.
        assert plant.device.version() == "1.1.0"
    else:
        with refused(plant.device, FetchError, "fetch", match="is a symbolic link"):
            plant.device.verify()
    assert (plant.device.memory, stands(plant.device)) == (memory, before)
    link.unlink()
    plant.replace(plant.new)
    plant.deliver(packed=name == "the archive")
    assert plant.device.install() == "1.2.0"


def test_what_is_no_archive_is_not_told(plant: Plant, tmp_path: Path) -> None:
    """Also where a file is not the one that it should be, no piece of it is logged."""
    path = tmp_path / "stick.tar"
    path.write_bytes(SECRET)
    with pytest.raises(FetchError, match="is damaged") as caught:
        open_source(f"oci-archive:{path}").metadata("timestamp.json", limit=1000)
    assert all(word not in str(caught.value) for word in ("hunter", "PASS", "device\n"))
    assert plant.device.install() == "1.2.0"


@pytest.mark.parametrize("what", ["{}", "[]", '{"a":{}}', '"":0'])
def test_a_list_that_fills_the_memory(plant: Plant, packed: bool, what: str) -> None:
    """Of a few bytes each, millions of values: refused before they are made."""
    path = plant.layout / "index.json"
    document = json.loads(path.read_bytes())
    values = ",".join([what] * (4_000_000 // len(what)))
    document["x"] = "here"
    around = "{}" if ":" in what and what[0] != "{" else "[]"
    text = json.dumps(document).replace('"here"', around[0] + values + around[1])
    path.write_text(text, encoding="utf-8")
    plant.deliver(packed=packed)
    tracemalloc.start()
    try:
        with pytest.raises(FetchError, match="values in") as caught:
            open_source(plant.device.trust).metadata("timestamp.json", limit=1000)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(text)
    finally:
        tracemalloc.stop()
    assert caught.value.unreachable
    plant.replace(plant.new)
    plant.deliver(packed=packed)
    assert plant.device.install() == "1.2.0"


@pytest.fixture(params=[False, True], ids=["layout", "tar"])
def packed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def recovers(plant: Plant, *, packed: bool) -> None:
    """The right stick, and all is well."""
    plant.replace(plant.new)
    plant.deliver(packed=packed)
    assert plant.device.install() == "1.2.0"


def test_an_old_stick(plant: Plant, packed: bool) -> None:
    """Mallory hands over the stick of last year."""
    plant.replace(plant.old)
    plant.deliver(packed=packed)
    with refused(plant.device, RollbackError, "rollback", match="older than trusted"):
        plant.device.verify()
    recovers(plant, packed=packed)


@pytest.mark.parametrize("role", ["snapshot", "acme.pump-monitor"])
@pytest.mark.parametrize("cut", ["tag", "manifest"])
def test_half_copied(plant: Plant, packed: bool, role: str, cut: str) -> None:
    """The timestamp is new, and a file behind it is not there yet, or only its name:
    no verdict, and what runs may keep running."""
    tag = f"{plant.world.roles[role].version}.{role}"
    if cut == "tag":
        plant.edit(tag, None)
    else:
        plant.blob(plant.entry(tag)["digest"]).unlink()
    plant.deliver(packed=packed)
    with refused(plant.device, FetchError, "fetch", match=tag, newer=True):
        plant.device.verify()
    recovers(plant, packed=packed)


@pytest.mark.parametrize("lost", ["index.json", "oci-layout"])
def test_without_its_list_a_stick_is_no_source(
    plant: Plant,
    packed: bool,
    lost: str,
) -> None:
    """It says nothing: above all not that there is no newer root. The device goes on
    with what it had, as with no stick at all."""
    plant.world.rotate("timestamp", "timestamp-2")
    plant.new.metadata |= plant.world.publish().metadata
    plant.replace(plant.new)
    (plant.layout / lost).unlink()
    plant.deliver(packed=packed)
    before = plant.device.memory
    assert plant.device.version() == "1.1.0"
    assert plant.device.memory == before
    recovers(plant, packed=packed)


def test_bytes_in_the_manifest_are_swapped(plant: Plant, packed: bool) -> None:
    """Mallory leaves digest and size, and puts other bytes inline."""
    tag = f"{plant.world.roles['acme.pump-monitor'].version}.acme.pump-monitor"
    document = json.loads(plant.blob(plant.entry(tag)["digest"]).read_bytes())
    other = json.loads(plant.blob(plant.entry("1.root")["digest"]).read_bytes())
    document["layers"][0]["data"] = other["layers"][0]["data"]
    plant.retag(tag, json.dumps(document).encode())
    plant.deliver(packed=packed)
    with refused(
        plant.device, FetchError, "fetch", match="data inline that is not", newer=True
    ):
        plant.device.verify()
    recovers(plant, packed=packed)


@pytest.mark.parametrize("named", ["another role", "older"])
def test_tag_of_another_roles_file(
    plant: Plant,
    packed: bool,
    named: str,
) -> None:
    """A tag names the file of another role, or an older one of the same: whatever the
    tag and the title say, the signed bytes say what they are."""
    role = "acme.pump-monitor"
    version = plant.world.roles[role].version
    other = f"{plant.world.roles['acme'].version}.acme"
    if named == "older":
        other = f"{version - 1}.{role}"
    data = plant.new.metadata[f"{other}.json"]
    tag = f"{version}.{role}"
    forged, _ = wrapped(data, media_type=TUF_METADATA, title=f"{tag}.json")
    plant.retag(tag, forged)
    plant.deliver(packed=packed)
    with refused(
        plant.device,
        MixAndMatchError,
        "mix-and-match",
        match="is not the file that snapshot v4 names",
        newer=True,
    ):
        plant.device.verify()
    recovers(plant, packed=packed)


def test_tag_that_names_two_things(plant: Plant, packed: bool) -> None:
    """Two entries with one tag: no reader may choose."""
    path = plant.layout / "index.json"
    document = json.loads(path.read_bytes())
    document["manifests"].insert(0, {**plant.entry("1.root"), **_tagged("timestamp")})
    path.write_text(json.dumps(document), encoding="utf-8")
    plant.deliver(packed=packed)
    with refused(plant.device, FetchError, "fetch", match="has 2 manifests tagged"):
        plant.device.verify()
    recovers(plant, packed=packed)


def test_endless_file(plant: Plant, packed: bool) -> None:
    """The list says that the timestamp is larger than any may be."""
    huge = {"digest": str(Digest.of(b"x" * 100)), "size": 1 << 40}
    plant.edit("timestamp", huge)
    plant.deliver(packed=packed)
    with refused(plant.device, TooLargeError, "too-large", match="more than the limit"):
        plant.device.verify()
    recovers(plant, packed=packed)


def _tagged(tag: str) -> dict[str, Any]:
    return {"annotations": {REFERENCE_NAME: tag}}
