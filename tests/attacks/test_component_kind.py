"""A component of a Compose profile does not say that it is a Compose archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import DeploymentError
from tests.attacks.packages import COMPOSE, artifact, component, member, package, packed
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path

EVIL = packed(member("web/compose.yaml", COMPOSE), member("../evil", b"x"))


def test_compose_component_of_another_type(tmp_path: Path) -> None:
    """An archive that would escape its directory is called a plain file.

    The agent goes by the profile and would extract it; the device refuses, and keeps
    no trace of having fetched it.
    """
    world = World()
    untyped = artifact(
        world, [("application/octet-stream", "web.tar.gz", EVIL)], kind="application/x"
    )
    package(world, components=[component(untyped, kind="compose")])
    world.publish()
    device = world.device(tmp_path)
    device.verify()  # sane: signed, and nothing is fetched yet
    before = device.memory

    with pytest.raises(DeploymentError, match=r"expected application/vnd\.org\.margo"):
        device.fetch()
    assert device.memory == before
