"""An output directory: what a build removes is its own, and nothing is followed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring.release import Release
from margo_supplychain.errors import ApplicationFormatError
from tests.fixtures import copy_package

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pump(tmp_path: Path) -> Path:
    return copy_package("pump-monitor", tmp_path)


def build(package: Path, output: Path) -> Release:
    return Release.from_package(package, publisher="acme", output=output)


def precious(directory: Path) -> Path:
    """Make a file whose name looks like content, in a directory of somebody."""
    directory.mkdir(parents=True)
    path = directory / ("0" * 64)
    path.write_text("five years")
    return path


def test_blobs_of_somebody_are_refused(pump: Path, tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    kept = precious(dist / "blobs/sha256")
    with pytest.raises(ApplicationFormatError, match=r"holds the blob 0000.*release\."):
        build(pump, dist)
    assert kept.read_text() == "five years"
    other = precious(tmp_path / "other/blobs/photos")
    with pytest.raises(ApplicationFormatError, match="holds the blob 0000"):
        build(pump, tmp_path / "other")
    assert other.exists()


def test_content_of_a_repository_without_its_index_is_kept(
    pump: Path, tmp_path: Path
) -> None:
    build(pump, tmp_path / "dist")
    (tmp_path / "dist/release.json").unlink()
    (tmp_path / "dist/index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    kept = tmp_path / "dist/blobs/sha256" / ("0" * 64)
    kept.write_text("five years")
    with pytest.raises(ApplicationFormatError, match="holds the blob"):
        build(pump, tmp_path / "dist")
    assert kept.exists()


def test_blobs_of_somebody_beside_a_build_are_left_alone(
    pump: Path, tmp_path: Path
) -> None:
    dist = tmp_path / "dist"
    build(pump, dist)
    kept = dist / "blobs/sha256" / ("0" * 64)
    kept.write_text("five years")
    photo = precious(dist / "blobs/photos")
    (pump / "resources/more.txt").write_text("more")
    build(pump, dist)
    assert kept.exists()
    assert photo.exists()


@pytest.mark.parametrize("place", ["", "blobs", "blobs/sha256", "blobs/sha512"])
def test_links_are_not_followed(pump: Path, tmp_path: Path, place: str) -> None:
    dist, victim = tmp_path / "dist", tmp_path / "victim"
    build(pump, dist)
    link = dist / place if place else dist
    if link.exists():
        shutil.move(link, victim)
    else:
        victim.mkdir()
    kept = victim / "diary.txt"
    kept.write_text("precious")
    link.symlink_to(victim)
    before = sorted(victim.rglob("*"))
    (pump / "resources/more.txt").write_text("more")
    with pytest.raises(ApplicationFormatError, match="is a symbolic link"):
        build(pump, dist)
    assert kept.read_text() == "precious"
    assert sorted(victim.rglob("*")) == before


def test_a_file_in_place_of_the_blobs(pump: Path, tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/blobs").write_text("")
    with pytest.raises(ApplicationFormatError, match="blobs is not a directory"):
        build(pump, tmp_path / "dist")


def test_what_a_damaged_manifest_named_stays(pump: Path, tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    (pump / "resources/more.txt").write_text("more")
    former = build(pump, dist)
    (dist / "blobs/sha256" / former.artifact.digest.hex).write_bytes(b"damaged")
    (pump / "resources/more.txt").unlink()
    now = build(pump, dist)
    kept = {path.name for path in (dist / "blobs/sha256").iterdir()}
    assert former.artifact.digest.hex not in kept
    assert now.artifact.digest.hex in kept
    assert Release.from_build(dist).artifact == now.artifact
