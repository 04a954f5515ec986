"""A tag, a path or a digest leads to an older release that was signed once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.errors import (
    DigestMismatchError,
    LengthMismatchError,
    MalformedError,
)
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.record import ReleaseRecord
from margo_supplychain.formats.versions import Version
from tests.attacks.standing import refused
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path

NAME = ReleaseName.parse("acme/pump-monitor")


def record_of(world: World, version: str) -> tuple[str, str, bytes]:
    """Return path, sha256 and bytes of a release's record."""
    path = NAME.release_path(Version.parse(version).tag)
    sha256 = world.roles[NAME.role].targets[path].hashes["sha256"]
    return path, sha256, world.files.targets[path, sha256]


def test_an_old_record_in_the_place_of_a_new_one(tmp_path: Path) -> None:
    """A mirror serves the record of 1.0.0 as the file of 2.0.0's."""
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.version() == "1.0.0"  # sane

    world.release("2.0.0")
    device.source.files = world.publish()
    path, sha256, _ = record_of(world, "2.0.0")
    device.source.files.targets[path, sha256] = record_of(world, "1.0.0")[2]
    with refused(
        device, DigestMismatchError, "digest-mismatch", match="signed is", newer=True
    ):
        device.verify()
    with refused(device, DigestMismatchError, "digest-mismatch", match=r"2\.0\.0 is"):
        device.verify()


def test_an_old_record_of_another_length(tmp_path: Path) -> None:
    """A record that is cut, and one with bytes behind it, are noticed by length."""
    world = World()
    world.release("1.0.0")
    device = world.device(tmp_path)
    device.source.files = world.publish()
    device.refresh()  # sane
    path, sha256, data = record_of(world, "1.0.0")

    device.source.files.targets[path, sha256] = data[:-1]
    with refused(
        device, LengthMismatchError, "length-mismatch", match="fewer", newer=True
    ):
        device.verify()
    device.source.files.targets[path, sha256] = data + b" "
    with refused(device, LengthMismatchError, "length-mismatch", match="more bytes"):
        device.verify()
    device.source.files.targets[path, sha256] = data + bytes(3 << 20)
    with refused(device, LengthMismatchError, "length-mismatch", match="more bytes"):
        device.verify()


def test_a_stolen_ci_key_lists_an_old_record_as_a_new_release(tmp_path: Path) -> None:
    """The record of 1.0.0 under the path of 2.0.0, all of it validly signed."""
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.version() == "1.0.0"  # sane

    _, _, old = record_of(world, "1.0.0")
    world.list_record(
        NAME.role, ReleaseRecord.parse(old), path=NAME.release_path("2.0.0")
    )
    device.source.files = world.publish()
    with refused(
        device,
        MalformedError,
        "malformed",
        match=r"2\.0\.0 is the record of acme/pump-monitor 1\.0\.0",
        newer=True,
    ):
        device.verify()


def test_an_old_manifest_under_a_new_digest(tmp_path: Path) -> None:
    """A registry answers the new manifest's digest with the old manifest."""
    world = World()
    old = world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane

    new = world.release("2.0.0")
    device.source.files = world.publish()
    blobs = device.source.files.blobs
    blobs[str(new)] = blobs[str(old)]
    with refused(
        device, DigestMismatchError, "digest-mismatch", match="has digest", newer=True
    ):
        device.verify()


def test_an_old_layer_under_a_new_digest(tmp_path: Path) -> None:
    """A registry answers a layer's digest with the layer of the old release."""
    world = World()
    world.release("1.0.0", content=b"old")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane

    layer = world.add_blob(b"new", "application/wasm")
    world.release("2.0.0", content=b"new")
    device.source.files = world.publish()
    device.source.files.blobs[str(layer.digest)] = b"old"
    device.verify()
    with refused(device, DigestMismatchError, "digest-mismatch", match="has digest"):
        device.fetch()
    assert device.memory.releases["default"][NAME].version == Version.parse("1.0.0")
