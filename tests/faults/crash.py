"""Stops a process before each of its writes, and looks at what is left.

Every write of the package goes through `storage.durable.operations`. Here it is
replaced by an object that counts, hard-exits before number n, and, to play a power
failure, first takes back whatever was not synced by then. `crash_points` does that for
every n:

    def test_write(tmp_path: Path) -> None:
        state = tmp_path / "state"
        state.mkdir()
        (state / "memory").write_bytes(b"old")

        def action(directory: Path) -> None:
            write_file(directory / "memory", b"new")

        def check(directory: Path, crash: Crash) -> None:
            found = (directory / "memory").read_bytes()
            assert found in ({b"new"} if crash.finished else {b"old", b"new"})

        crash_points(state, action, check, scratch=tmp_path)

`action` runs in a forked child on a fresh copy of `state`; `check` runs in the parent,
may restart the action there, and must hold for whatever it finds. Syncs are recorded,
not done: hundreds of forks take seconds. A write in `state` that does not go through
`operations` fails the test.
"""

from __future__ import annotations

import enum
import os
import shutil
import sys
import traceback
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Never

from margo_supplychain.storage import durable
from margo_supplychain.storage.operations import Operations

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

CRASHED: Final = 70
FINISHED: Final = 71
FAILED: Final = 72
MOST: Final = 5000
_WRITING_FLAGS: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_WRITING_EVENTS: Final = frozenset(
    {
        "open",
        "os.chmod",
        "os.link",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.symlink",
        "os.truncate",
    }
)


class Loss(enum.Enum):
    """What disappears together with the process."""

    NOTHING = "the process was killed"
    UNSYNCED = "the power failed, nothing unsynced was kept"
    # What a journalling file system does: names are kept, bytes written late.
    BYTES = "the power failed, names were kept, unsynced bytes were not"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """Where the process ended.

    Args:
        at: the number of the operation that it did not do any more.
        operation: that operation's method and paths; empty after the last.
        finished: the action had returned, so its effect must be there.
        loss: what disappeared.
    """

    at: int
    operation: str
    finished: bool
    loss: Loss

    def __str__(self) -> str:
        where = "after the last write" if self.finished else f"before {self.operation}"
        return f"{self.loss.value}, at {self.at}, {where}"


