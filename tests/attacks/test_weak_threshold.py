"""Thresholds and key ids that would let nobody's signature count."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import MalformedError, ThresholdError
from margo_supplychain.threshold import MAX_SIGNATURES
from tests.attacks.scenes import (
    ON_THE_WAY,
    ROLES,
    changed,
    refused,
    running,
    serve_next,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

THRESHOLDS = (0, -1, True, False, 1.0, 0.5, "1", None)


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("delegator", ["root", "targets", "acme"])
def test_threshold_that_is_no_number_from_one(
    tmp_path: Path, delegator: str, threshold: object
) -> None:
    """The delegator's file has a threshold that nothing, or any comparison, meets."""
    plant = running(tmp_path)

    def weaken(signed: Any) -> None:
        if delegator == "root":
            signed["roles"]["timestamp"]["threshold"] = threshold
        else:
            signed["delegations"]["roles"][0]["threshold"] = threshold

    name = serve_next(plant.world, delegator, changed(plant.world, delegator, weaken))
    plant.serve()
    refused(
        plant.device,
        MalformedError,
        "malformed",
        f"^{delegator}: ",
        last=name,
        moved=ON_THE_WAY[delegator],
    )


def rename_key(group: Any, roles: Any) -> None:
    """Give one key a key id that is not computed from it."""
    keyid = roles[0]["keyids"][0]
    other = "0" * len(keyid)
    group["keys"][other] = group["keys"].pop(keyid)
    for role in roles:
        role["keyids"] = [other if one == keyid else one for one in role["keyids"]]


def drop_key(group: Any, roles: Any) -> None:
    """List a key id without its key."""
    del group["keys"][roles[0]["keyids"][0]]


def swap_key(group: Any, roles: Any) -> None:
    """Put another key under a key id that people have compared."""
    keyid = roles[0]["keyids"][0]
    stranger = {
        "public": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    }
    group["keys"][keyid] = {
        "keytype": "ed25519",
        "scheme": "ed25519",
        "keyval": stranger,
    }


@pytest.mark.parametrize("spoil", [rename_key, drop_key, swap_key])
@pytest.mark.parametrize("delegator", ["root", "targets", "acme"])
def test_key_id_that_is_not_computed(
    tmp_path: Path, delegator: str, spoil: Callable[[Any, Any], None]
) -> None:
    """A key stands under an id of Mallory's choice, so that what people compared says
    nothing about it; clients compute key ids (TUF 4.2)."""
    plant = running(tmp_path)

    def change(signed: Any) -> None:
        if delegator == "root":
            spoil(signed, [signed["roles"]["timestamp"]])
        else:
            spoil(signed["delegations"], signed["delegations"]["roles"])

    name = serve_next(plant.world, delegator, changed(plant.world, delegator, change))
    plant.serve()
    role = {"root": "timestamp", "targets": "acme", "acme": "acme.pump-monitor"}
    refused(
        plant.device,
        MalformedError,
        "malformed",
        f"key id .* of {role[delegator]} in {delegator} v[0-9] is not computed",
        last=name,
        moved=ON_THE_WAY[delegator],
    )


@pytest.mark.parametrize("role", ROLES)
def test_many_signatures(tmp_path: Path, role: str) -> None:
    """Mallory adds hundreds of signatures, each of which would cost time to check;
    they are counted before any of them is looked at."""
    plant = running(tmp_path)

    def pad(data: bytes) -> bytes:
        raw = json.loads(data)
        raw["signatures"] += [
            {"keyid": f"{number:x}", "sig": ""} for number in range(MAX_SIGNATURES)
        ]
        return json.dumps(raw).encode()

    name = serve_next(plant.world, role, pad)
    plant.serve()
    refused(
        plant.device,
        ThresholdError,
        "threshold",
        f"{role} has 257 signatures, more than 256",
        last=name,
        moved=ON_THE_WAY[role],
    )


def test_unknown_signatures_beside_the_right_one(tmp_path: Path) -> None:
    """Sanity: signatures of unknown keys are passed over, up to the limit."""
    plant = running(tmp_path)

    def pad(data: bytes) -> bytes:
        raw = json.loads(data)
        raw["signatures"] += [
            {"keyid": f"{number:x}", "sig": ""} for number in range(MAX_SIGNATURES - 1)
        ]
        return json.dumps(raw).encode()

    serve_next(plant.world, "timestamp", pad)
    plant.serve()
    assert plant.device.version() == "1.1.0"
    assert plant.device.trusted["timestamp"] == 4
