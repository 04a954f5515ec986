from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from typing import TYPE_CHECKING, Any, cast

import pytest

from margo_supplychain.errors import ConflictError, StorageError
from margo_supplychain.storage import durable
from margo_supplychain.storage.durable import (
    clean_temporary,
    make_directory,
    open_regular,
    read_file,
    remove_directory,
    remove_file,
    write_file,
    write_new_file,
)
from margo_supplychain.storage.operations import Operations
from tests.faults.crash import Crash, Loss, crash_points

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def names(directory: Path) -> list[str]:
    return sorted(one.name for one in directory.iterdir())


class Failing(Operations):
    """Fails one operation, as a full or broken disk does."""

    def __init__(self, operation: str, number: int) -> None:
        def fail(*_: Any) -> Any:
            raise OSError(number, os.strerror(number))

        setattr(self, operation, fail)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    def fail(operation: str, number: int) -> None:
        monkeypatch.setattr(durable, "operations", Failing(operation, number))

    return fail


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_write_and_replace(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    write_file(path, b"one")
    write_file(path, b"second")
    assert read_file(path, limit=6) == b"second"
    assert names(tmp_path) == ["memory"]


def test_longest_name_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    write_file(path, b"role")
    write_new_file(path, b"role")
    assert names(tmp_path) == [path.name]


def test_secret_mode_from_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Looking(Operations):
        def write(self, descriptor: int, data: memoryview) -> int:
            seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
            return super().write(descriptor, data)

    monkeypatch.setattr(durable, "operations", Looking())
    write_file(tmp_path / "key", b"secret", mode=0o600)
    write_new_file(tmp_path / "other", b"secret", mode=0o600)
    assert seen == [0o600, 0o600]
    assert mode_of(tmp_path / "key") == mode_of(tmp_path / "other") == 0o600


def test_symbolic_link_is_replaced_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"victim")
    (tmp_path / "link").symlink_to(victim)
    write_file(tmp_path / "link", b"new")
    assert victim.read_bytes() == b"victim"
    assert not (tmp_path / "link").is_symlink()


def test_directory_behind_a_link_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_file(tmp_path / "link" / "file", b"data")
    assert (tmp_path / "real" / "file").read_bytes() == b"data"


def test_write_new_file_once(tmp_path: Path) -> None:
    path = tmp_path / "1.root.json"
    write_new_file(path, b"root")
    write_new_file(path, b"root")
    for other in (b"toor", b"roo", b"root ", b""):
        with pytest.raises(ConflictError, match="exists with other bytes"):
            write_new_file(path, other)
    assert path.read_bytes() == b"root"
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("kind", ["link", "dangling", "directory", "pipe"])
def test_write_new_file_over_something_else(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "1.root.json"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "victim")
    if kind == "link":
        (tmp_path / "victim").write_bytes(b"root")
    with pytest.raises(ConflictError, match="is not a regular file"):
        write_new_file(path, b"root")


