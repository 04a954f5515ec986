"""The time that root and timestamp sign is missing, or too late to be true."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import ExpiredError, MalformedError
from tests.attacks.scenes import (
    APPLICATION,
    changed,
    lenient_walk,
    refused,
    resign,
    running,
    serve_next,
)
from tests.world.repository import issued

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("role", ["root", "timestamp"])
def test_no_signed_time(tmp_path: Path, role: str) -> None:
    """Mallory leaves the signed time out, so that a device without a clock never
    notices that it is frozen; strict rules demand it, lenient ones don't."""
    plant = running(tmp_path)

    def change(signed: Any) -> None:
        del signed["x-issued"]

    name = serve_next(plant.world, role, changed(plant.world, role, change))
    plant.serve()
    refused(
        plant.device,
        MalformedError,
        "malformed",
        f"{role} v[24] has no x-iss",
        last=name,
    )
    walk = lenient_walk(plant.device)
    walk.top_level()
    assert walk.workflow.complete().time_floor == plant.world.clock.when


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21",
        "2026-11-21T10:00:00",
        "2026-11-21T10:00:00+01:00",
        "2026-13-21T10:00:00Z",
        "yesterday",
        "",
        1,
        None,
        ["2026-11-21T10:00:00Z"],
    ],
)
@pytest.mark.parametrize("role", ["root", "timestamp"])
def test_signed_time_that_is_none(tmp_path: Path, role: str, text: object) -> None:
    """The signed time is not one: refused, not taken for missing."""
    plant = running(tmp_path)

    def change(signed: Any) -> None:
        signed["x-issued"] = text

    name = serve_next(plant.world, role, changed(plant.world, role, change))
    plant.serve()
    refused(plant.device, MalformedError, "malformed", f"^{role}: x-issued", last=name)


@pytest.mark.parametrize(
    ("days", "role", "moved"),
    [
        (800, "root", []),
        (5, "timestamp", []),
        (15, "snapshot", ["timestamp"]),
        (200, "acme.pump-monitor", ["timestamp", "snapshot"]),
        (370, "targets", ["timestamp", "snapshot"]),
    ],
)
def test_signed_time_after_an_expiry(
    tmp_path: Path, days: int, role: str, moved: list[str]
) -> None:
    """Mallory, with timestamp's key, signs a time far ahead to make everything look
    expired for ever; a time beyond the expiry of a file of the same set counts for
    nothing, and honest files go on."""
    plant = running(tmp_path)
    world, device = plant.world, plant.device
    lasting = {one: 500 for one in world.roles if one != role}
    lasting["root"] = 730
    if role != "timestamp":
        lasting["timestamp"] = 900
    world.touch("targets", "acme", APPLICATION)
    world.publish(days={one: n for one, n in lasting.items() if one != role})
    plant.serve()
    assert device.version() == "1.1.0"
    floor = device.memory.time_floor

    ahead = issued(world.clock.when + timedelta(days=days))

    def change(signed: Any) -> None:
        signed["x-issued"] = ahead
        if role != "timestamp":
            signed["expires"] = "2099-01-01T00:00:00Z"

    world.bump("timestamp", 4)
    forged = resign(world.sign("timestamp"), world.signers["timestamp"], change)
    device.source.files.metadata["timestamp.json"] = forged
    error = refused(
        device, ExpiredError, "expired", "before the signed time", moved=moved
    )
    assert error.role == role
    assert device.memory.time_floor == floor

    world.publish_timestamp()
    plant.serve()
    assert device.version() == "1.1.0"
