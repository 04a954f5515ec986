"""Three holders, two of whom must sign: plans, proposals, and who changes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from securesystemslib.signer import CryptoSigner, Signature

from margo_supplychain.authoring.holders import Holder
from margo_supplychain.authoring.plan import RoleKeys, RootPlan
from margo_supplychain.authoring.proposals import RootProposal, SignedRoot
from margo_supplychain.formats import canonical_json, strict_json
from tests.authoring.trust import NOW, key

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES: Final = ("a", "b", "c")


def role(*names: str, threshold: int = 1) -> RoleKeys:
    keys = tuple(key(name).public_key for name in names)
    return RoleKeys(keys=keys, threshold=threshold)


def keyid(name: str) -> str:
    return key(name).public_key.keyid


def plan(*names: str, threshold: int = 2, **changes: Any) -> RootPlan:
    """Return a plan in which these hold root; targets and online keys stay apart."""
    names = names or NAMES
    parts: dict[str, Any] = {
        "targets": role("targets"),
        "snapshot": role("online"),
        "timestamp": role("online"),
        "holders": {keyid(name): Holder(name=f"holder {name}") for name in names},
    }
    return RootPlan(
        profile="standard", root=role(*names, threshold=threshold), **parts | changes
    )


def first(*signers: str, **changes: Any) -> RootProposal:
    return signed(RootProposal.first(plan(**changes), now=NOW), *signers)


def trusted(**changes: Any) -> SignedRoot:
    return first(*NAMES, **changes).finalize()


def following(wanted: RootPlan, *signers: str, after: bytes = b"") -> RootProposal:
    proposal = RootProposal.following(after or trusted().data, wanted, now=NOW)
    return signed(proposal, *signers)


def signed(proposal: RootProposal, *names: str) -> RootProposal:
    for name in names:
        proposal = proposal.sign(key(name))
    return proposal


def edited(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return a root of which somebody changed the signed part."""
    value: dict[str, Any] = json.loads(data)
    change(value["signed"])
    return strict_json.canonical(value)


def envelope(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return a root of which somebody changed what is around the signed part."""
    value: dict[str, Any] = json.loads(data)
    change(value)
    return strict_json.canonical(value)


def entries(data: bytes) -> dict[str, str]:
    """Return the signatures of a file, by key id."""
    return {one["keyid"]: one["sig"] for one in json.loads(data)["signatures"]}


def resigned(data: bytes, *names: str) -> bytes:
    """Return a root with signatures of these alone, whatever it says."""
    value: dict[str, Any] = json.loads(data)
    payload = canonical_json.encode(value["signed"])
    value["signatures"] = [
        Signature(keyid(name), key(name).sign(payload).signature).to_dict()
        for name in names
    ]
    return strict_json.canonical(value)


def throwaway() -> CryptoSigner:
    return CryptoSigner.generate_ecdsa()