def test_write_new_file_loses_a_race(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer takes the name between the look and the link."""
    path = tmp_path / "1.root.json"

    class Racing(Operations):
        def link(self, source: Path, target: Path) -> None:
            target.write_bytes(b"theirs")
            super().link(source, target)

    monkeypatch.setattr(durable, "operations", Racing())
    with pytest.raises(ConflictError, match="exists with other bytes"):
        write_new_file(path, b"ours")
    assert path.read_bytes() == b"theirs"
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("race", [False, True])
def test_write_new_file_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, race: bool
) -> None:
    path = tmp_path / "1.root.json"

    class NoLinks(Operations):
        def link(self, source: Path, target: Path) -> None:
            if race:
                target.write_bytes(b"theirs")
            raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(durable, "operations", NoLinks())
    if race:
        with pytest.raises(ConflictError):
            write_new_file(path, b"root")
    else:
        write_new_file(path, b"root")
        assert path.read_bytes() == b"root"
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("operation", ["create", "write", "sync_file", "replace"])
def test_full_disk_keeps_the_old_file(
    tmp_path: Path, failing: Callable[[str, int], None], operation: str
) -> None:
    path = tmp_path / "memory"
    path.write_bytes(b"old")
    failing(operation, errno.ENOSPC)
    with pytest.raises(StorageError, match=r"can't write .*: No space left") as caught:
        write_file(path, b"new")
    assert caught.value.path == str(path)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["memory"]


def test_failing_link_is_an_error(
    tmp_path: Path, failing: Callable[[str, int], None]
) -> None:
    failing("link", errno.EIO)
    with pytest.raises(StorageError, match="can't write"):
        write_new_file(tmp_path / "file", b"new")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "passes"), [(errno.EINVAL, True), (errno.EIO, False)]
)
def test_directory_that_can_not_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, passes: bool
) -> None:
    original = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, "not here")
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    if passes:
        write_file(tmp_path / "file", b"data")
    else:
        with pytest.raises(StorageError, match="not here"):
            write_file(tmp_path / "file", b"data")


def test_read_limits(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_file(path, limit=5) == b"12345"
    with pytest.raises(StorageError, match="is larger than 4 bytes"):
        read_file(path, limit=4)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "absent", limit=5)
    with pytest.raises(StorageError, match="Not a directory"):
        read_file(path / "below", limit=5)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(StorageError, match="is not a regular file"):
            read_file(path, limit=5)
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "link").symlink_to("file")
    assert read_file(tmp_path / "link", limit=5) == b"data"
    with pytest.raises(StorageError, match="is a symbolic link"):
        open_regular(tmp_path / "link", follow=False)
    with pytest.raises(StorageError, match="is a symbolic link"):
        read_file(tmp_path / "link", limit=5, follow=False)
    # A link on the way is not what is asked for here.
    (tmp_path / "way").symlink_to(tmp_path)
    assert read_file(tmp_path / "way" / "file", limit=5, follow=False) == b"data"
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(StorageError, match="symbolic links"):
        open_regular(tmp_path / "circle" / "file", follow=False)


def test_a_file_that_makes_its_readers_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /proc/kmsg: regular by its type, and what comes of it is None."""

    class Waiting(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            del size
            return cast("bytes", None)

    monkeypatch.setattr(durable, "open_regular", lambda *_, **__: Waiting())
    with pytest.raises(StorageError, match="is not a regular file"):
        read_file(tmp_path / "file", limit=5)


def test_make_directory(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c"
    make_directory(path, mode=0o700)
    make_directory(path, mode=0o755)
    assert mode_of(path) == mode_of(path.parent) == 0o700


def test_make_directory_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="can't make"):
            make_directory(path)


def test_make_directory_loses_a_race(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Racing(Operations):
        def mkdir(self, path: Path, mode: int) -> None:
            path.mkdir()
            super().mkdir(path, mode)

    monkeypatch.setattr(durable, "operations", Racing())
    make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_make_directory_below_one_that_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent may be searchable and not readable, as /home often is."""

    class Unreadable(Operations):
        def sync_directory(self, path: Path) -> None:
            if path == tmp_path.parent:
                raise PermissionError(errno.EACCES, "not yours")
            super().sync_directory(path)

    monkeypatch.setattr(durable, "operations", Unreadable())
    make_directory(tmp_path / "a")
    assert (tmp_path / "a").is_dir()


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative = tmp_path.__class__("deep") / "er"
    make_directory(relative)
    write_file(relative / "file", b"data")
    write_file(tmp_path.__class__("file"), b"data")
    assert names(tmp_path) == ["deep", "file"]


def test_remove(tmp_path: Path, failing: Callable[[str, int], None]) -> None:
    (tmp_path / "file").write_bytes(b"")
    remove_file(tmp_path / "file")
    remove_file(tmp_path / "file")
    assert names(tmp_path) == []
    failing("unlink", errno.EROFS)
    with pytest.raises(StorageError, match=r"can't remove .*: Read-only"):
        remove_file(tmp_path / "file")


def test_clean_temporary_takes_only_its_own(tmp_path: Path) -> None:
    kept = [".lock", ".tmp-", ".tmp-0123456789abcdeF", "tmp-0123456789abcdef", "a"]
    for name in [*kept, ".tmp-0123456789abcdef"]:
        (tmp_path / name).write_bytes(b"")
    clean_temporary(tmp_path)
    assert names(tmp_path) == sorted(kept)
    with pytest.raises(StorageError, match="can't clean"):
        clean_temporary(tmp_path / "absent")


@pytest.mark.parametrize("writer", [write_file, write_new_file])
def test_nothing_is_lost_by_a_crash(
    tmp_path: Path, writer: Callable[[Path, bytes], None]
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    if writer is write_file:
        (state / "file").write_bytes(b"old")

    def action(directory: Path) -> None:
        writer(directory / "file", b"new bytes")

    def check(directory: Path, crash: Crash) -> None:
        path = directory / "file"
        found = path.read_bytes() if path.exists() else None
        before = b"old" if writer is write_file else None
        assert found in ({b"new bytes"} if crash.finished else {before, b"new bytes"})
        # Restarting finishes the work, and the next writer cleans up.
        writer(path, b"new bytes")
        clean_temporary(directory)
        assert names(directory) == ["file"]

    assert crash_points(state, action, check, scratch=tmp_path) >= 7


def test_killed_twice_then_the_power_fails(tmp_path: Path) -> None:
    """What a killed process made, its successor syncs before it relies on it."""
    first = tmp_path / "first"
    first.mkdir()

    def action(directory: Path) -> None:
        make_directory(directory / "a" / "b")
        write_new_file(directory / "a" / "b" / "file", b"data")

    def killed_before(number: int) -> Callable[[Path], None]:
        def twice(directory: Path) -> None:
            crashing: Any = durable.operations
            original = crashing._next
            seen = 0

            def stop(*what: object) -> None:
                nonlocal seen
                seen += 1
                if seen == number:
                    raise InterruptedError
                original(*what)

            crashing._next = stop
            with contextlib.suppress(StorageError):
                action(directory)
            crashing._next = original
            action(directory)

        return twice

    def check(directory: Path, crash: Crash) -> None:
        if crash.finished:
            assert (directory / "a" / "b" / "file").read_bytes() == b"data"

    for number in range(1, 14):
        crash_points(
            first,
            killed_before(number),
            check,
            scratch=tmp_path,
            losses=[Loss.UNSYNCED],
        )


def test_bytes_that_somebody_else_left_unsynced(tmp_path: Path) -> None:
    """The same bytes again are fine only once they would survive."""
    state = tmp_path / "state"
    state.mkdir()

    def action(directory: Path) -> None:
        left = durable.operations.create(directory / "file", 0o644)
        durable.write_all(left, b"data")
        os.close(left)
        write_new_file(directory / "file", b"data")

    def check(directory: Path, crash: Crash) -> None:
        if crash.finished:
            assert (directory / "file").read_bytes() == b"data"

    crash_points(state, action, check, scratch=tmp_path)


def test_removal_is_for_good(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "file").write_bytes(b"old")

    def check(directory: Path, crash: Crash) -> None:
        assert names(directory) in ([[]] if crash.finished else [[], ["file"]])

    crash_points(state, lambda d: remove_file(d / "file"), check, scratch=tmp_path)


# --- removing a directory ------------------------------------------------------------


def test_remove_directory(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"")
    directory = tmp_path / "a"
    (directory / "b" / "c").mkdir(parents=True)
    (directory / "b" / "file").write_bytes(b"x")
    (directory / "link").symlink_to(outside)
    (directory / "b" / "broken").symlink_to("nowhere")
    remove_directory(directory)
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert (outside / "kept").exists()
    remove_directory(directory)


def test_remove_what_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to("kept")
    with pytest.raises(StorageError, match=r"can't remove .*Not a directory"):
        remove_directory(tmp_path / "file")
    with pytest.raises(StorageError, match="is a symbolic link"):
        remove_directory(tmp_path / "link")
    assert (tmp_path / "kept").exists()


def test_a_crash_while_removing_leaves_less(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "a" / "b").mkdir(parents=True)
    (state / "a" / "b" / "file").write_bytes(b"x")

    def action(directory: Path) -> None:
        remove_directory(directory / "a")

    def check(directory: Path, crash: Crash) -> None:
        assert not (crash.finished and (directory / "a").exists())
        action(directory)
        assert list(directory.iterdir()) == []

    assert crash_points(state, action, check, scratch=tmp_path) == 4
