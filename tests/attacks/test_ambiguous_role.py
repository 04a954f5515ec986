"""More than one role could speak for an application: that application is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, SuccinctRoles

from margo_supplychain.errors import AmbiguousRoleError
from margo_supplychain.formats.names import (
    ReleaseName,
    application_patterns,
    publisher_patterns,
)
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from tests.attacks.standing import refused
from tests.world import World
from tests.world.repository import key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Attack = Callable[[World], None]

PUMP = ReleaseName.parse("acme/pump-monitor")
ACME = publisher_patterns("acme")
POLICY = PublisherPolicy(epoch=1, provenance="none").to_bytes()


def delegate(parent: str, role: str, *paths: str, terminating: bool = True) -> Attack:
    return lambda world: world.delegate(parent, role, paths, terminating=terminating)


def remove_and_delegate(parent: str, gone: str, role: str, *paths: str) -> Attack:
    def attack(world: World) -> None:
        del world.roles[parent].delegations.roles[gone]
        world.delegate(parent, role, paths)

    return attack


def list_in(role: str, path: str) -> Attack:
    return lambda world: world.add_target(role, path, POLICY)


def hash_prefixes(parent: str, *prefixes: str) -> Attack:
    def attack(world: World) -> None:
        world.delegate(parent, "everything", ("x",))
        found = world.roles[parent].delegations.roles["everything"]
        world.roles[parent].delegations.roles["everything"] = DelegatedRole(
            "everything", found.keyids, 1, True, path_hash_prefixes=list(prefixes)
        )

    return attack


def bins(parent: str) -> Attack:
    def attack(world: World) -> None:
        public = key("bins").public_key
        world.roles[parent].delegations = Delegations(
            {public.keyid: public},
            succinct_roles=SuccinctRoles([public.keyid], 1, 4, "bin"),
        )
        world.touch(parent)

    return attack


def world_of_two() -> World:
    world = World(publishers=("acme", "bolt"))
    world.release("1.0.0")
    world.release("1.0.0", "acme/valve")
    world.release("1.0.0", "bolt/valve")
    world.publish()
    return world


# What the operator, or who stole the key of `targets`, adds. Bolt lives on.
BY_OPERATOR = {
    "another publisher": delegate("targets", "mallory", "acme/releases/*/*"),
    "before the true one": remove_and_delegate("targets", "acme", "mallory", *ACME),
    "policies alone": delegate("targets", "mallory", "acme/policies/pump-monitor/*"),
    "layouts alone": delegate("targets", "mallory", "acme/layouts/pump-monitor/1.json"),
    "one application": delegate("targets", "mallory", "acme/releases/pump-monitor/*"),
    "one release": delegate("targets", "mallory", "acme/releases/pump-monitor/9.0.0"),
    "any kind": delegate("targets", "mallory", "acme/*/*/*"),
    "question marks": delegate("targets", "mallory", "acm?/release?/pump?monitor/*"),
    "character classes": delegate("targets", "mallory", "acme/[p-r]eleases/[a-z]*/*"),
    "application role at the top": delegate(
        "targets", "acme.pump-monitor", *application_patterns(PUMP)
    ),
    "not terminating": delegate("targets", "acme", *ACME, terminating=False),
    "an extra path": delegate("targets", "acme", *ACME, "acme/other/*/*"),
    "a missing path": delegate("targets", "acme", *ACME[:2]),
    "a path twice": delegate("targets", "acme", *ACME, ACME[0]),
    "a narrower path": delegate("targets", "acme", "acme/releases/p*/*", *ACME[1:]),
    "a release in targets": list_in("targets", PUMP.release_path("9.0.0")),
    "a policy in targets": list_in("targets", PUMP.policy_path(1)),
    "a newer policy in targets": list_in("targets", PUMP.policy_path(2)),
    "a layout in targets": list_in("targets", PUMP.layout_path(1)),
}

# What the publisher, or who stole its key, adds. The valve lives on.
BY_PUBLISHER = {
    "a second role": delegate("acme", "acme.mallory", *application_patterns(PUMP)),
    "another name for the role": remove_and_delegate(
        "acme", PUMP.role, "acme.mallory", *application_patterns(PUMP)
    ),
    "a foreign role": remove_and_delegate(
        "acme", PUMP.role, "bolt.valve", *application_patterns(PUMP)
    ),
    "a foreign role beside it": delegate("acme", "bolt", "acme/releases/pump-*/*"),
    "not terminating": delegate(
        "acme", PUMP.role, *application_patterns(PUMP), terminating=False
    ),
    "its policies too": delegate(
        "acme", PUMP.role, *application_patterns(PUMP), "acme/policies/pump-monitor/*"
    ),
    "its layouts too": delegate(
        "acme", PUMP.role, *application_patterns(PUMP), "acme/layouts/pump-monitor/*"
    ),
    "a role for its policies": delegate(
        "acme", "acme.mallory", "acme/policies/pump-monitor/*"
    ),
    "a narrower path": delegate("acme", PUMP.role, "acme/releases/pump-monitor/?.0.0"),
    "a release in the publisher role": list_in("acme", PUMP.release_path("9.0.0")),
    "delegates further": delegate(PUMP.role, "acme.mallory", "elsewhere/*"),
    "delegates further to bins": bins(PUMP.role),
}

# What hits every application of the role that delegates so.
TO_ALL = {
    "every publisher": (delegate("targets", "mallory", "*/releases/*/*"), True),
    "every path": (delegate("targets", "mallory", "*/*/*/*"), True),
    "hash prefixes in targets": (hash_prefixes("targets", "00"), True),
    "bins in targets": (bins("targets"), True),
    "all of a publisher": (
        delegate("acme", "acme.mallory", "acme/releases/*/*"),
        False,
    ),
    "hash prefixes of a publisher": (hash_prefixes("acme", "0", "f"), False),
    "bins of a publisher": (bins("acme"), False),
}


@pytest.mark.parametrize("attack", BY_OPERATOR.values(), ids=BY_OPERATOR)
def test_two_roles_could_speak_for_a_publisher(tmp_path: Path, attack: Attack) -> None:
    """An operator delegates a publisher's names otherwise than to it alone."""
    world = world_of_two()
    device = world.device(tmp_path, publishers=frozenset({"acme", "bolt"}))
    assert device.install() == "1.0.0"  # sane

    attack(world)
    device.source.files = world.publish()
    with refused(
        device, AmbiguousRoleError, "ambiguous-role", match="targets v", newer=True
    ):
        device.verify()
    assert device.version("bolt/valve") == "1.0.0"


