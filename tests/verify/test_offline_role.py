"""How a release floor reads when its signers have lost the role."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.formats.versions import Version
from margo_supplychain.verify.memory import ReleaseFloor
from margo_supplychain.verify.offline_role import floor_today

FLOOR = ReleaseFloor(
    epoch=7,
    version=Version.parse("1.0.0"),
    artifact=Digest.of(b""),
    policy_signers=frozenset({"gone"}),
)
POLICY = PublisherPolicy(epoch=2, provenance="none")


def chain_of(delegations: Any) -> Any:
    role = SimpleNamespace(
        signed=SimpleNamespace(delegations=delegations),
        file=SimpleNamespace(role="acme"),
    )
    return SimpleNamespace(profile="delegated", roles=(role,), offline=role)


def test_no_floor_is_no_floor() -> None:
    assert floor_today(cast("Any", None), chain_of(None), None, POLICY) is None


def test_what_can_not_be_asked_keeps_the_floor() -> None:
    """Such a chain is never followed; were it, the floor would stand as it is."""
    for delegations in (None, SimpleNamespace(roles=None)):
        found = floor_today(cast("Any", None), chain_of(delegations), FLOOR, POLICY)
        assert found is FLOOR
