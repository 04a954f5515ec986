"""Metadata without the signature of its role's key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import ThresholdError
from tests.attacks.scenes import ON_THE_WAY, ROLES, refused, running, serve_next
from tests.world.repository import key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.world import World

# Whose key signs instead: the nearest one that signs something else.
NEIGHBOUR = {
    "root": "targets",
    "timestamp": "snapshot",
    "snapshot": "timestamp",
    "targets": "acme",
    "acme": "acme.pump-monitor",
    "acme.pump-monitor": "acme",
}


def unsigned(world: World, role: str, data: bytes) -> bytes:
    raw = json.loads(data)
    raw["signatures"] = []
    return json.dumps(raw).encode()


def signed_by_nobody_known(world: World, role: str, data: bytes) -> bytes:
    return world.sign(role, [key("mallory")])


def signed_by_another_role(world: World, role: str, data: bytes) -> bytes:
    return world.sign(role, [key(NEIGHBOUR[role])])


def changed_after_signing(world: World, role: str, data: bytes) -> bytes:
    raw = json.loads(data)
    raw["signed"]["expires"] = "2099-01-01T00:00:00Z"
    return json.dumps(raw).encode()


def signature_of_the_version_before(world: World, role: str, data: bytes) -> bytes:
    world.roles[role].version -= 1
    before = json.loads(world.sign(role))
    world.roles[role].version += 1
    raw: dict[str, Any] = json.loads(data)
    raw["signatures"] = before["signatures"]
    return json.dumps(raw).encode()


def stranger_under_the_roles_key_id(world: World, role: str, data: bytes) -> bytes:
    raw = json.loads(data)
    stranger = json.loads(world.sign(role, [key("mallory")]))
    raw["signatures"][0]["sig"] = stranger["signatures"][0]["sig"]
    return json.dumps(raw).encode()


def not_a_signature(world: World, role: str, data: bytes) -> bytes:
    raw = json.loads(data)
    raw["signatures"][0]["sig"] = "not hexadecimal"
    return json.dumps(raw).encode()


FORGERIES = (
    unsigned,
    signed_by_nobody_known,
    signed_by_another_role,
    changed_after_signing,
    signature_of_the_version_before,
    stranger_under_the_roles_key_id,
    not_a_signature,
)


@pytest.mark.parametrize("forge", FORGERIES)
@pytest.mark.parametrize("role", ROLES)
def test_wrong_signature(
    tmp_path: Path, role: str, forge: Callable[[World, str, bytes], bytes]
) -> None:
    """Mallory serves the next version of a role, well-formed and in its place, without
    a signature of its key over these bytes; what hangs on it is never asked for."""
    plant = running(tmp_path)

    name = serve_next(plant.world, role, lambda data: forge(plant.world, role, data))
    plant.serve()
    error = refused(
        plant.device,
        ThresholdError,
        "threshold",
        f"^{role} v[0-9] has 0 of 1 required signatures",
        last=name,
        moved=ON_THE_WAY[role],
    )
    assert (error.role, error.valid, error.needed) == (role, 0, 1)
    assert error.missing == (key(role).public_key.keyid,)
