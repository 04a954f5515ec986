"""Actors for stories: an honest repository in memory, a device, and what Mallory has.

The repository is written with python-tuf alone, not with `margo_supplychain.authoring`,
so that the device is judged by an independent hand.
"""

from tests.world.device import Device, FixedClock
from tests.world.repository import World
from tests.world.sources import Files, MemorySource

__all__ = ["Device", "Files", "FixedClock", "MemorySource", "World"]
