"""What is asked for, in which order, and what copies are worth."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import (
    BudgetError,
    CancelledError,
    FetchError,
    MixAndMatchError,
    TooLargeError,
    UnknownTargetError,
)
from margo_supplychain.verify.limits import Control, Limits
from margo_supplychain.verify.memory import Memory
from margo_supplychain.verify.workflow import Demand, Workflow
from tests.verify.walking import walk_of
from tests.world import World
from tests.world.repository import key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ORDER = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]


def test_order() -> None:
    walk, source = walk_of(World())
    walk.top_level()
    assert source.asked == ORDER
    assert list(walk.accepted) == ["timestamp", "snapshot", "targets"]
    assert not walk.offline


def test_copies_spare_requests() -> None:
    world = World()
    first, _ = walk_of(world)
    first.top_level()
    memory = first.workflow.complete()
    walk, source = walk_of(world, memory=memory, copies=dict(first.accepted))
    walk.top_level()
    assert source.asked == ["2.root.json", "timestamp.json"]
    assert walk.accepted == {}


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
@pytest.mark.parametrize("offline", [False, True])
def test_a_damaged_copy_is_fetched_again(role: str, offline: bool) -> None:
    world = World()
    first, _ = walk_of(world)
    first.top_level()
    copies = first.accepted | {role: b"{}"}
    memory = first.workflow.complete()
    walk, source = walk_of(world, memory=memory, copies=copies)
    source.down = offline
    if offline:
        with pytest.raises(FetchError) as caught:
            walk.top_level()
        assert caught.value.unreachable
    else:
        walk.top_level()
        assert list(walk.accepted) == [role]
    assert walk.workflow.memory.timestamp == memory.timestamp


def test_a_copy_under_old_keys_is_fetched_again() -> None:
    """The bytes are the listed ones, but another key signs the role now."""
    world = World()
    first, _ = walk_of(world)
    first.top_level()
    world.rotate("targets", "targets-2")
    world.rotate("snapshot", "snapshot-2")
    world.touch("targets")
    world.publish()
    walk, source = walk_of(world, copies=dict(first.accepted))
    walk.top_level()
    assert source.asked[-2:] == ["2.snapshot.json", "2.targets.json"]


def test_offline_from_a_copy_whose_keys_have_gone() -> None:
    """Only a role that must be fetched is missed; nothing old is used instead."""
    world = World()
    first, _ = walk_of(world)
    first.top_level()
    memory = first.workflow.complete()
    copies = first.accepted | {"snapshot": world.sign("snapshot", [key("mallory")])}
    walk, source = walk_of(world, memory=memory, copies=copies)
    source.down = True
    with pytest.raises(FetchError, match="no usable copy of snapshot v1"):
        walk.top_level()


def test_forbidden_is_neither_missing_nor_offline() -> None:
    walk, source = walk_of(World())
    source.forbidden = True
    with pytest.raises(FetchError) as caught:
        walk.top_level()
    assert caught.value.status == 403
    assert source.asked == ["2.root.json"]


def test_cut_after_a_new_root() -> None:
    """Half of a chain of roots was seen: that is no quiet evening, but an error."""
    world = World()
    world.rotate("timestamp", "timestamp-2")
    world.publish()
    walk, source = walk_of(world)
    answer = source.metadata

    def cut(
        filename: str, *, limit: int, tick: Callable[[int], None] | None = None
    ) -> bytes:
        source.down = filename == "3.root.json"
        return answer(filename, limit=limit, tick=tick)

    source.metadata = cut  # type: ignore[method-assign]  # a source that breaks
    with pytest.raises(FetchError, match="the wire is cut"):
        walk.top_level()
    assert walk.accepted == {"root": world.files.metadata["2.root.json"]}
    assert walk.workflow.memory.root == world.files.metadata["2.root.json"]


def test_bounded_roots() -> None:
    world = World()
    for number in range(3):
        world.rotate("timestamp", f"timestamp-{number}")
    world.publish()
    walk, _ = walk_of(world, limits=Limits(root_rotations=3))
    with pytest.raises(BudgetError, match="followed 3 roots and there are more"):
        walk.top_level()
    walk, _ = walk_of(world, memory=walk.workflow.memory)
    walk.top_level()
    assert walk.workflow.root.version == 4


def test_a_signed_length_lifts_no_limit() -> None:
    world = World()
    world.publish()
    walk, source = walk_of(world, limits=Limits(targets=10))
    with pytest.raises(TooLargeError, match="more than the limit of 10"):
        walk.top_level()
    assert source.asked[-1] == "2.snapshot.json"


@pytest.mark.parametrize(
    ("control", "error"),
    [
        (Control(max_bytes=100), BudgetError),
        (Control(deadline=timedelta()), BudgetError),
        (Control(cancelled=lambda: True), CancelledError),
    ],
)
def test_one_budget_for_the_walk(
    control: Control, error: type[BudgetError | CancelledError]
) -> None:
    walk, _ = walk_of(World(), control=control)
    with pytest.raises(error):
        walk.top_level()
    assert walk.workflow.timestamp is None


def _close_timestamp(workflow: Workflow) -> None:
    workflow.close_timestamp()


def _update_snapshot(workflow: Workflow) -> None:
    workflow.update_snapshot(b"{}")


def _listed(workflow: Workflow) -> None:
    workflow.listed("targets")


def _complete(workflow: Workflow) -> None:
    workflow.complete()


@pytest.mark.parametrize(
    "step", [_close_timestamp, _update_snapshot, _listed, _complete]
)
def test_rules_out_of_order_believe_nothing(
    step: Callable[[Workflow], None],
) -> None:
    root = World().files.metadata["1.root.json"]
    memory = Memory(root=root, publishers=frozenset({"acme"}))
    workflow = Workflow(memory, demand=Demand.MARGO, limits=Limits())
    with pytest.raises(MixAndMatchError, match=r"there is no|is not whole"):
        step(workflow)
    with pytest.raises(RuntimeError, match="close_root takes the time"):
        _ = workflow.moment
    assert workflow.memory is memory


def test_a_role_is_trusted_as_its_delegator_says() -> None:
    """One file, judged anew by each who delegates to it, and by nobody else."""
    world = World(publishers=())
    for parent, role in (("targets", "a"), ("targets", "b"), ("a", "shared")):
        world.delegate(parent, role, ("*",), terminating=False)
    world.delegate("b", "shared", ("*",), terminating=False)
    world.publish()
    walk, source = walk_of(world)
    walk.top_level()
    for role in ("a", "b"):
        walk.role(role, "targets")
    shared = walk.role("shared", "a")
    assert walk.role("shared", "b").file.data == shared.file.data
    assert source.asked.count("1.shared.json") == 1
    with pytest.raises(UnknownTargetError, match="targets v2 does not delegate to sha"):
        walk.role("shared", "targets")
    with pytest.raises(UnknownTargetError, match="shared v1 does not delegate to a"):
        walk.role("a", "shared")
    with pytest.raises(UnknownTargetError, match="does not list the role nobody"):
        walk.role("nobody", "targets")


def test_one_more_release_of_many_costs_three_files(tmp_path: Path) -> None:
    """A device that holds the state before asks for nothing that has not changed."""
    world = World()
    names = [f"acme/app-{number}" for number in range(40)]
    for name in names:
        for version in ("1.0.0", "1.1.0"):
            world.release(version, name)
    world.publish()
    device = world.device(tmp_path)
    for name in names[:5]:
        device.verify(name)
    world.release("1.2.0", names[3])
    device.source.files = world.publish()
    device.source.asked.clear()
    release = device.verify(names[3])
    assert str(release.version) == "1.2.0"
    assert [one for one in device.source.asked if one.endswith(".json")] == [
        "2.root.json",  # there is none: asking is how a device knows
        "timestamp.json",
        "3.snapshot.json",
        "2.acme.app-3.json",
    ]
    # Besides, the record and the manifest of the new release.
    assert len(device.source.asked) == 6
