"""What a proposed root says: from a plan, and from the root before it.

Whatever another tool wrote into the trusted root (its own fields of root, of a role or
of a key) is carried along as it stands.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING, Any

from tuf.api.metadata import Role, Root

from margo_supplychain import threshold
from margo_supplychain.authoring.key_rules import ids_by_material
from margo_supplychain.authoring.plan import TOP_ROLES, RoleKeys
from margo_supplychain.authoring.root_fields import OURS, root_fields
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.times import format_time, parse_time
from margo_supplychain.formats.tuf_metadata import ISSUED

if TYPE_CHECKING:
    from datetime import datetime

    from margo_supplychain.authoring.plan import RootPlan


def first_root(plan: RootPlan, now: datetime) -> dict[str, Any]:
    """Return the signed part of a repository's first root."""
    now = now.astimezone(UTC).replace(microsecond=0)
    signed: dict[str, Any] = Root(
        expires=now + plan.period("root"),
        keys={key.keyid: key for role in TOP_ROLES for key in plan.top[role].keys},
        roles={
            role: Role(list(plan.top[role].keyids), plan.top[role].threshold)
            for role in TOP_ROLES
        },
        consistent_snapshot=True,
        unrecognized_fields={ISSUED: format_time(now), **root_fields(plan)},
    ).to_dict()
    return signed


def keeping_ids(plan: RootPlan, trusted: Root) -> RootPlan:
    """Return a plan in which each key that a trusted root has keeps its id there.

    Another tool may have given it another one than its file says.
    """
    stands = ids_by_material(trusted.keys)
    ids = {
        key.keyid: stands.get(threshold.material(key), key.keyid)
        for role in TOP_ROLES
        for key in plan.top[role].keys
        if key.keyid not in trusted.keys
    }
    if all(before == keyid for before, keyid in ids.items()):
        return plan

    def kept(keys: RoleKeys) -> RoleKeys:
        found = (trusted.keys.get(ids.get(one.keyid, ""), one) for one in keys.keys)
        return RoleKeys(keys=tuple(found), threshold=keys.threshold)

    holders = {ids.get(keyid, keyid): one for keyid, one in plan.holders.items()}
    top: dict[str, Any] = {role: kept(plan.top[role]) for role in TOP_ROLES}
    return replace(plan, holders=holders, **top)


def next_root(trusted: bytes, plan: RootPlan, now: datetime) -> dict[str, Any]:
    """Return the signed part of the root after a trusted one.

    It is issued now; or when that one was, where its proposer's clock was ahead.
    """
    now = now.astimezone(UTC).replace(microsecond=0)
    signed: dict[str, Any] = strict_json.parse(
        trusted, what="trusted root", limit=LIMITS.root
    )["signed"]
    issued = signed.get(ISSUED)
    if issued is not None:
        now = max(now, parse_time(issued, what=f"{ISSUED} of root"))
    known: dict[str, Any] = signed["keys"]
    signed["keys"] = {
        key.keyid: known.get(key.keyid, key.to_dict())
        for role in TOP_ROLES
        for key in plan.top[role].keys
    }
    for role in TOP_ROLES:
        signed["roles"][role]["keyids"] = list(plan.top[role].keyids)
        signed["roles"][role]["threshold"] = plan.top[role].threshold
    for name in OURS:
        signed.pop(name, None)
    signed["version"] += 1
    signed["expires"] = format_time(now + plan.period("root"))
    signed[ISSUED] = format_time(now)
    return {**signed, **root_fields(plan)}
