"""Beats that all attacks on metadata share: a running plant, and "nothing moved"."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest

from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.verify.limits import Budget, Limits
from margo_supplychain.verify.refresh import Walk
from margo_supplychain.verify.workflow import Demand
from tests.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from securesystemslib.signer import CryptoSigner

    from margo_supplychain.errors import SupplyChainError
    from margo_supplychain.verify.memory import Memory
    from tests.world import Device, Files

E = TypeVar("E", bound="SupplyChainError")

APPLICATION: Final = "acme.pump-monitor"
LISTED: Final = ("targets", "acme", APPLICATION)
ROLES: Final = ("root", "timestamp", "snapshot", *LISTED)
# What a device accepts on its way to a role is newer valid metadata, and may stay.
ON_THE_WAY: Final[dict[str, tuple[str, ...]]] = {
    "root": (),
    "timestamp": (),
    "snapshot": ("timestamp",),
    **dict.fromkeys(LISTED, ("timestamp", "snapshot")),
}


@dataclass(frozen=True, slots=True)
class Plant:
    """A device that runs 1.1.0, its repository, and what was served for 1.0.0."""

    world: World
    device: Device
    old: Files
    kept: TemporaryDirectory[str] | None = None

    def serve(self) -> None:
        """Let the device see what the repository serves now."""
        self.device.source.files = self.world.files.copy()


def running(tmp_path: Path) -> Plant:
    """Return a plant in its legitimate state, checked: each role has gone on once."""
    plant = _first_plant()
    device = plant.device.copy(tmp_path / "device")
    return Plant(plant.world.copy(), device, plant.old)


@cache
def _first_plant() -> Plant:
    # Built once in a test run: what differs between attacks is what comes after it.
    state = TemporaryDirectory(prefix="plant-")
    world = World()
    world.release("1.0.0")
    old = world.publish()
    device = world.device(Path(state.name) / "device")
    assert device.install() == "1.0.0"
    world.release("1.1.0")
    world.touch("targets", "acme")
    device.source.files = world.publish()
    assert device.install() == "1.1.0"
    assert device.trusted == {
        "root": 1,
        "timestamp": 3,
        "snapshot": 3,
        "targets": 2,
        "acme": 3,
        APPLICATION: 2,
    }
    return Plant(world, device, old, state)


def contents(device: Device) -> dict[str, bytes]:
    """Return every installed byte."""
    return {
        str(path.relative_to(device.staging)): path.read_bytes()
        for path in sorted(device.staging.rglob("*"))
        if path.is_file()
    }


def without(memory: Memory, moved: Iterable[str]) -> Memory:
    """Return a memory as far as it must not move."""
    if not moved:
        return memory
    blank: dict[str, Any] = dict.fromkeys(set(moved) - {"root"})
    if "root" in moved:
        blank["root"] = b""
    return replace(memory, sequence=0, **blank)


def refused(
    device: Device,
    kind: type[E],
    code: str,
    match: str,
    *,
    last: str | None = None,
    moved: Iterable[str] = (),
    call: Callable[[], object] | None = None,
) -> E:
    """Expect an error, and that nothing moved; return it.

    Args:
        kind: exactly this class.
        code: its slug.
        match: found in its text.
        last: the last file that was asked for: nothing was, once this one was seen.
        moved: fields of the memory that newer valid metadata may have moved.
        call: what the device does; `verify` by default.
    """
    before, installed = without(device.memory, moved), contents(device)
    device.source.asked.clear()
    with pytest.raises(kind, match=match) as caught:
        (call or device.verify)()
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert caught.value.report is not None
    assert caught.value.report.verdict != "verified"
    assert without(device.memory, moved) == before
    assert contents(device) == installed
    if last is not None:
        assert device.source.asked[-1:] == [last]
    return caught.value


# --- files that Mallory signs with keys that are not hers ----------------------------


def resign(
    role_file: bytes, signers: Iterable[CryptoSigner], change: Callable[[Any], None]
) -> bytes:
    """Change what a file says, whatever python-tuf thinks of it, and sign it again."""
    raw = json.loads(role_file)
    change(raw["signed"])
    text = json.dumps(raw["signed"], sort_keys=True, separators=(",", ":"))
    raw["signatures"] = [signer.sign(text.encode()).to_dict() for signer in signers]
    return json.dumps(raw).encode()


def serve_next(world: World, role: str, make: Callable[[bytes], bytes]) -> str:
    """Serve the next version of a role as `make` has it; return its file's name.

    Snapshot and timestamp bind it, signed by their own keys, so that only the file
    itself can be what is wrong.
    """
    world.bump(role, 100)
    data = make(world.sign(role))
    name = file_name(role, world.roles[role].version)
    if role == "timestamp":
        name = "timestamp.json"
        world.files.metadata[name] = data
        return name
    world.write(role, data)
    if role == "snapshot":
        world.publish_timestamp()
    elif role != "root":
        world.publish_online()
    return name


def changed(
    world: World, role: str, change: Callable[[Any], None]
) -> Callable[[bytes], bytes]:
    """Return a `make` for `serve_next`: other content, signed by the role's keys."""
    return lambda data: resign(data, world.signers[role], change)


def lenient_walk(device: Device) -> Walk:
    """Return a walk that keeps to the specification alone, without copies."""
    return Walk(
        device.memory,
        lambda _: None,
        device.source,
        demand=Demand.TUF,
        limits=Limits(),
        clock=device.clock,
        budget=Budget(None),
    )
