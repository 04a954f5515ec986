"""One refresh of a `World`, held to the specification alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.verify.limits import Budget, Limits
from margo_supplychain.verify.memory import Memory
from margo_supplychain.verify.refresh import Walk
from margo_supplychain.verify.workflow import Demand
from tests.world import FixedClock, MemorySource

if TYPE_CHECKING:
    from margo_supplychain.verify.limits import Control
    from tests.world import World


def walk_of(
    world: World,
    *,
    memory: Memory | None = None,
    copies: dict[str, bytes] | None = None,
    limits: Limits | None = None,
    control: Control | None = None,
) -> tuple[Walk, MemorySource]:
    """Return a walk that has not begun, and the source that it will ask."""
    source = MemorySource(world.files)
    if memory is None:
        root = world.files.metadata["1.root.json"]
        memory = Memory(root=root, publishers=frozenset({"acme"}))
    walk = Walk(
        memory,
        (copies or {}).get,
        source,
        demand=Demand.TUF,
        limits=limits if limits is not None else Limits(),
        clock=FixedClock(world.clock.when),
        budget=Budget(control),
    )
    return walk, source
