from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from margo_supplychain.errors import StorageError
from margo_supplychain.storage import durable
from margo_supplychain.storage.lock import DirectoryLock
from margo_supplychain.storage.operations import Operations


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first = DirectoryLock(tmp_path, timeout=0)
    with first:
        for timeout in (0, 0.01):
            with (
                pytest.raises(StorageError, match="is locked by another") as caught,
                DirectoryLock(tmp_path, timeout=timeout),
            ):
                pass
            assert caught.value.path == str(tmp_path)
        with pytest.raises(StorageError), first:  # not re-entrant
            pass
    with first, pytest.raises(StorageError), DirectoryLock(tmp_path, timeout=0):
        pass
    with DirectoryLock(tmp_path, timeout=0):
        pass


def test_released_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="work"), DirectoryLock(tmp_path, timeout=0):
        raise ValueError("work")
    with DirectoryLock(tmp_path, timeout=0):
        pass


@pytest.mark.parametrize("shared", [True, False])
def test_threads_take_turns(tmp_path: Path, shared: bool) -> None:
    one = DirectoryLock(tmp_path, timeout=30)
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            with one if shared else DirectoryLock(tmp_path, timeout=30):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80


def test_waits_for_the_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Semaphore(0)

    class Asking(Operations):
        def open_lock(self, path: Path, mode: int) -> int:
            asked.release()
            return super().open_lock(path, mode)

    order = []

    def wait() -> None:
        with DirectoryLock(tmp_path, timeout=30):
            order.append("waiter")

    with DirectoryLock(tmp_path, timeout=0):
        monkeypatch.setattr(durable, "operations", Asking())
        thread = threading.Thread(target=wait)
        thread.start()
        for _ in range(3):  # it asked, was refused, and asked again
            asked.acquire()
        order.append("holder")
    thread.join()
    assert order == ["holder", "waiter"]


def test_killed_holder_locks_nobody_out(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        DirectoryLock(tmp_path, timeout=0).__enter__()
        os.write(writer, b"held")
        os._exit(9)
    assert os.read(reader, 4) == b"held"
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    with DirectoryLock(tmp_path, timeout=0):
        pass


@pytest.mark.parametrize("replaced", [True, False])
def test_lock_file_taken_away_while_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """A lock on a file that is no longer there protects nothing."""
    times: list[int] = []

    class Removing(Operations):
        def open_lock(self, path: Path, mode: int) -> int:
            descriptor = super().open_lock(path, mode)
            if not times:
                path.unlink()
                if replaced:
                    path.touch()
            times.append(descriptor)
            return descriptor

    monkeypatch.setattr(durable, "operations", Removing())
    with DirectoryLock(tmp_path, timeout=30):
        assert len(times) == 2
        with pytest.raises(StorageError), DirectoryLock(tmp_path, timeout=0):
            pass


def test_directory_that_can_not_be_locked(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    with (
        pytest.raises(StorageError, match="can't lock"),
        DirectoryLock(absent, timeout=0),
    ):
        pass
    (tmp_path / ".lock").symlink_to("elsewhere")
    with (
        pytest.raises(StorageError, match=r"can't lock .*symbolic links"),
        DirectoryLock(tmp_path, timeout=0),
    ):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_flock_that_fails_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(37, "no locks available")

    monkeypatch.setattr("fcntl.flock", fail)
    before = open_files()
    with (
        pytest.raises(StorageError, match="no locks available"),
        DirectoryLock(tmp_path, timeout=0),
    ):
        pass
    assert open_files() == before
