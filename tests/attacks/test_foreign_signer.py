"""A role signs what another role alone may say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.errors import (
    NoMatchingVersionError,
    PolicyError,
    ProvenanceError,
    UnknownTargetError,
)
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.formats.versions import Version
from tests.attacks.standing import refused, stands
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path

PUMP = ReleaseName.parse("acme/pump-monitor")
LAX = PublisherPolicy(epoch=9, provenance="none").to_bytes()


def test_one_publisher_signs_the_name_of_another(tmp_path: Path) -> None:
    """Bolt lists releases of acme's applications, known and unknown ones."""
    world = World(publishers=("acme", "bolt"))
    world.release("1.0.0")
    world.release("1.0.0", "bolt/valve")
    world.publish()
    device = world.device(tmp_path, publishers=frozenset({"acme", "bolt"}))
    assert device.install() == "1.0.0"  # sane
    before = stands(device)

    for name in ("acme/pump-monitor", "acme/ghost"):
        parsed = ReleaseName.parse(name)
        artifact = world.artifact(b"made by bolt")
        forged = world.record(parsed, "9.0.0", artifact)
        for role in ("bolt", "bolt.valve"):
            world.list_record(role, forged)
            world.add_target(role, parsed.policy_path(1), LAX)
    device.source.files = world.publish()
    assert device.version() == "1.0.0"
    assert stands(device) == before
    with refused(
        device,
        UnknownTargetError,
        "unknown-target",
        match="acme v. delegates to nobody",
    ):
        device.verify("acme/ghost")
    assert device.version("bolt/valve") == "1.0.0"


def test_a_publisher_that_nobody_delegates_to(tmp_path: Path) -> None:
    """A repository that lost a publisher says so, also about its policies."""
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path, publishers=frozenset({"acme", "bolt"}))
    assert device.version() == "1.0.0"  # sane
    with refused(
        device,
        UnknownTargetError,
        "unknown-target",
        match="targets v. delegates to nobody",
    ):
        device.verify("bolt/valve")


def test_a_publisher_without_applications(tmp_path: Path) -> None:
    """A publisher's own list and policy make no application without a role for it."""
    world = World(publishers=("acme", "bolt"))
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path, publishers=frozenset({"acme", "bolt"}))
    assert device.version() == "1.0.0"  # sane

    world.set_policy("bolt/valve", PublisherPolicy(epoch=1, provenance="none"))
    device.source.files = world.publish()
    with refused(
        device,
        UnknownTargetError,
        "unknown-target",
        match="bolt v. delegates to nobody for bolt/valve",
        newer=True,
    ):
        device.verify("bolt/valve")


def test_an_application_role_signs_a_policy(tmp_path: Path) -> None:
    """A stolen CI key signs a policy without the publisher's minimum."""
    world = World()
    world.add_application(
        policy=PublisherPolicy(
            epoch=1, provenance="none", minimum_version=Version.parse("2.0.0")
        )
    )
    world.release("2.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.version() == "2.0.0"  # sane

    world.release("1.0.0")
    world.add_target(PUMP.role, PUMP.policy_path(1), LAX)
    device.source.files = world.publish()
    with refused(
        device,
        NoMatchingVersionError,
        "no-matching-version",
        match=r"below the publisher's minimum 2\.0\.0",
        newer=True,
    ):
        device.verify(pin="1.0.0")
    assert device.verify().epoch == 1


def test_an_application_role_signs_the_only_policy(tmp_path: Path) -> None:
    """Without a policy by the offline role there is none, whoever else signs one."""
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.version() == "1.0.0"  # sane

    path = PUMP.policy_path(1)
    del world.roles["acme"].targets[path]
    world.add_target(PUMP.role, path, LAX)
    world.touch("acme")
    device.source.files = world.publish()
    with refused(
        device, PolicyError, "policy", match="acme v. has no policy", newer=True
    ):
        device.verify()


def test_an_application_role_signs_a_layout(tmp_path: Path) -> None:
    """A layout in the application role does not answer a demand for provenance."""
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.version() == "1.0.0"  # sane

    world.set_policy(str(PUMP), PublisherPolicy(epoch=1, provenance="required"))
    world.add_target(PUMP.role, PUMP.layout_path(1), b'{"payload": ""}')
    world.add_target(PUMP.role, PUMP.policy_path(1), LAX)
    device.source.files = world.publish()
    with refused(
        device, ProvenanceError, "provenance", match="names no layout", newer=True
    ):
        device.verify()


def test_an_application_role_signs_another_application(tmp_path: Path) -> None:
    """A stolen CI key of the valve lists a pump monitor."""
    world = World()
    world.release("1.0.0")
    world.release("1.0.0", "acme/valve")
    world.publish()
    device = world.device(tmp_path)
    assert device.version() == "1.0.0"  # sane
    before = stands(device)

    forged = world.record(PUMP, "9.0.0", world.artifact(b"not a pump monitor"))
    world.list_record("acme.valve", forged)
    device.source.files = world.publish()
    assert device.version() == "1.0.0"
    assert device.version("acme/valve") == "1.0.0"
    assert stands(device) == before
