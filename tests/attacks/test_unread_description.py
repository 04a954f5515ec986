"""margo.yaml holds what our reader drops, and an agent's reader may deploy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import DeploymentError
from margo_supplychain.formats import oci
from tests.attacks.packages import (
    COMPOSE,
    DESCRIPTION,
    component,
    compose,
    member,
    package,
    packed,
)
from tests.attacks.standing import refused
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path

TEXT = DESCRIPTION.decode()
HEAD, PROFILES = TEXT.split("deploymentProfiles:\n")
EVIL = "{repository: 'oci://evil.example/x', revision: 9.9.9}"
CASES = {
    "a type of the other generation": TEXT
    + f"""\
  - type: helm.v3
    id: evil
    components:
      - name: evil
        properties: {EVIL}
""",
    "a component of no grammatical name": TEXT
    + f"""\
      - name: Evil_One
        properties: {EVIL}
""",
    "a component that stands twice": TEXT.replace(
        "      - name: web\n",
        f"      - name: web\n        properties: {EVIL}\n      - name: web\n",
    ),
    "a profile that stands twice": (
        f"{HEAD}deploymentProfiles:\n"
        f"{PROFILES.replace('acme/web', 'evil/web')}{PROFILES}"
    ),
    "a profile that is no mapping": f"{TEXT}  - evil\n",
    "a component that is no mapping": f"{TEXT}      - evil\n",
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_reader_drops_is_not_called_complete(
    tmp_path: Path, case: str
) -> None:
    """The application key signs a package whose description has a second reading."""
    world = World()
    package(world)
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "2.0.0"  # sane: the same without the second reading

    package(world, CASES[case].encode(), version="2.1.0", application_version="2.0")
    device.source.files = world.publish()
    device.verify()
    with refused(device, DeploymentError, "deployment", match="^margo.yaml "):
        device.fetch()


def test_unread_profile_beside_what_a_partial_release_signs(tmp_path: Path) -> None:
    """An honest adoption: what can't be read is another profile, and it is said."""
    world = World()
    text = CASES["a type of the other generation"].encode()
    package(world, text, closure="partial")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "2.0.0"

    twice = CASES["a component that stands twice"].encode()
    package(
        world,
        twice,
        version="2.1.0",
        application_version="2.0",
        closure="partial",
    )
    device.source.files = world.publish()
    device.verify()
    with refused(device, DeploymentError, "deployment", match="of profile compose"):
        device.fetch()


def test_profile_of_another_type_than_signed(tmp_path: Path) -> None:
    """Called `custom` in the record, its archive would not be checked as Compose."""
    world = World()
    package(world)
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "2.0.0"

    archive = compose(world, packed(member("web/compose.yaml", COMPOSE)))
    package(
        world,
        components=[component(archive, kind="custom")],
        version="2.1.0",
        application_version="2.0",
    )
    device.source.files = world.publish()
    device.verify()
    with refused(device, DeploymentError, "deployment", match="of type custom"):
        device.fetch()


def test_two_descriptions(tmp_path: Path) -> None:
    """One by its title, another by its media type: an agent may read either."""
    world = World()
    package(world)
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "2.0.0"

    evil = DESCRIPTION.replace(b"acme/web", b"evil/web")
    package(
        world,
        version="2.1.0",
        application_version="2.0",
        extra=[(oci.MARGO_DESCRIPTION, "other.yaml", evil)],
    )
    device.source.files = world.publish()
    device.verify()
    with refused(
        device, DeploymentError, "deployment", match="2 application descriptions"
    ):
        device.fetch()
