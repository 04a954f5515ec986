"""Metadata of any shape is metadata or a format error, before any signature."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.formats.tuf_metadata import parse_role

if TYPE_CHECKING:
    from collections.abc import Iterator

ODD: tuple[Any, ...] = (None, 5, -1, 1.5, True, "", "x", [], [5], {}, {"": None})


def files() -> Iterator[tuple[str, Root | Timestamp | Snapshot | Targets]]:
    signer = CryptoSigner.generate_ed25519()
    key = signer.public_key
    root = Root()
    for role in root.roles:
        root.add_key(key, role)
    yield "root", root
    yield "timestamp", Timestamp(snapshot_meta=MetaFile(1, 5, {"sha256": "0" * 64}))
    yield "snapshot", Snapshot(meta={"targets.json": MetaFile(1, 5, {"sha256": "00"})})
    file = TargetFile(5, {"sha256": "0" * 64}, "acme/a", {"custom": {"a": 1}})
    acme = DelegatedRole("acme", [key.keyid], 1, terminating=True, paths=["acme/*"])
    below = Delegations({key.keyid: key}, {"acme": acme})
    yield "targets", Targets(targets={"acme/a": file}, delegations=below)
    bins = Delegations(
        {key.keyid: key}, succinct_roles=SuccinctRoles([key.keyid], 1, 4, "bin")
    )
    yield "acme", Targets(delegations=bins)


FILES = {
    role: json.loads(Metadata[Any](signed).to_bytes()) | {"signatures": []}
    for role, signed in files()
}


def places(value: Any) -> Iterator[tuple[str | int, ...]]:
    """Yield where every value of a document is."""
    inside: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    for at, below in inside:
        yield (at,)
        for rest in places(below):
            yield (at, *rest)


def changed(document: Any, place: tuple[str | int, ...], value: Any) -> bytes:
    made = copy.deepcopy(document)
    inner = made
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return json.dumps(made).encode()


@pytest.mark.parametrize("role", FILES)
def test_any_value_anywhere(role: str) -> None:
    parse_role(json.dumps(FILES[role]).encode(), role=role, limit=1 << 20)
    for place in places(FILES[role]):
        for value in ODD:
            with suppress(MetadataFormatError):  # no other error gets out
                parse_role(changed(FILES[role], place, value), role=role, limit=1 << 20)


@pytest.mark.parametrize("value", [None, 5, "x", []])
@pytest.mark.parametrize("field", ["keys", "roles"])
def test_root_without_keys_or_roles(field: str, value: object) -> None:
    data = changed(FILES["root"], ("signed", field), value)
    with pytest.raises(MetadataFormatError, match="no object"):
        parse_role(data, role="root", limit=1 << 20)


@pytest.mark.parametrize("value", [5, "x", {"acme": 1}])
def test_delegations_that_are_no_list(value: object) -> None:
    data = changed(FILES["targets"], ("signed", "delegations", "roles"), value)
    with pytest.raises(MetadataFormatError, match="no list"):
        parse_role(data, role="targets", limit=1 << 20)
