"""Delegations are searched as python-tuf searches them: pre-order, bins included."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, SuccinctRoles, Targets

from tests.differential.clients import Ours, Theirs
from tests.world import World
from tests.world.repository import key

if TYPE_CHECKING:
    from pathlib import Path

STEPS = ("a", "b", "ab", "x.json")
PATTERNS = ("*", "a*", "?", "b", "[ab]", "x.*", "ab")


def random_world(dice: random.Random) -> World:
    """Return a repository whose delegations go anywhere, in circles too."""
    world = World(publishers=(), now=datetime.now(UTC).replace(microsecond=0))
    names = [f"role{number}" for number in range(dice.randint(1, 6))]
    for parent in ["targets", *names]:
        signed = world.roles.setdefault(parent, Targets())
        if parent != "targets":
            world.signers[parent] = [key(parent)]
            signed.version = 0
        world.touch(parent)
    for parent in ["targets", *names]:
        delegate(world, dice, parent, names)
        for _ in range(dice.randint(0, 4)):
            world.add_target(parent, random_path(dice), parent.encode())
    world.publish()
    return world


def delegate(world: World, dice: random.Random, parent: str, names: list[str]) -> None:
    signed = world.roles[parent]
    if parent == "targets" and dice.random() < 0.2:
        bins = SuccinctRoles([], 1, 2, "bin")
        signed.delegations = Delegations({}, succinct_roles=bins)
        signed.add_key(key("bins").public_key)
        for name in bins.get_roles():
            world.roles[name] = Targets()
            world.roles[name].version = 0
            world.signers[name] = [key("bins")]
            world.add_target(name, random_path(dice), name.encode())
            world.touch(name)
        return
    signed.delegations = Delegations({}, {})
    for name in dice.sample(names, dice.randint(0, len(names))):
        paths = [
            "/".join(dice.choice(PATTERNS) for _ in range(dice.randint(1, 3)))
            for _ in range(dice.randint(1, 2))
        ]
        hashed = dice.random() < 0.15
        signed.delegations.roles[name] = DelegatedRole(
            name,
            [],
            1,
            dice.random() < 0.3,
            paths=None if hashed else paths,
            path_hash_prefixes=[dice.choice("0123456789abcdef")] if hashed else None,
        )
        # Now and then the delegator names another key: the role fails there.
        wrong = dice.random() < 0.1
        signed.add_key(key("wrong" if wrong else name).public_key, name)


def random_path(dice: random.Random) -> str:
    return "/".join(dice.choice(STEPS) for _ in range(dice.randint(1, 3)))


@pytest.mark.parametrize("seed", range(80))
def test_lookups_agree(seed: int, tmp_path: Path) -> None:
    """The same target, none, or a refusal: for every path, in one order of asking."""
    dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
    files = random_world(dice).files
    ours, theirs = Ours(files), Theirs(files, tmp_path / "theirs")
    assert ours.refresh() == theirs.refresh()
    for _ in range(25):
        path = random_path(dice)
        mine, other = ours.find(path), theirs.find(path)
        if isinstance(mine, str) or isinstance(other, str):
            # A role that fails ends the search in both.
            assert isinstance(mine, str)
            assert isinstance(other, str)
        else:
            assert (mine and mine.to_dict()) == (other and other.to_dict()), path
