"""Somebody who stole the keys of snapshot and timestamp, and writes where he likes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from margo_supplychain.authoring.role_signing import meta_of
from margo_supplychain.authoring.roles import RoleSigners
from margo_supplychain.authoring.signatures import Signers, signed_bytes
from tests.authoring.trust import key

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuf.api.metadata import MetaFile

    from tests.authoring.trust import Vendor

HIGHEST = 2**53 - 1  # no JSON reader takes more


def signed_as(role: str, signed: dict[str, Any], name: str) -> bytes:
    """Return a metadata file, signed by the key that a test calls `name`."""
    from tuf.api.metadata import Metadata

    signer = key(name)
    who = RoleSigners(role, {signer.public_key.keyid: signer.public_key}, 1)
    parsed = Metadata[Any].from_dict({"signatures": [], "signed": signed}).signed
    return signed_bytes(parsed, who, Signers([signer]))


def forge(
    vendor: Vendor,
    *,
    timestamp: int = HIGHEST,
    snapshot: int = HIGHEST - 1,
    change: Callable[[dict[str, dict[str, Any]]], None] = lambda _: None,
    name: str = "ci",
) -> dict[str, bytes]:
    """Return the files that he writes: a snapshot, and the timestamp that names it.

    Args:
        vendor: whose repository.
        timestamp, snapshot: versions.
        change: what he changes of the list.
        name: the key that he stole.
    """
    now = vendor.signed("timestamp.json")
    listed = now["meta"]["snapshot.json"]["version"]
    forged = vendor.signed(f"{listed}.snapshot.json")
    change(forged["meta"])
    forged["version"] = snapshot
    data = signed_as("snapshot", forged, name)
    now["version"] = timestamp
    now["meta"]["snapshot.json"] = entry(snapshot, data)
    return {
        f"{snapshot}.snapshot.json": data,
        "timestamp.json": signed_as("timestamp", now, name),
    }


def entry(version: int, data: bytes) -> dict[str, Any]:
    """Return what names a file."""
    found: MetaFile = meta_of(version, data)
    made: dict[str, Any] = json.loads(json.dumps(found.to_dict()))
    return made


def nonsense(meta: dict[str, dict[str, Any]]) -> None:
    """List roles in versions that do not exist, and one that nobody delegates to."""
    for name in meta:
        if name != "targets.json":
            meta[name] = entry(2**40, name.encode())
    meta["mallory.json"] = entry(7, b"mallory")


def write(vendor: Vendor, files: dict[str, bytes]) -> None:
    """Write the thief's files where they are served."""
    for name, data in files.items():
        (vendor.trust / "metadata" / name).write_bytes(data)
