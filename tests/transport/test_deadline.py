"""A device's own deadline and wish to stop hold against a server that only waits."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import BudgetError, CancelledError
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.transport import attempts
from margo_supplychain.transport.http import HttpSource
from margo_supplychain.transport.opening import FixedContent
from margo_supplychain.verify.limits import Control
from margo_supplychain.verify.policy import Policy
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.transport.liar import Liar, serve
from tests.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.transport.liar import Conversation
    from tests.world import Device

NAME = ReleaseName.parse("acme/pump-monitor")
ANY = Pin.parse_argument("*")
LONG = 30.0  # seconds; far below what the source itself would bear


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(attempts, "_LOOK", 0.02)


@pytest.fixture
def world() -> World:
    world = World()
    world.release("1.0.0")
    world.publish()
    return world


@pytest.fixture
def liar(world: World) -> Iterator[Liar]:
    with Liar() as server:
        serve(server, world.files)
        yield server


def one_byte(talk: Conversation) -> None:
    talk.say(200, b" ", Content_Length="20")
    talk.keep_waiting()


def verifier(device: Device, liar: Liar) -> Verifier:
    source = HttpSource.of(liar.url)
    return Verifier(
        store=TrustStore.open(device.state),
        source=source,
        content=FixedContent([source]),
        policy=Policy.from_toml(device.policy),
        clock=device.clock,
    )


def verify_and_fetch(device: Verifier, to: Path) -> None:
    control = Control(deadline=timedelta(seconds=0.5))
    release = device.verify(NAME, ANY, control=control)
    device.fetch(release, to=to, control=control)


def slow_paths(liar: Liar) -> list[str]:
    """One file of each kind: metadata, a record, a manifest."""
    record = next(path for path in liar.answers if ".1.0.0" in path)
    blobs = [path for path in liar.answers if path.startswith("/blobs/")]
    return ["/metadata/2.root.json", "/metadata/timestamp.json", record, *blobs]


def test_honest_server(world: World, liar: Liar, tmp_path: Path) -> None:
    device = world.device(tmp_path / "device")
    found = verifier(device, liar).verify(NAME, ANY)
    assert str(found.version) == "1.0.0"


def test_deadline_holds_for_each_file(world: World, liar: Liar, tmp_path: Path) -> None:
    for number, path in enumerate(slow_paths(liar)):
        serve(liar, world.files)
        liar.answers_with(path, one_byte)
        device = verifier(world.device(tmp_path / str(number)), liar)
        began = time.monotonic()
        with pytest.raises(BudgetError, match=r"took longer than its 0:00:00\.5"):
            verify_and_fetch(device, tmp_path / f"to-{number}")
        assert time.monotonic() - began < LONG
        del liar.answers[path]


def test_cancelled_while_nothing_comes(
    world: World, liar: Liar, tmp_path: Path
) -> None:
    asked = threading.Event()

    def silent(talk: Conversation) -> None:
        asked.set()
        talk.keep_waiting()

    liar.answers_with("/metadata/2.root.json", silent)
    device = world.device(tmp_path / "device")
    began = time.monotonic()
    with pytest.raises(CancelledError, match="the caller cancelled"):
        verifier(device, liar).verify(
            NAME, ANY, control=Control(cancelled=asked.is_set)
        )
    assert time.monotonic() - began < LONG