@pytest.mark.parametrize("attack", BY_PUBLISHER.values(), ids=BY_PUBLISHER)
def test_two_roles_could_list_a_release(tmp_path: Path, attack: Attack) -> None:
    """A publisher delegates an application otherwise than to its role alone."""
    world = world_of_two()
    device = world.device(tmp_path, publishers=frozenset({"acme", "bolt"}))
    assert device.install() == "1.0.0"  # sane

    attack(world)
    device.source.files = world.publish()
    with refused(
        device, AmbiguousRoleError, "ambiguous-role", match="pump-monitor", newer=True
    ):
        device.verify()
    assert device.version("acme/valve") == "1.0.0"
    assert device.version("bolt/valve") == "1.0.0"


@pytest.mark.parametrize(("attack", "all_publishers"), TO_ALL.values(), ids=TO_ALL)
def test_a_delegation_that_matches_everything(
    tmp_path: Path, attack: Attack, all_publishers: bool
) -> None:
    """Wildcards, hash prefixes and bins match whatever a publisher may ever release."""
    world = world_of_two()
    device = world.device(tmp_path, publishers=frozenset({"acme", "bolt"}))
    assert device.install() == "1.0.0"  # sane

    attack(world)
    device.source.files = world.publish()
    names = ["acme/pump-monitor", "acme/valve"]
    if all_publishers:
        names.append("bolt/valve")
    else:
        assert device.version("bolt/valve") == "1.0.0"
    for name in names:
        with refused(
            device,
            AmbiguousRoleError,
            "ambiguous-role",
            match=" delegates ",
            newer=True,
        ):
            device.verify(name)


def test_a_delegation_that_matches_nothing_of_ours(tmp_path: Path) -> None:
    """Globs never cross a slash: such a delegation bars nobody, and helps nobody."""
    world = world_of_two()
    device = world.device(tmp_path, publishers=frozenset({"acme", "bolt"}))
    assert device.install() == "1.0.0"  # sane

    paths = (
        "*",
        "acme/*",
        "acme/releases/*",
        "acme/releases/pump-monitor/*/*",
        "*/*/*",
    )
    world.delegate("targets", "mallory", (*paths, "acme/releases/pump/*"))
    world.delegate("acme", "acme.mallory", (*paths, "acme/builds/pump-monitor/*"))
    device.source.files = world.publish()
    assert device.version() == "1.0.0"


def test_an_application_listed_by_two_roles(tmp_path: Path) -> None:
    """Both roles are signed and both list a release: neither is taken."""
    world = world_of_two()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane

    world.delegate("acme", "acme.twin", application_patterns(PUMP))
    twin = world.record(PUMP, "1.1.0", world.artifact(b"twin"))
    world.list_record("acme.twin", twin)
    world.release("1.1.0")
    device.source.files = world.publish()
    with refused(
        device, AmbiguousRoleError, "ambiguous-role", match="in another way", newer=True
    ):
        device.verify()
    assert device.version("acme/valve") == "1.0.0"
