"""Signed metadata in which any one value is something else.

Others' clients crashed on such files (a null, a short key, no hashes), or passed them.
"""

from __future__ import annotations

import json
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import (
    InconclusiveError,
    MalformedError,
    VerificationError,
)
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.verify.policy import Policy
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.attacks.scenes import (
    APPLICATION,
    ON_THE_WAY,
    ROLES,
    changed,
    refused,
    running,
    serve_next,
)
from tests.world import MemorySource
from tests.world.device import SIGNED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.world import Device, World

NAME = ReleaseName.parse("acme/pump-monitor")
PIN = Pin.parse_argument("*")
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**53,
    "",
    "\x00",
    "../../x",
    "\u0663",
    [],
    {},
    [None],
    {"": None},
    [[]],
)
REFUSALS = {
    "malformed",
    "threshold",
    "mix-and-match",
    "expired",
    "ambiguous-role",
    "unknown-target",
    "policy",
    "too-large",
    "fetch",
    "digest-mismatch",
    "length-mismatch",
    "no-matching-version",
}
Place = tuple[Any, ...]


def places(value: Any, above: Place = ()) -> Iterator[Place]:
    """Yield the place of every value inside a document."""
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for step, item in inner:
        yield (*above, step)
        yield from places(item, (*above, step))


def put(document: Any, place: Place, value: Any) -> None:
    for step in place[:-1]:
        document = document[step]
    document[place[-1]] = value


def outcome(world: World, device: Device) -> str:
    """Return what a device without memory says: a version, or an error's code."""
    source = MemorySource(world.files)
    verifier = Verifier(
        store=TrustStore.unsafe_without_memory(
            root=world.files.metadata["1.root.json"]
        ),
        source=source,
        content=device,
        policy=Policy.from_toml(SIGNED),
        clock=device.clock,
    )
    try:
        return str(verifier.verify(NAME, PIN).version)
    except (VerificationError, InconclusiveError) as why:
        return why.code


@pytest.mark.parametrize("role", ROLES)
def test_any_value_replaced(tmp_path: Path, role: str) -> None:
    """Mallory holds a role's keys and signs something else in any one place: a refusal
    by name, or the answer as it was; never another exception."""
    plant = running(tmp_path)
    document = json.loads(plant.world.sign(role))
    values = cycle(VALUES)
    outcomes = set()
    for place in places(document["signed"]):
        for _ in range(3):
            world, value = plant.world.copy(), next(values)
            change = partial(put, place=place, value=value)
            make = changed(world, role, change)
            serve_next(world, role, make)
            found = outcome(world, plant.device)
            outcomes.add(found)
    assert "malformed" in outcomes
    # The application's role says itself which releases there are.
    answers = {"1.1.0", "1.0.0"} if role == APPLICATION else {"1.1.0"}
    assert outcomes - answers <= REFUSALS


@pytest.mark.parametrize("role", ROLES)
def test_any_signature_value_replaced(tmp_path: Path, role: str) -> None:
    """The same outside of what is signed, where nobody's key is needed."""
    plant = running(tmp_path)
    document = json.loads(plant.world.sign(role))
    for place in [("signatures",), *places(document["signatures"], ("signatures",))]:
        for value in VALUES:
            world = plant.world.copy()

            def make(data: bytes, p: Place = place, v: Any = value) -> bytes:
                raw = json.loads(data)
                put(raw, p, v)
                return json.dumps(raw).encode()

            serve_next(world, role, make)
            assert outcome(world, plant.device) in {"malformed", "threshold"}


def short_key(signed: Any) -> None:
    for key in signed["delegations"]["keys"].values():
        key["keyval"]["public"] = key["keyval"]["public"][:-2]


def null_keys(signed: Any) -> None:
    signed["delegations"]["keys"] = None


def traversal(signed: Any) -> None:
    signed["delegations"]["roles"][0]["name"] = "../../root"


def top_level_name(signed: Any) -> None:
    signed["delegations"]["roles"][0]["name"] = "snapshot"


def same_role_twice(signed: Any) -> None:
    signed["delegations"]["roles"] *= 2


def paths_and_prefixes(signed: Any) -> None:
    signed["delegations"]["roles"][0]["path_hash_prefixes"] = ["00"]


def neither_paths_nor_prefixes(signed: Any) -> None:
    del signed["delegations"]["roles"][0]["paths"]


def bins(bit_length: Any) -> Callable[[Any], None]:
    def change(signed: Any) -> None:
        role = signed["delegations"]["roles"][0]
        del signed["delegations"]["roles"]
        signed["delegations"]["succinct_roles"] = {
            "keyids": role["keyids"],
            "threshold": 1,
            "bit_length": bit_length,
            "name_prefix": "bin",
        }

    change.__name__ = f"bins of {bit_length}"
    return change


def no_hashes(signed: Any) -> None:
    for file in signed["targets"].values():
        file["hashes"] = {}


MALFORMED = (
    short_key,
    null_keys,
    top_level_name,
    same_role_twice,
    paths_and_prefixes,
    neither_paths_nor_prefixes,
    bins(0),
    bins(33),
    bins(-1),
    bins(True),
    bins(None),
    bins("8"),
    no_hashes,
)


@pytest.mark.parametrize("change", MALFORMED, ids=lambda change: change.__name__)
def test_what_other_clients_took(tmp_path: Path, change: Callable[[Any], None]) -> None:
    """A publisher's file holds what other clients crashed on or let pass."""
    plant = running(tmp_path)
    name = serve_next(plant.world, "acme", changed(plant.world, "acme", change))
    plant.serve()
    refused(
        plant.device,
        MalformedError,
        "malformed",
        "^(acme|key id)",
        last=name if change is not no_hashes else None,
        moved=[*ON_THE_WAY["acme"], "timestamp_time", "root_time"],
    )


def test_delegation_to_a_name_with_steps(tmp_path: Path) -> None:
    """A delegated role's name climbs out of the directory; no file is asked for by it,
    and none is written by it."""
    plant = running(tmp_path)
    name = serve_next(plant.world, "acme", changed(plant.world, "acme", traversal))
    plant.serve()
    with pytest.raises(VerificationError) as caught:
        plant.device.verify()
    assert caught.value.code == "ambiguous-role"
    assert plant.device.source.asked[-1] == name
    assert not any(".." in asked for asked in plant.device.source.asked)
