"""A build that is killed at any write, with and without power, can be run again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.authoring.release import Release
from margo_supplychain.errors import FormatError, StorageError
from margo_supplychain.formats.versions import Version
from tests.faults.crash import Crash, crash_points
from tests.fixtures import copy_package

if TYPE_CHECKING:
    from pathlib import Path


def files_below(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def build(package: Path, output: Path) -> Release:
    return Release.from_package(
        package, publisher="acme", output=output, version=Version.parse("1.0.0")
    )


def test_killed_build_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    package = copy_package("door-sensor", tmp_path)
    state = tmp_path / "state"
    state.mkdir()
    fresh = build(package, tmp_path / "fresh")

    def check(directory: Path, crash: Crash) -> None:
        try:
            found = Release.from_build(directory / "dist")
        except (FormatError, StorageError):
            assert not crash.finished
        else:
            assert found.artifact == fresh.artifact
        build(package, directory / "dist")
        assert files_below(directory / "dist") == files_below(tmp_path / "fresh")

    def action(directory: Path) -> None:
        build(package, directory / "dist")

    assert crash_points(state, action, check, scratch=tmp_path) > 10


def test_killed_rebuild_keeps_the_former_build_or_has_the_new_one(
    tmp_path: Path,
) -> None:
    package = copy_package("door-sensor", tmp_path)
    state = tmp_path / "state"
    state.mkdir()
    old = build(package, state / "dist")
    (package / "resources").mkdir()
    (package / "resources/note.txt").write_text("new")
    new = build(package, tmp_path / "fresh")
    assert old.artifact != new.artifact

    def check(directory: Path, crash: Crash) -> None:
        found = Release.from_build(directory / "dist")
        expected = {new.artifact} if crash.finished else {old.artifact, new.artifact}
        assert found.artifact in expected
        build(package, directory / "dist")
        assert files_below(directory / "dist") == files_below(tmp_path / "fresh")

    def action(directory: Path) -> None:
        build(package, directory / "dist")

    assert crash_points(state, action, check, scratch=tmp_path) > 10
