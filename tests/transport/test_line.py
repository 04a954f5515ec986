"""A thread whose calls end when their owner has waited enough."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import NoReturn

import pytest

from margo_supplychain.transport import line as line_module
from margo_supplychain.transport.line import Line


class EnoughError(Exception):
    """What an impatient owner raises."""


def patient() -> float:
    return 1.0


def impatient() -> NoReturn:
    raise EnoughError


def test_calls_come_back() -> None:
    line = Line()
    assert line.call(lambda: "first", look=patient) == "first"
    with pytest.raises(ZeroDivisionError):
        line.call(lambda: 1 // 0, look=patient)
    assert line.call(lambda: "second", look=patient) == "second"
    line.end()
    assert not line.is_stuck


def test_looks_away_as_long_as_it_is_told() -> None:
    looks: list[float] = []
    go = threading.Event()

    def look() -> float:
        looks.append(0)
        if len(looks) == 3:
            go.set()
        return -1.0 if len(looks) == 1 else 0.01

    line = Line()
    assert line.call(lambda: go.wait(10), look=look)
    line.end()
    assert len(looks) >= 3


def test_reading_is_cut() -> None:
    """A reader that waits for bytes wakes up and leaves; nothing is left behind."""
    ours, theirs = socket.socketpair()
    line = Line()

    def read() -> bytes:
        line.hold(ours)
        return ours.recv(1)

    with ours, theirs:
        begun = threading.active_count()
        held = iter([0.05])
        dropped: list[bytes] = []
        with pytest.raises(StopIteration):
            line.call(read, look=lambda: next(held), drop=dropped.append)
        assert not line.is_stuck
        assert dropped == [b""]
        assert threading.active_count() < begun


def test_what_comes_too_late_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "_TO_LEAVE", 0.05)
    go, gone = threading.Event(), threading.Event()
    dropped: list[str] = []

    def drop(what: str) -> None:
        dropped.append(what)
        gone.set()

    def late() -> str:
        go.wait(10)
        return "late"

    line = Line()
    with pytest.raises(EnoughError):
        line.call(late, look=impatient, drop=drop)
    assert line.is_stuck
    assert dropped == []
    go.set()
    assert gone.wait(10)
    assert dropped == ["late"]


@pytest.mark.parametrize("fails", [False, True])
def test_what_came_at_the_last_moment_is_dropped(*, fails: bool) -> None:
    """The job was done, and nobody had taken what it gave."""
    dropped: list[str] = []

    def job() -> str:
        if fails:
            raise ValueError
        return "here"

    def slow_to_lose_patience() -> float:
        time.sleep(0.1)
        raise EnoughError

    line = Line()
    with pytest.raises(EnoughError):
        line.call(job, look=slow_to_lose_patience, drop=dropped.append)
    assert dropped == ([] if fails else ["here"])


def test_socket_that_opens_after_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "_TO_LEAVE", 0.05)
    ours, theirs = socket.socketpair()
    go, gone = threading.Event(), threading.Event()
    line = Line()

    def connect() -> None:
        go.wait(10)
        line.hold(ours)
        gone.set()

    with ours, theirs:
        with pytest.raises(EnoughError):
            line.call(connect, look=impatient)
        go.set()
        assert gone.wait(10)
        assert theirs.recv(1) == b""


# --- one thread after the other ------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread of another test waits."""
    monkeypatch.setattr(line_module, "_idle", [])


def thread_of(line: Line) -> int:
    return line.call(threading.get_ident, look=patient)


@pytest.mark.usefixtures("fresh")
def test_thread_serves_the_next_line() -> None:
    seen = set()
    for _ in range(20):
        line = Line()
        seen.add(thread_of(line))
        line.end()
    assert len(seen) == 1
    first, second = Line(), Line()
    assert thread_of(first) != thread_of(second)
    first.end()
    second.end()


@pytest.mark.usefixtures("fresh")
def test_socket_of_the_last_line_is_not_cut() -> None:
    """The connection may serve somebody else by now."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = Line()
        line.call(lambda: line.hold(ours), look=patient)
        line.end()
        line.end()  # once more does no harm
        line = Line()
        with pytest.raises(EnoughError):
            line.call(lambda: time.sleep(0.05), look=impatient)
        theirs.sendall(b"still there")
        assert ours.recv(20) == b"still there"


@pytest.mark.usefixtures("fresh")
def test_thread_that_was_cut_serves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "_TO_LEAVE", 0.01)
    go = threading.Event()
    line = Line()
    cut = thread_of(line)
    with pytest.raises(EnoughError):
        line.call(lambda: go.wait(10), look=impatient)
    line.end()
    assert line.is_stuck
    with pytest.raises(RuntimeError, match="called after the end"):
        line.call(lambda: None, look=patient)
    after = Line()
    assert thread_of(after) != cut
    after.end()
    go.set()


@pytest.mark.usefixtures("fresh")
def test_threads_leave_when_nobody_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "_TO_STAY", 0.02)
    before = threading.active_count()
    lines = [Line() for _ in range(line_module._MOST_IDLE + 3)]
    for line in lines:
        thread_of(line)
    time.sleep(0.1)
    # A line may be silent for longer, and is still served.
    assert len({thread_of(line) for line in lines}) == len(lines)
    for line in lines:
        line.end()
    ends = time.monotonic() + 10
    # Threads of earlier tests may leave meanwhile, so the count alone says nothing.
    while (
        threading.active_count() > before or line_module._idle
    ) and time.monotonic() < ends:
        time.sleep(0.01)
    assert threading.active_count() <= before
    assert line_module._idle == []


@pytest.mark.usefixtures("fresh")
def test_no_more_threads_wait_than_are_of_use() -> None:
    lines = [Line() for _ in range(line_module._MOST_IDLE + 3)]
    for line in lines:
        line.end()
    assert len(line_module._idle) == line_module._MOST_IDLE


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside threads
@pytest.mark.usefixtures("fresh")
def test_forked_process_has_threads_of_its_own() -> None:
    line = Line()
    thread_of(line)
    line.end()
    child = os.fork()
    if child == 0:
        try:
            line = Line()
            os._exit(0 if line.call(lambda: 7, look=patient) == 7 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
