"""What an attack must not move: a device's floors, withdrawals and offered content."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from margo_supplychain.errors import SupplyChainError
    from tests.world import Device


def offered(device: Device) -> list[Any]:
    """Return what the staging directory offers to an installer."""
    index = device.staging / "index.json"
    if not index.exists():
        return []
    listed = json.loads(index.read_bytes())["manifests"]
    assert isinstance(listed, list)
    return listed


def stands(device: Device) -> dict[str, Any]:
    """Return what only a release that was installed may change."""
    memory = device.memory
    return {
        "publishers": memory.publishers,
        "floors": memory.releases,
        "withdrawn": memory.withdrawn,
        "reinstated": memory.reinstated,
        "fetched": memory.fetched,
        "offered": offered(device),
    }


def require_true_names(device: Device) -> None:
    """Every blob in the staging directory is what its name says."""
    for path in (device.staging / "blobs").glob("sha256/*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name, path


@contextmanager
def refused(
    device: Device,
    kind: type[SupplyChainError],
    code: str,
    *,
    match: str,
    newer: bool = False,
) -> Iterator[None]:
    """Demand an error of exactly this class and code, and that nothing moved.

    Args:
        newer: the attack came with newer validly signed metadata, which the device
            may keep; nothing else moves.
    """
    memory, before = device.memory, stands(device)
    with pytest.raises(kind, match=match) as caught:
        yield
    assert type(caught.value) is kind
    assert caught.value.code == code
    if caught.value.report is not None:
        assert caught.value.report.verdict != "verified"
        assert caught.value.report.code == code
    assert stands(device) == before
    if not newer:
        assert device.memory == memory
    require_true_names(device)
