"""The harness finds what it is for: writers that forget a sync or a rename."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.storage import durable
from tests.faults.crash import Crash, Loss, crash_points

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OLD, NEW = b"the old bytes", b"the new and longer bytes"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    directory.mkdir()
    (directory / "memory").write_bytes(OLD)
    return directory


def old_or_new(directory: Path, crash: Crash) -> None:
    found = (directory / "memory").read_bytes()
    assert found in ({NEW} if crash.finished else {OLD, NEW})


def sloppy(
    *, temporary: bool = True, sync_file: bool = True, sync_directory: bool = True
) -> Callable[[Path], None]:
    def action(directory: Path) -> None:
        path = directory / "memory"
        if not temporary:
            durable.operations.unlink(path)
        name = directory / "other" if temporary else path
        descriptor = durable.operations.create(name, 0o644)
        durable.write_all(descriptor, NEW)
        if sync_file:
            durable.operations.sync_file(descriptor)
        os.close(descriptor)
        if temporary:
            durable.operations.replace(name, path)
        if sync_directory:
            durable.operations.sync_directory(directory)

    return action


def test_careful_writer_passes(tmp_path: Path, state: Path) -> None:
    writes = crash_points(state, sloppy(), old_or_new, scratch=tmp_path)
    assert writes == 6  # create, two halves, sync, replace, sync
    assert (state / "memory").read_bytes() == OLD
    assert [one.name for one in tmp_path.iterdir()] == ["state"]


def test_missing_file_sync_is_found(tmp_path: Path, state: Path) -> None:
    action = sloppy(sync_file=False)
    crash_points(state, action, old_or_new, scratch=tmp_path, losses=[Loss.NOTHING])
    for loss in (Loss.UNSYNCED, Loss.BYTES):
        with pytest.raises(AssertionError, match="b''") as caught:
            crash_points(state, action, old_or_new, scratch=tmp_path, losses=[loss])
        assert loss.value in caught.value.__notes__[0]


def test_rename_before_sync_is_found(tmp_path: Path, state: Path) -> None:
    """The name is synced before the bytes: only the order is wrong."""

    def action(directory: Path) -> None:
        descriptor = durable.operations.create(directory / "other", 0o644)
        durable.write_all(descriptor, NEW)
        durable.operations.replace(directory / "other", directory / "memory")
        durable.operations.sync_file(descriptor)
        durable.operations.sync_directory(directory)
        os.close(descriptor)

    with pytest.raises(AssertionError, match="b''") as caught:
        crash_points(state, action, old_or_new, scratch=tmp_path)
    assert "before sync_file" in caught.value.__notes__[0]


def test_missing_directory_sync_is_found(tmp_path: Path, state: Path) -> None:
    action = sloppy(sync_directory=False)
    with pytest.raises(AssertionError, match="the old bytes") as caught:
        crash_points(state, action, old_or_new, scratch=tmp_path)
    assert "after the last write" in caught.value.__notes__[0]


def test_writing_in_place_is_found(tmp_path: Path, state: Path) -> None:
    with pytest.raises(FileNotFoundError):
        crash_points(state, sloppy(temporary=False), old_or_new, scratch=tmp_path)


def test_missing_sync_of_a_new_directory_is_found(tmp_path: Path, state: Path) -> None:
    def action(directory: Path) -> None:
        durable.operations.mkdir(directory / "new", 0o755)
        durable.write_file(directory / "new" / "file", NEW)

    def check(directory: Path, crash: Crash) -> None:
        if crash.finished:
            assert (directory / "new" / "file").exists()

    with pytest.raises(AssertionError, match="exists") as caught:
        crash_points(state, action, check, scratch=tmp_path)
    assert Loss.UNSYNCED.value in caught.value.__notes__[0]


def test_writes_behind_its_back_are_found(tmp_path: Path, state: Path) -> None:
    def action(directory: Path) -> None:
        (directory / "memory").write_bytes(NEW)

    with pytest.raises(AssertionError, match=r"open of .* does not go through"):
        crash_points(state, action, old_or_new, scratch=tmp_path)


def test_failing_action_is_told(tmp_path: Path, state: Path) -> None:
    def action(directory: Path) -> None:
        raise ValueError("of its own accord")

    with pytest.raises(AssertionError, match="of its own accord"):
        crash_points(state, action, old_or_new, scratch=tmp_path)


def test_removals_and_links_come_back(tmp_path: Path, state: Path) -> None:
    def action(directory: Path) -> None:
        durable.operations.link(directory / "memory", directory / "second")
        durable.operations.unlink(directory / "memory")

    def check(directory: Path, crash: Crash) -> None:
        names = {one.name: one.read_bytes() for one in directory.iterdir()}
        if crash.loss is Loss.UNSYNCED:
            assert names == {"memory": OLD}
        elif crash.finished:
            assert names == {"second": OLD}

    assert crash_points(state, action, check, scratch=tmp_path) == 2
