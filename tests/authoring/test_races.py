"""Two publishers at once in a registry that locks nobody out.

Every order in which their writes can come is tried. In the end both have landed, or one
was told to run again and its next run lands; and no device is left with a refusal.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import (
    ConflictError,
    InconclusiveError,
    VerificationError,
)
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.versions import Version
from margo_supplychain.verify.trust_store import TrustStore
from tests.authoring.tagged import TRUST, TaggedVendor
from tests.authoring.trust import OPEN, PUMP, VALVE, key
from tests.authoring.turns import Turn, every_order, take_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from margo_supplychain.formats.names import ReleaseName

ANY = Pin.range("*", grammar="npm")


def writes(what: str) -> bool:
    """Gate: what may be in another publisher's way."""
    return what.startswith("put ") and not what.startswith(("put sha256:", "put t."))


def everything(what: str) -> bool:
    """Gate: each request to the trust repository."""
    return not what.startswith("put sha256:")


class Race:
    """A repository with two applications, and two publishers."""

    def __init__(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch, *, same: bool
    ) -> None:
        self.vendor = TaggedVendor(directory)
        self.vendor.create_with_pump()
        with self.vendor.repository.edit(
            self.vendor.keys, clock=self.vendor.clock
        ) as edit:
            edit.add_application(VALVE, [key("ci").public_key], policy=OPEN)
        self.vendor.move()
        self.monkeypatch = monkeypatch
        self.vendor.registry.install(monkeypatch)
        self.other = PUMP if same else VALVE
        self.vendor.publish_there(self.vendor.release("1.0.0"))
        if not same:
            self.vendor.publish_there(self.vendor.release("1.0.0", name=VALVE))
        self.start = self.vendor.registry
        self.wanted: list[tuple[ReleaseName, str]] = [
            (PUMP, "1.1.0"),
            (self.other, "1.2.0"),
        ]
        self.releases = [
            self.vendor.release(version, name=name) for name, version in self.wanted
        ]
        self.conflicts = 0
        self.refusals = 0
        self.runs = 0
        self.seen: dict[str, str] = {}

    def publisher(self, number: int) -> Callable[[Callable[[str], None]], Any]:
        def publish(before: Callable[[str], None]) -> None:
            self.vendor.publish_there(self.releases[number], before=before)

        return publish

    def run(
        self, choices: Sequence[int], gate: Callable[[str], bool]
    ) -> list[tuple[int, int]]:
        """Let both publish in one order, and check what came of it."""
        self.vendor.registry = self.start.copy()
        self.vendor.registry.install(self.monkeypatch)
        device = TrustStore.unsafe_without_memory(
            root=self.vendor.root, publishers=None
        )
        turns = [Turn(self.publisher(0), gate), Turn(self.publisher(1), gate)]
        taken = take_turns(turns, choices, lambda: self.look(device))
        try:
            self.check(turns, device)
        except BaseException as why:
            why.add_note(f"choices {[choice for choice, _ in taken]}")
            for one in turns:
                why.add_note(f"{one.trace} {one.error!r}")
            raise
        self.runs += 1
        return taken

    def look(self, device: TrustStore) -> None:
        """Let a device that looks all the time, and a fresh one, see what is there."""
        tags = dict(self.vendor.registry.at(TRUST).tags)
        if tags == self.seen:
            return
        self.seen = tags
        for store in (device, None):
            for name in {PUMP, self.other}:
                try:
                    found = self.vendor.device_there(store).verify(name, ANY)
                except InconclusiveError:
                    continue
                except VerificationError:
                    # Bytes of two publishers under one name: not for long.
                    self.refusals += 1
                    continue
                assert str(found.version) in {"1.0.0", "1.1.0", "1.2.0"}

    def check(self, turns: Sequence[Turn], device: TrustStore) -> None:
        for number, one in enumerate(turns):
            if one.error is not None:
                assert isinstance(one.error, ConflictError), one.error
                self.conflicts += 1
                # It exits 4, and somebody runs it again.
                self.publisher(number)(lambda _: None)
        for store in (device, None):
            verifier = self.vendor.device_there(store)
            for name, version in self.wanted:
                pin = Pin.exact(Version.parse(version))
                assert str(verifier.verify(name, pin).version) == version


@pytest.mark.parametrize("same", [False, True], ids=["two roles", "one role"])
def test_every_order_of_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, same: bool
) -> None:
    race = Race(tmp_path, monkeypatch, same=same)
    for _ in every_order(lambda choices: race.run(choices, writes)):
        pass
    assert race.runs >= 70
    assert race.conflicts > 0  # else nobody was in anybody's way


@pytest.mark.parametrize("same", [False, True], ids=["two roles", "one role"])
def test_some_orders_of_all_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, same: bool
) -> None:
    """Between a look at a name and the write of it, too."""
    race = Race(tmp_path, monkeypatch, same=same)
    chance = random.Random(4)  # noqa: S311 - the same orders each time
    for _ in range(40):
        race.run([chance.randrange(2) for _ in range(200)], everything)
