"""T-80, T-81: who is asked first keeps others from giving what is right."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, BinaryIO

import pytest

from margo_supplychain.errors import BudgetError, FetchError
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.verify.limits import Control
from tests.attacks.packages import artifact
from tests.attacks.standing import offered, refused, require_true_names
from tests.attacks.test_broken_downloads import MIB, with_layers
from tests.world import Device, MemorySource, World
from tests.world.repository import WASM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor

WINDOW = 5 * MIB  # that the honest place's line bears before it breaks
LARGE = 12 * MIB


class Place(MemorySource):
    """Gives of one blob so much in a run, true or not, and everything else."""

    def __init__(self, url: str, device: Device, what: Descriptor) -> None:
        super().__init__(device.source.files.copy())
        self.url = url
        self.what = what
        self.most = LARGE
        self.given = 0

    @contextmanager
    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        with super().blob(what, start=start, tick=tick) as stream:
            if what == self.what:
                yield Breaking(self, stream)  # type: ignore[misc]  # as much as is read
            else:
                yield stream


class Breaking:
    """What comes through before the line breaks."""

    def __init__(self, place: Place, stream: BinaryIO) -> None:
        self._place, self._stream = place, stream
        self._left = place.most

    def read(self, size: int) -> bytes:
        if not self._left:
            raise FetchError("it broke off", url=self._place.url)
        piece = self._stream.read(min(size, self._left))
        self._left -= len(piece)
        self._place.given += len(piece)
        return piece


def two_places(tmp_path: Path) -> tuple[Device, Place, Place]:
    """A device, a liar, and an honest place behind a line that breaks."""
    device, (what,) = with_layers(tmp_path, os.urandom(LARGE))
    liar, honest = Place("liar:", device, what), Place("honest:", device, what)
    liar.files.blobs[str(what.digest)] = b"X" * LARGE
    honest.most = WINDOW
    device.contents = [liar, honest]
    return device, liar, honest


@pytest.mark.parametrize("way", ["to the end", "breaks off", "breaks off at the end"])
def test_a_liar_that_is_asked_first(tmp_path: Path, way: str) -> None:
    """Whatever it sends before others, run after run: what they gave stays."""
    device, liar, honest = two_places(tmp_path)
    liar.most = {"to the end": LARGE, "breaks off": 2 * MIB}.get(way, LARGE - 1)
    for _ in range(5):
        before = offered(device)
        try:
            device.fetch()
        except FetchError:
            assert offered(device) == before
            require_true_names(device)
        else:
            break
    else:
        pytest.fail("the download never ends")
    # At worst the honest place was believed to go on with what the liar began.
    assert honest.given <= LARGE + 2 * WINDOW
    assert not (device.staging / ".parts").exists()
    assert device.install() == "2.0.0"


def test_a_liar_is_asked_last_from_then_on(tmp_path: Path) -> None:
    """Of many blobs, one is asked for in vain by each thread."""
    layers = [f"layer {number}".encode() for number in range(24)]
    device, found = with_layers(tmp_path, *layers)
    liar = MemorySource(device.source.files.copy())
    for what in found:
        liar.files.blobs[str(what.digest)] = b"x" * what.size
    device.contents = [liar, device.source]
    assert device.install() == "2.0.0"
    assert sum(str(what.digest) in liar.asked for what in found) <= 4


class Dripping(MemorySource):
    """Gives a byte now and then, and would go on for ever."""

    def __init__(self, device: Device, *slow: Descriptor) -> None:
        super().__init__(device.source.files)
        self.url = "drip:"
        self.slow = slow

    @contextmanager
    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        with super().blob(what, start=start, tick=tick) as stream:
            if what in self.slow:
                self.slow_down(tick)
            yield stream

    def slow_down(self, tick: Callable[[int], None] | None) -> None:
        assert tick is not None
        while True:
            time.sleep(0.01)
            tick(0)


def test_a_place_that_drips(tmp_path: Path) -> None:
    """Above the minimum rate, and too slow for the call: others get their turn."""
    device, found = with_layers(tmp_path, b"large", b"other")
    slow = Dripping(device, *found)
    honest = MemorySource(device.source.files)
    device.contents = [slow, honest]
    release = device.verify()
    control = Control(deadline=timedelta(seconds=3))
    device.verifier.fetch(release, device.staging, control=control)
    assert str(found[0].digest) in honest.asked
    assert device.install() == "2.0.0"


def test_a_manifest_that_drips(tmp_path: Path) -> None:
    """Also while a release is verified, of which the manifest is the first thing."""
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane
    made = artifact(world, [(WASM, None, b"layer")])
    world.release("2.0.0", artifact=made)
    device.source.files = world.publish()
    device.contents = [Dripping(device, made), device.source]
    release = device.verifier.verify(
        ReleaseName.parse("acme/pump-monitor"),
        Pin.parse_argument("*"),
        control=Control(deadline=timedelta(seconds=2)),
    )
    assert str(release.version) == "2.0.0"
    device.contents = [device.source]
    assert device.install() == "2.0.0"


def test_nobody_but_one_that_drips(tmp_path: Path) -> None:
    """It is given all the time that is left, and nothing is installed."""
    device, (what,) = with_layers(tmp_path, b"large")
    slow = Dripping(device, what)
    lacking = MemorySource(device.source.files.copy())
    del lacking.files.blobs[str(what.digest)]
    device.contents = [slow, lacking]
    release = device.verify()
    control = Control(deadline=timedelta(seconds=1))
    with refused(device, BudgetError, "budget", match="took longer"):
        device.verifier.fetch(release, device.staging, control=control)
    assert slow.asked.count(str(what.digest)) == 2
    device.contents = [device.source]
    assert device.install() == "2.0.0"
