"""What we accept, python-tuf accepts; where we refuse more, the reason has a name."""

from __future__ import annotations

import copy
import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.verify.workflow import Demand
from tests.differential.clients import Ours, Theirs
from tests.differential.story import HONEST, NETWORK, THIEF, Story
from tests.world.repository import TOP_LEVEL, key

if TYPE_CHECKING:
    from pathlib import Path

SEEDS = 60
STEPS = 14
BOTH = ("tuf", "margo")
FORGOTTEN = "a snapshot's floor outlives timestamp's keys; python-tuf forgets it"
ONE_FILE = "one version of a role is one file; python-tuf takes the second as well"
SIGNED_TIME = "signed times beyond an expiry are refused; python-tuf knows none"
UNBOUND = "Margo binds each role by length and sha256; the specification need not"
# Where python-tuf accepts and we do not: (demand, act, code) → why we are stricter.
STRICTER = {
    **{
        (demand, "lower_the_snapshot_after_a_rotation", "rollback"): FORGOTTEN
        for demand in BOTH
    },
    **{(demand, "sign_a_version_twice", "mix-and-match"): ONE_FILE for demand in BOTH},
    **{(demand, "sign_in_the_future", "expired"): SIGNED_TIME for demand in BOTH},
    ("margo", "list_without_hashes", "malformed"): UNBOUND,
}


class Stage:
    """All clients in front of one story."""

    def __init__(self, dice: random.Random, directory: Path) -> None:
        self.story = Story(dice)
        self.theirs = Theirs(self.story.served, directory / "theirs")
        self.ours = {demand: Ours(self.story.served, demand) for demand in Demand}

    def refresh(self) -> dict[str, Any]:
        """Let everybody refresh; an answer is versions, or an error's name."""
        self.theirs.fetcher.files = self.story.served
        answers: dict[str, Any] = {"theirs": self.theirs.refresh()}
        for demand, client in self.ours.items():
            client.source.files = self.story.served
            answers[demand.value] = client.refresh()
        return answers

    def find(self, path: str) -> dict[str, Any]:
        """Let everybody look a target up; an answer is a target, None or an error."""
        answers: dict[str, Any] = {"theirs": self.theirs.find(path)}
        for demand, client in self.ours.items():
            answers[demand.value] = client.find(path)
        return {
            who: found if found is None or isinstance(found, str) else found.to_dict()
            for who, found in answers.items()
        }

    def green(self) -> None:
        """Everybody accepts the same, and what the world holds."""
        world = self.story.world
        expected = {role: world.roles[role].version for role in TOP_LEVEL}
        assert self.refresh() == dict.fromkeys(("theirs", *BOTH), expected)


def compare(answers: dict[str, Any], act: str) -> set[str]:
    """Return the named reasons why somebody accepted less than python-tuf.

    Fails for what has no name, and when python-tuf accepts less.
    """
    theirs, reasons = answers["theirs"], set()
    for demand in BOTH:
        found = answers[demand]
        if isinstance(found, dict):
            assert found == theirs, f"{demand} accepts {act}"
        elif isinstance(theirs, dict):
            why = STRICTER.get((demand, act, found))
            assert why is not None, f"{demand} refuses {act}: {found}"
            reasons.add(why)
    return reasons


def play(seed: int, directory: Path) -> set[str]:
    """Play one story; return the reasons of STRICTER that occurred."""
    dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
    stage = Stage(dice, directory)
    stage.green()
    reasons: set[str] = set()
    for _ in range(STEPS):
        (group,) = dice.choices((HONEST, NETWORK, THIEF), (40, 25, 35))
        act = dice.choice(group)
        act(stage.story)
        if group is HONEST:
            stage.green()
        answers = stage.refresh()
        now = compare(answers, act.__name__)
        reasons |= now
        if all(isinstance(one, dict) for one in answers.values()):
            release = f"1.{dice.randint(0, stage.story.releases + 1)}.0"
            found = stage.find(f"acme/releases/pump-monitor/{release}")
            compare(found, act.__name__)
        if now or group is THIEF:
            # Whoever signed, everybody comes back when honest people sign again.
            stage.story.recover(new_keys=act is Story.raise_a_version)
            stage.green()
    return reasons


@pytest.mark.parametrize("seed", range(SEEDS))
def test_attacks_agree(seed: int, tmp_path: Path) -> None:
    assert play(seed, tmp_path) <= set(STRICTER.values())


def test_each_exception_occurs(tmp_path: Path) -> None:
    """A reason that never occurs would excuse nothing but a mistake."""
    left = set(STRICTER.values())
    for seed in range(SEEDS):
        if left:
            left -= play(seed, tmp_path / str(seed))
    assert left == set()


def test_one_key_under_two_ids(tmp_path: Path) -> None:
    """A root's threshold of two is met by one key for python-tuf, and not for us.

    Under Margo's demands that root is refused, and so are all that follow it: such a
    repository needs a new root of trust. Under the specification's alone, its next
    root heals it.
    """
    stage = Stage(random.Random(0), tmp_path)  # noqa: S311 - repeatable, not secret
    stage.green()
    world = stage.story.world
    world.rotate("timestamp", keep_old=True)
    again = copy.deepcopy(key("timestamp").public_key)
    again.keyid = "another id"
    world.root.add_key(again, "timestamp")
    world.root.roles["timestamp"].threshold = 2
    world.files.metadata["2.root.json"] = world.sign("root")
    world.publish_timestamp()
    raw = json.loads(world.files.metadata["timestamp.json"])
    raw["signatures"].append(raw["signatures"][0] | {"keyid": "another id"})
    world.files.metadata["timestamp.json"] = json.dumps(raw).encode()
    stage.story.show()
    answers = stage.refresh()
    assert isinstance(answers["theirs"], dict)
    assert (answers["tuf"], answers["margo"]) == ("threshold", "malformed")

    world.root.revoke_key("another id", "timestamp")
    world.root.roles["timestamp"].threshold = 1
    stage.story.recover(new_keys=False)
    answers = stage.refresh()
    assert answers["tuf"] == answers["theirs"]
    assert answers["tuf"]["root"] == 3
    assert answers["margo"] == "malformed"


def test_a_version_that_ran_away_needs_new_keys(tmp_path: Path) -> None:
    """Without them everybody refuses what is honest, and says so."""
    stage = Stage(random.Random(0), tmp_path)  # noqa: S311 - repeatable, not secret
    stage.green()
    world = stage.story.world
    for role in ("timestamp", "snapshot"):
        world.roles[role].version += 1000
    world.publish()
    stage.story.show()
    stage.green()
    for role in ("timestamp", "snapshot"):
        world.roles[role].version = 2
    stage.story.recover(new_keys=False)
    answers = stage.refresh()
    assert answers["theirs"] == "BadVersionNumberError"
    assert (answers["tuf"], answers["margo"]) == ("rollback", "rollback")
    stage.story.recover(new_keys=True)
    stage.green()
