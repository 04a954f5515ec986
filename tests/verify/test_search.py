"""Pre-order, depth first (TUF 5.6.7), and never further than the limit.

`tests/differential` compares more shapes than anybody would write down with python-tuf.
"""

from __future__ import annotations

import pytest

from margo_supplychain.errors import BudgetError, UnknownTargetError
from margo_supplychain.verify.search import find_target
from tests.verify.walking import walk_of
from tests.world import World


def delegating(*pairs: tuple[str, str], ending: tuple[str, ...] = ()) -> World:
    world = World(publishers=())
    for parent, role in pairs:
        world.delegate(parent, role, ("dir/*",), terminating=role in ending)
    return world


def visited(world: World, path: str = "dir/a", *, most: int = 32) -> list[str]:
    """Search for what nobody lists; return the roles that were asked for."""
    walk, source = walk_of(world)
    walk.top_level()
    source.asked.clear()
    with pytest.raises(UnknownTargetError, match=f"^no trusted role lists {path}$"):
        find_target(walk, path, max_delegations=most)
    return [name.removeprefix("1.").removesuffix(".json") for name in source.asked]


def test_what_targets_lists_wins() -> None:
    world = delegating(("targets", "a"))
    world.add_target("targets", "dir/a", b"mine")
    world.add_target("a", "dir/a", b"yours")
    world.publish()
    walk, _ = walk_of(world)
    walk.top_level()
    assert find_target(walk, "dir/a", max_delegations=1).length == 4
    assert "a" not in walk.workflow.roles


def test_depth_first_and_nobody_twice() -> None:
    """A role that a second one delegates to as well is not asked again."""
    world = delegating(
        ("targets", "a"),
        ("targets", "b"),
        ("targets", "c"),
        ("a", "a1"),
        ("a1", "b"),
        ("a1", "a"),
    )
    world.publish()
    assert visited(world) == ["a", "a1", "b", "c"]
    assert visited(world, "else/a") == []


def test_a_terminating_delegation_ends_it() -> None:
    world = delegating(("targets", "a"), ("targets", "b"), ("a", "a1"), ending=("a",))
    world.add_target("b", "dir/a", b"never found")
    world.publish()
    assert visited(world) == ["a", "a1"]


def test_bounded() -> None:
    world = delegating(("targets", "a"), ("a", "b"), ("b", "c"))
    world.publish()
    assert visited(world, most=3) == ["a", "b", "c"]
    with pytest.raises(BudgetError, match="dir/a is not in the first 2 delegations"):
        visited(world, most=2)
