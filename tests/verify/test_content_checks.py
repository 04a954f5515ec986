"""Content that lies in a store, judged as a device judges what it fetched."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import (
    DeploymentError,
    DigestMismatchError,
    StorageError,
    UnsafeArchiveError,
)
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.record import ReleaseRecord
from margo_supplychain.storage.content_store import ContentStore, blob_path
from margo_supplychain.verify.content_checks import ContentChecks, check_stored
from margo_supplychain.verify.limits import Limits
from tests.attacks.packages import COMPOSE, DESCRIPTION, member, package, packed
from tests.attacks.packages import component as component_of
from tests.attacks.packages import compose as compose_of
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path

NAME = ReleaseName.parse("acme/pump-monitor")


def stored(world: World, directory: Path) -> tuple[ReleaseRecord, ContentStore]:
    """Return the newest record of a world, and all its blobs in a store."""
    path = max(path for path in world.roles[NAME.role].targets)
    sha256 = world.roles[NAME.role].targets[path].hashes["sha256"]
    record = ReleaseRecord.parse(world.files.targets[path, sha256])
    content = ContentStore.create(directory)
    for data in world.files.blobs.values():
        content.put(Descriptor.of(data, "a/b"), io.BytesIO(data))
    return record, content


def test_what_is_whole_and_right_passes(tmp_path: Path) -> None:
    world = World()
    package(world)
    check_stored(*stored(world, tmp_path), limits=Limits())


def test_a_generic_artifact_passes(tmp_path: Path) -> None:
    world = World()
    world.release("1.0.0")
    check_stored(*stored(world, tmp_path), limits=Limits())


def test_a_part_that_is_missing(tmp_path: Path) -> None:
    world = World()
    package(world)
    record, content = stored(world, tmp_path)
    layer = Descriptor.of(DESCRIPTION, "a/b")
    blob_path(tmp_path, layer.digest).unlink()
    with pytest.raises(StorageError, match="does not hold"):
        check_stored(record, content, limits=Limits())


def test_a_manifest_that_changes_after_it_was_stored(tmp_path: Path) -> None:
    """What is parsed is what was hashed, not what lay there before."""
    world = World()
    package(world)
    record, content = stored(world, tmp_path)
    what = record.artifact
    checks = ContentChecks(record, content)
    assert checks.read(what) == world.files.blobs[str(what.digest)]
    blob_path(tmp_path, what.digest).write_bytes(b" " * what.size)
    with pytest.raises(DigestMismatchError, match="has digest"):
        checks.read(what)


def test_what_a_device_would_refuse(tmp_path: Path) -> None:
    world = World()
    evil = packed(member("web/compose.yaml", COMPOSE), member("../evil", b"x"))
    package(world, components=[component_of(compose_of(world, evil))])
    with pytest.raises(UnsafeArchiveError, match=r"\.\."):
        check_stored(*stored(world, tmp_path), limits=Limits())


def test_a_description_that_disagrees(tmp_path: Path) -> None:
    world = World()
    package(world, DESCRIPTION.replace(b"acme/web", b"evil/web"))
    with pytest.raises(DeploymentError, match="components of compose"):
        check_stored(*stored(world, tmp_path), limits=Limits())
