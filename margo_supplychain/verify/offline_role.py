"""What the publisher's offline role says of an application: its publisher policy.

Read from the bytes of that role itself, whatever else might match the path. No policy:
deny (docs/explanation/trust-model.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain import threshold
from margo_supplychain.errors import PolicyError
from margo_supplychain.formats.publisher_policy import FORMAT, PublisherPolicy
from margo_supplychain.verify.remote import remote
from margo_supplychain.verify.workflow import delegation

if TYPE_CHECKING:
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.verify.chain import Chain
    from margo_supplychain.verify.limits import Limits
    from margo_supplychain.verify.memory import ReleaseFloor
    from margo_supplychain.verify.refresh import Walk


def publisher_policy(
    walk: Walk, chain: Chain, name: ReleaseName, limits: Limits
) -> PublisherPolicy:
    """Return the policy of `name` in the highest format that this device knows.

    Raises:
        PolicyError: there is none.
        MalformedError: it is no policy.
    """
    path = name.policy_path(FORMAT)
    file = chain.offline.signed.targets.get(path)
    # check 1.80: no publisher policy, no release
    if file is None:
        raise PolicyError(
            f"{chain.offline.file.label} has no policy {path} for {name}",
            hint="the publisher's offline key must sign one: margo-supplychain app add",
        )
    data = walk.target(path, file, limit=limits.policy)
    with remote(path):
        policy = PublisherPolicy.parse(data)
    # check 1.81: in `simple` one role says both what is required and what was done
    if chain.profile == "simple" and policy.asks_provenance:
        raise PolicyError(
            f"{name} demands provenance in a repository of the profile simple, which "
            "can't prove any"
        )
    return policy


def policy_file(chain: Chain, name: ReleaseName) -> dict[str, str]:
    """Return path and sha256 of the policy that was read, for the report."""
    path = name.policy_path(FORMAT)
    file = chain.offline.signed.targets[path]
    return {"path": path, "sha256": file.hashes["sha256"]}


def floor_today(
    walk: Walk, chain: Chain, floor: ReleaseFloor | None, policy: PublisherPolicy
) -> ReleaseFloor | None:
    """Return the floor, its epoch read as today's if its signers have lost the role.

    Otherwise the thief of a publisher key could raise the epoch beyond what anybody
    can reach. The version stays a floor.
    """
    if floor is None:
        return None
    offline = chain.offline.file.role
    above = chain.roles[0].file if offline != "targets" else walk.workflow.root.file
    found, keys = delegation(above, offline)
    if threshold.still_met(floor.policy_signers, keys, found.keyids, found.threshold):
        return floor
    return floor._replace(epoch=policy.epoch)