class CrashingOperations(Operations):
    """Exits before operation `at`, after the losses of `loss`.

    Args:
        at: counts from 1.
        loss: what to take back.
        attic: a directory on the same file system for what may have to come back.
        report: told the operation that is not done.
    """

    def __init__(
        self,
        at: int,
        *,
        loss: Loss = Loss.NOTHING,
        attic: Path,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.count = 0
        self._at = at
        self._loss = loss
        self._attic = attic
        self._report = report
        # By directory: what would restore its synced names, newest last.
        self._undo: list[tuple[Path, Callable[[], None]]] = []
        # By (device, inode), as names move: a descriptor and the bytes synced.
        self._files: dict[tuple[int, int], tuple[int, int]] = {}

    def _next(self, *what: object) -> None:
        self.count += 1
        if self.count == self._at:
            self._report(" ".join(str(one) for one in what))
            self.lose()
            os._exit(CRASHED)

    def lose(self) -> None:
        """Take back what was not synced."""
        if self._loss is Loss.NOTHING:
            return
        for descriptor, synced in self._files.values():
            os.ftruncate(descriptor, synced)
        if self._loss is Loss.UNSYNCED:
            for directory, undo in reversed(self._undo):
                # What was in a directory is gone with it, once that is synced.
                if directory.exists():
                    undo()

    def _keep(self, path: Path) -> Path | None:
        # A second name outside the state, under which a lost one is found again.
        if not os.path.lexists(path):
            return None
        kept = self._attic / str(self.count)
        os.link(path, kept, follow_symlinks=False)
        return kept

    def _on_undo(self, directory: Path, undo: Callable[[], None]) -> None:
        self._undo.append((directory, undo))

    def mkdir(self, path: Path, mode: int) -> None:
        self._next("mkdir", path)
        super().mkdir(path, mode)
        self._on_undo(path.parent, lambda: shutil.rmtree(path))

    def create(self, path: Path, mode: int) -> int:
        self._next("create", path)
        descriptor = super().create(path, mode)
        self._created(path, descriptor)
        return descriptor

    def reopen(self, path: Path) -> int:
        self._next("reopen", path)
        descriptor = super().reopen(path)
        found = os.fstat(descriptor)
        key = found.st_dev, found.st_ino
        # Nothing says that what is there was ever synced.
        self._files.setdefault(key, (os.dup(descriptor), 0))
        return descriptor

    def open_lock(self, path: Path, mode: int) -> int:
        self._next("open_lock", path)
        is_new = not path.exists()
        descriptor = super().open_lock(path, mode)
        if is_new:
            self._on_undo(path.parent, lambda: path.unlink(missing_ok=True))
        return descriptor

    def _created(self, path: Path, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self._files[found.st_dev, found.st_ino] = (os.dup(descriptor), 0)
        self._on_undo(path.parent, lambda: path.unlink(missing_ok=True))

    def write(self, descriptor: int, data: memoryview) -> int:
        self._next("write", len(data), "bytes")
        # A torn file is a state of its own: half now, the rest as another operation.
        found = os.fstat(descriptor)
        if found.st_size == 0:
            data = data[: len(data) // 2 or 1]
        return super().write(descriptor, data)

    def sync_file(self, descriptor: int) -> None:
        self._next("sync_file")
        found = os.fstat(descriptor)
        key = found.st_dev, found.st_ino
        if key in self._files:
            self._files[key] = (self._files[key][0], found.st_size)

    def replace(self, source: Path, target: Path) -> None:
        self._next("replace", source, target)
        kept = self._keep(target)
        super().replace(source, target)

        def undo() -> None:
            target.rename(source)
            if kept is not None:
                kept.rename(target)

        self._on_undo(target.parent, undo)

    def link(self, source: Path, target: Path) -> None:
        self._next("link", source, target)
        super().link(source, target)
        self._on_undo(target.parent, target.unlink)

    def unlink(self, path: Path) -> None:
        self._next("unlink", path)
        kept = self._keep(path)
        super().unlink(path)
        if kept is not None:
            self._on_undo(path.parent, lambda: _restore(kept, path))

    def rmdir(self, path: Path) -> None:
        self._next("rmdir", path)
        super().rmdir(path)
        self._on_undo(path.parent, path.mkdir)

    def sync_directory(self, path: Path) -> None:
        self._next("sync_directory", path)
        self._undo = [one for one in self._undo if one[0] != path]


def _restore(kept: Path, path: Path) -> None:
    kept.rename(path)


def crash_points(
    state: Path,
    action: Callable[[Path], object],
    check: Callable[[Path, Crash], object],
    *,
    scratch: Path,
    losses: Sequence[Loss] = tuple(Loss),
) -> int:
    """Crash `action` before each of its writes and after the last; `check` each time.

    Args:
        state: the directory to start from; it is copied and never changed.
        action: what to do in the copy; must not raise when nothing crashes.
        check: looks at the copy afterwards; an `AssertionError` is the finding.
        scratch: where copies go, removed when they passed.
        losses: the kinds of crash to play.

    Returns:
        The number of writes that `action` makes.

    Raises:
        AssertionError: from `check`, with a note that says where it crashed, or when
            `action` failed by itself.
    """
    total = 0
    for loss in losses:
        for at in range(1, MOST):
            copy = scratch / f"crash-{loss.name.lower()}-{at}"
            crash = _crash(state, copy, action, at, loss)
            try:
                check(copy, crash)
            except BaseException as why:
                why.add_note(f"{crash}\nleft in {copy}")
                raise
            shutil.rmtree(copy)
            total = at - 1
            if crash.finished:
                break
        else:
            raise AssertionError(f"more than {MOST} writes: is there a loop?")
    return total


def _crash(
    state: Path, copy: Path, action: Callable[[Path], object], at: int, loss: Loss
) -> Crash:
    attic = copy.with_name(copy.name + ".attic")
    shutil.copytree(state, copy, symlinks=True)
    attic.mkdir()
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # The child of a process with threads (pytest-xdist) does as little as it can.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _in_child(copy, attic, action, at, loss, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    shutil.rmtree(attic)
    if code not in {CRASHED, FINISHED}:
        raise AssertionError(f"the action failed by itself, at {at}: {text or code}")
    return Crash(at=at, operation=text, finished=code == FINISHED, loss=loss)


def _in_child(
    copy: Path,
    attic: Path,
    action: Callable[[Path], object],
    at: int,
    loss: Loss,
    writer: int,
) -> Never:
    def report(text: str) -> None:
        os.write(writer, text.encode())

    crashing = CrashingOperations(at, loss=loss, attic=attic, report=report)
    holder: Any = durable
    holder.operations = crashing
    sys.addaudithook(_watch(str(copy), crashing))
    try:
        action(copy)
        crashing.lose()
    except BaseException:  # noqa: BLE001 (a child must never return into pytest)
        report(traceback.format_exc())
        os._exit(FAILED)
    os._exit(FINISHED)


def _watch(
    directory: str, crashing: CrashingOperations
) -> Callable[[str, tuple[Any, ...]], None]:
    """Return an audit hook that refuses writes which `crashing` does not see."""

    def hook(event: str, details: tuple[Any, ...]) -> None:
        if event not in _WRITING_EVENTS or not any(
            str(one).startswith(directory) for one in details[:2]
        ):
            return
        if event == "open" and not details[2] & _WRITING_FLAGS:
            return
        frame = sys._getframe()
        while frame is not None:
            if frame.f_locals.get("self") is crashing:
                return
            frame = frame.f_back  # type: ignore[assignment]  # ends in None
        raise AssertionError(f"{event} of {details[0]} does not go through operations")

    return hook
