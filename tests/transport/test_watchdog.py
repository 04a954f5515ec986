"""What OpenSSL does not come back from."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import TooSlowError
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.transport import watchdog
from margo_supplychain.transport.broken import BrokenError
from margo_supplychain.transport.http import HttpSource
from margo_supplychain.transport.network import Network
from margo_supplychain.transport.watchdog import Watched
from tests.registries.certificates import Authority
from tests.transport.tickets import TicketFlood

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHAT = Descriptor.of(bytes(10_000), "application/octet-stream")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_LOOK", 0.02)


def test_tickets_without_end(tmp_path: Path) -> None:
    """At the usual pace: no time-out of a socket would ever end this."""
    authority = Authority(tmp_path)
    with TicketFlood(authority, tmp_path) as flood:
        network = Network(ca_file=authority.file, tries=1)
        source = HttpSource.of(flood.url, network=network)
        began = time.monotonic()
        with (
            pytest.raises(TooSlowError, match="what came was TLS's own"),
            source.blob(WHAT) as file,
        ):
            file.read()
        assert time.monotonic() - began < 4
        assert flood.poured > 1 << 16


def test_caller_is_asked_between_tries(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ends = time.monotonic() + 2

    def tick(_: int) -> None:
        if time.monotonic() > ends:
            raise KeyboardInterrupt

    with TicketFlood(authority, tmp_path) as flood:
        network = Network(ca_file=authority.file, tries=100, longest_delay=0)
        source = HttpSource.of(flood.url, network=network)
        with (
            pytest.raises(KeyboardInterrupt),
            source.blob(WHAT, tick=tick) as file,
        ):
            file.read()
        assert time.monotonic() < ends + 2


@pytest.mark.usefixtures("quick")
def test_call_that_does_not_come_back(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    wire, _ = pair
    with pytest.raises(BrokenError, match="TLS's own") as caught, Watched(wire):
        assert wire.recv(1) == b""
    assert caught.value.is_slow


@pytest.mark.usefixtures("quick")
def test_calls_that_come_back(pair: tuple[socket.socket, socket.socket]) -> None:
    """However many they are, and however long lies between them."""
    wire, other = pair
    watched = Watched(wire)
    for _ in range(20):
        time.sleep(0.02)
        other.send(b"x")
        with watched:
            assert wire.recv(1) == b"x"


@pytest.mark.usefixtures("quick")
def test_other_errors_of_a_cut_call_stay(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    wire, _ = pair

    def interrupted() -> None:
        with Watched(wire):
            wire.recv(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def awake() -> int:
    return sum(one.name == "tls-watchdog" for one in threading.enumerate())


@pytest.mark.usefixtures("quick")
def test_nobody_looks_on_when_nothing_is_read(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "_LOOKS_TO_STAY", 2)
    while awake():
        time.sleep(0.02)
    for _ in range(2):
        with Watched(pair[0]):
            assert awake() == 1
        ends = time.monotonic() + 5
        while awake() and time.monotonic() < ends:
            time.sleep(0.02)
        assert awake() == 0


@pytest.mark.usefixtures("quick")
def test_forked_process_has_its_own(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    with Watched(pair[1]):
        child = os.fork()
        if not child:
            status = 1
            try:
                with Watched(pair[0]):
                    pair[0].recv(1)
            except BrokenError:
                status = 0
            finally:
                os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
