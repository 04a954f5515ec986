"""A device was off while keys changed 600 times: it catches up in one call, and who had
one of those keys in between gains nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from margo_supplychain.errors import RollbackError, ThresholdError
from margo_supplychain.formats.tuf_metadata import file_name
from tests.attacks.scenes import APPLICATION, refused, running
from tests.world.repository import key

if TYPE_CHECKING:
    from pathlib import Path

    from securesystemslib.signer import CryptoSigner

    from tests.attacks.scenes import Plant

ROTATIONS: Final = 600
DAYS: Final = 3  # between two rotations: five years in all
ONLINE: Final = ("timestamp", "snapshot", "targets")


class Slept(NamedTuple):
    """A plant whose device was off, and every key that root ever had, by version."""

    plant: Plant
    keys: dict[int, CryptoSigner]


def slept(tmp_path: Path) -> Slept:
    """Return a plant whose device has root v1, runs 1.1.0, and was off since.

    Root's own keys change each time, those of one other role beside them; the old roots
    expire long before the device comes back.
    """
    plant = running(tmp_path)
    world = plant.world
    keys = {1: world.signers["root"][0]}
    for number in range(ROTATIONS):
        world.clock.advance(days=DAYS)
        role = ("root", *ONLINE)[number % 4]
        if role != "root":
            # Both in one root: `rotate` would make two.
            world.root.revoke_key(world.root.roles[role].keyids[0], role)
            new = key(f"{role}-{number % 40}-{number}")
            world.root.add_key(new.public_key, role)
            world.signers[role] = [new]
        world.rotate("root", f"root-{number}")
        keys[world.root.version] = world.signers["root"][0]
    world.release("1.2.0")
    world.touch("targets", "acme", APPLICATION)
    world.publish()
    plant.device.clock.when = world.clock.when
    plant.serve()
    return Slept(plant, keys)


def test_600_rotations_of_every_key_in_one_call(tmp_path: Path) -> None:
    """Everybody's keys were replaced, again and again, and every root that the device
    has to walk through expired years ago; the newest did not."""
    plant, _ = slept(tmp_path)
    device = plant.device
    device.source.asked.clear()
    assert device.version() == "1.2.0"
    assert device.trusted["root"] == ROTATIONS + 1
    roots = [file_name("root", number + 2) for number in range(ROTATIONS + 1)]
    assert device.source.asked[: len(roots)] == roots
    assert device.install() == "1.2.0"
    # What it ran is its floor, through all of it.
    assert device.memory.releases
    # A device that is made today from the first root comes as far.
    fresh = plant.world.device(
        tmp_path / "fresh", root=plant.world.files.metadata["1.root.json"]
    )
    assert fresh.version() == "1.2.0"


def test_a_clock_that_stood_still_for_as_long(tmp_path: Path) -> None:
    """The battery is empty: the device thinks that no time has passed. The roots tell
    it how late it is, before anything else is believed."""
    plant, _ = slept(tmp_path)
    today = plant.device.clock.when
    plant.device.clock.advance(days=-DAYS * ROTATIONS)
    old = plant.device.source.files.metadata["timestamp.json"]
    assert plant.device.version() == "1.2.0"
    # An old state, signed by today's keys, does not pass for a current one.
    world = plant.world
    world.publish_timestamp()
    plant.serve()
    assert plant.device.version() == "1.2.0"
    plant.device.source.files.metadata["timestamp.json"] = old
    refused(plant.device, RollbackError, "rollback", "timestamp v4 is older than")
    assert plant.device.memory.time_floor == today


@pytest.mark.parametrize("at", [2, 301, 601])
def test_a_root_on_the_way_by_keys_that_left(tmp_path: Path, at: int) -> None:
    """Mallory collected every root key that was ever thrown away. In the middle of the
    way she serves a root of her own, signed by all that were removed before, which
    would lead the device off the honest way."""
    plant, keys = slept(tmp_path)
    collected = [keys[version] for version in range(1, at - 1)]
    world, device = plant.world, plant.device
    honest = device.source.files.metadata[file_name("root", at)]
    world.root.version = at - 1
    world.root.roles["root"].keyids.clear()
    world.root.add_key(key("mallory").public_key, "root")
    world.bump("root", 730)
    # As many as a file may hold.
    forged = world.sign("root", [key("mallory"), *collected[-20:]])
    device.source.files.metadata[file_name("root", at)] = forged
    refused(
        device,
        ThresholdError,
        "threshold",
        f"root v{at} has 0 of 1 required signatures",
        last=file_name("root", at),
        moved=["root", "root_time", "timestamp", "timestamp_time", "snapshot"],
    )
    assert device.trusted["root"] == at - 1

    device.source.files.metadata[file_name("root", at)] = honest
    assert device.version() == "1.2.0"
    assert device.trusted["root"] == ROTATIONS + 1
