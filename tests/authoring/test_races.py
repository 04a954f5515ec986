"""Publishers at once in a registry that locks nobody out.

Every order in which the writes of two can come is tried. In the end all have landed, or
were told to run again and their next run lands; and no device is left with a refusal.
"""

from __future__ import annotations

import random
from contextlib import suppress
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

    Before = Callable[[str], None]

ANY = Pin.range("*", grammar="npm")
ROUNDS = 25
# Each publisher stops at its beginning and ahead of three writes; more come when one
# must begin again, or joins the other.
DEPTH = 9
LISTED = {"1.0.0", "1.1.0", "1.2.0", "1.3.0"}


def writes(what: str) -> bool:
    """Gate: what may be in another publisher's way."""
    return what.startswith("put ") and not what.startswith(("put sha256:", "put t."))


def everything(what: str) -> bool:
    """Gate: each request to the trust repository."""
    return not what.startswith("put sha256:")


class Killed(BaseException):
    """The process is gone."""


class Race:
    """A repository with two applications, and those who publish there."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.vendor = TaggedVendor(directory)
        self.vendor.create_with_pump()
        with self.vendor.repository.edit(
            self.vendor.keys, clock=self.vendor.clock
        ) as edit:
            edit.add_application(VALVE, [key("ci").public_key], policy=OPEN)
        self.vendor.move()
        self.monkeypatch = monkeypatch
        self.vendor.registry.install(monkeypatch)
        self.vendor.publish_there(self.vendor.release("1.0.0"))
        self.vendor.publish_there(self.vendor.release("1.0.0", name=VALVE))
        self.start = self.vendor.registry
        self.actions: list[Callable[[Before], Any]] = []
        self.wanted: list[tuple[ReleaseName, str]] = []
        self.conflicts = 0
        self.runs = 0
        self.seen: dict[str, str] = {}

    def publish(self, name: ReleaseName, version: str) -> None:
        """Let one more publisher add a release."""
        release = self.vendor.release(version, name=name)

        def action(before: Before) -> None:
            self.vendor.publish_there(release, before=before)

        self.actions.append(action)
        self.wanted.append((name, version))

    def withdraw(self, name: ReleaseName, version: str) -> None:
        """Let one more publisher withdraw a release."""

        def action(before: Before) -> None:
            with self.vendor.at_registry(before).edit(
                [key("ci")], clock=self.vendor.clock
            ) as edit:
                edit.withdraw(name, Version.parse(version), reason="leaks")

        self.actions.append(action)

    def refresh(self, role: str | None = None) -> None:
        """Let one more publisher renew signatures."""

        def action(before: Before) -> None:
            with self.vendor.at_registry(before).edit(
                [key("ci")], clock=self.vendor.clock
            ) as edit:
                edit.refresh(role)

        self.actions.append(action)

    def run(
        self,
        choices: Sequence[int],
        gate: Callable[[str], bool],
        kill: int | None = None,
    ) -> list[tuple[int, int]]:
        """Let all publish in one order, and check what came of it.

        Args:
            choices: see `take_turns`.
            gate: where they stop.
            kill: the first of them is killed at its gate of this number.
        """
        self.vendor.registry = self.start.copy()
        self.vendor.registry.install(self.monkeypatch)
        device = TrustStore.unsafe_without_memory(
            root=self.vendor.root, publishers=None
        )
        turns = [Turn(one, gate) for one in self.actions]
        if kill is not None:
            turns[0].action = self.killed(turns[0], kill)
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

    def killed(self, turn: Turn, at: int) -> Callable[[Before], Any]:
        action = turn.action

        def until(before: Before) -> None:
            def stop(what: str) -> None:
                before(what)
                if len(turn.trace) >= at:
                    raise Killed

            action(stop)

        return until

    def look(self, device: TrustStore) -> None:
        """Let a device that looks all the time, and a fresh one, see what is there."""
        tags = dict(self.vendor.registry.at(TRUST).tags)
        if tags == self.seen:
            return
        self.seen = tags
        for store in (device, None):
            # Bytes of two publishers under one name are refused, but not for long.
            with suppress(InconclusiveError, VerificationError):
                found = self.vendor.device_there(store).verify(PUMP, ANY)
                assert str(found.version) in LISTED

    def check(self, turns: Sequence[Turn], device: TrustStore) -> None:
        """Run again who was told to; then everything must be there, for everybody."""
        for number, one in enumerate(turns):
            if one.error is not None:
                assert isinstance(one.error, (ConflictError, Killed)), one.error
                self.conflicts += isinstance(one.error, ConflictError)
                self.actions[number](lambda _: None)
        for store in (device, None):
            verifier = self.vendor.device_there(store)
            verifier.refresh()
            for name, version in self.wanted:
                pin = Pin.exact(Version.parse(version))
                assert str(verifier.verify(name, pin).version) == version
        report = self.vendor.at_registry().check(clock=self.vendor.clock)
        assert report.violations == ()


@pytest.fixture
def race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Race:
    return Race(tmp_path, monkeypatch)


def test_every_order_of_two_applications(race: Race) -> None:
    race.publish(PUMP, "1.1.0")
    race.publish(VALVE, "1.2.0")
    for _ in every_order(lambda choices: race.run(choices, writes), depth=DEPTH):
        pass
    assert race.runs >= 70


def test_every_order_of_two_publications_of_one(race: Race) -> None:
    race.publish(PUMP, "1.1.0")
    race.publish(PUMP, "1.2.0")
    for _ in every_order(lambda choices: race.run(choices, writes), depth=DEPTH):
        pass
    assert race.runs >= 70


def test_every_order_of_other_edits(race: Race) -> None:
    """These do not begin again by themselves: they exit 4."""
    race.withdraw(PUMP, "1.0.0")
    race.refresh("timestamp")
    for _ in every_order(lambda choices: race.run(choices, writes), depth=DEPTH):
        pass
    assert race.conflicts > 0


@pytest.mark.parametrize("names", [(PUMP, VALVE, PUMP), (PUMP, PUMP, PUMP)])
def test_some_orders_of_all_requests(
    race: Race, names: tuple[ReleaseName, ...]
) -> None:
    """Between a look at a name and the write of it, too; of three publishers."""
    for name, version in zip(names, ("1.1.0", "1.2.0", "1.3.0"), strict=True):
        race.publish(name, version)
    chance = random.Random(4)  # noqa: S311 - the same orders each time
    for _ in range(ROUNDS):
        race.run([chance.randrange(3) for _ in range(500)], everything)


def test_some_orders_with_one_who_is_killed(race: Race) -> None:
    race.publish(PUMP, "1.1.0")
    race.publish(PUMP, "1.2.0")
    chance = random.Random(4)  # noqa: S311 - the same orders each time
    for _ in range(ROUNDS):
        choices = [chance.randrange(2) for _ in range(500)]
        race.run(choices, everything, kill=chance.randrange(1, 60))
