"""The package says something else than its signed record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import DeploymentError, LengthMismatchError
from margo_supplychain.formats import oci
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.oci import Entry, Layer, index_bytes, manifest_bytes
from tests.attacks.packages import DESCRIPTION, manifest, package
from tests.attacks.standing import refused
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world import Device


def installed(tmp_path: Path) -> tuple[World, Device]:
    world = World()
    package(world, version="1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane: the honest package agrees
    return world, device


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        (b"id: pump-monitor", b"id: valve", "id"),
        (b'version: "2.0"', b'version: "2.1"', "metadata.version"),
        (b"acme/web", b"evil/web", "components"),
        (b"revision: 2.0.0", b"revision: 1.0.0", "components"),
        (b"name: web", b"name: wep", "components"),
        (b"id: compose", b"id: composed", "has the profile compose"),
        (
            b"        properties:\n",
            (
                b"        properties: {repository: oci://evil.example/x, revision: '1'}"
                b"\n      - name: web2\n        properties:\n"
            ),
            "components",
        ),
    ],
)
def test_description_that_disagrees(
    tmp_path: Path, old: bytes, new: bytes, part: str
) -> None:
    """A device would deploy by margo.yaml what nobody signed as a component."""
    world, device = installed(tmp_path)
    assert old in DESCRIPTION
    package(world, DESCRIPTION.replace(old, new))
    device.source.files = world.publish()
    device.verify()
    with refused(device, DeploymentError, "deployment", match=part):
        device.fetch()


def test_profile_that_nobody_signed(tmp_path: Path) -> None:
    """A complete release signs every component that margo.yaml deploys."""
    world, device = installed(tmp_path)
    package(world, components=[])
    device.source.files = world.publish()
    device.verify()
    with refused(
        device, DeploymentError, "deployment", match="has the profile compose"
    ):
        device.fetch()


def test_package_without_a_description(tmp_path: Path) -> None:
    """A Margo package without margo.yaml is none."""
    world, device = installed(tmp_path)
    package(world, None)
    device.source.files = world.publish()
    device.verify()
    with refused(device, DeploymentError, "deployment", match="has no margo.yaml"):
        device.fetch()


def test_package_that_is_an_index(tmp_path: Path) -> None:
    """An index of packages has no margo.yaml of its own."""
    world, device = installed(tmp_path)
    digest = package(world)
    data = world.files.blobs[str(digest)]
    inner = Descriptor.of(data, oci.MANIFEST)
    index = index_bytes([Entry(descriptor=inner)], artifact_type=oci.MARGO_APPLICATION)
    world.release(
        "3.0.0",
        artifact=world.add_blob(index, oci.INDEX),
        kind=oci.MARGO_APPLICATION,
    )
    device.source.files = world.publish()
    device.verify()
    with refused(device, DeploymentError, "deployment", match="has no margo.yaml"):
        device.fetch()


@pytest.mark.parametrize("data", [b"\x00", b"a: [", b"[]", b"&a [*a]"])
def test_description_that_can_not_be_read(tmp_path: Path, data: bytes) -> None:
    """Unreadable, while the record says what it holds."""
    world, device = installed(tmp_path)
    package(world, data)
    device.source.files = world.publish()
    device.verify()
    with refused(device, DeploymentError, "deployment", match="margo.yaml"):
        device.fetch()


def test_adopted_package_that_can_not_be_read(tmp_path: Path) -> None:
    """A package adopted as it was: its digest is signed, and nothing else is said."""
    world, device = installed(tmp_path)
    package(world, b"a: [", components=[], application_version=None, closure="partial")
    device.source.files = world.publish()
    assert device.install() == "2.0.0"


def test_description_above_the_limit(tmp_path: Path) -> None:
    """Bounded before a byte of it is parsed."""
    world, device = installed(tmp_path)
    package(world, DESCRIPTION + b"#" * (1 << 20))
    device.source.files = world.publish()
    device.verify()
    with refused(
        device,
        LengthMismatchError,
        "length-mismatch",
        match="margo.yaml has .* more than",
    ):
        device.fetch()


def test_description_under_another_title(tmp_path: Path) -> None:
    """`Margo.yaml` is not margo.yaml."""
    world, device = installed(tmp_path)
    layer = world.add_blob(DESCRIPTION, oci.MARGO_DESCRIPTION)
    made = manifest_bytes(
        artifact_type=oci.MARGO_APPLICATION,
        layers=[Layer(descriptor=layer, title="Margo.yaml")],
    )
    world.release("2.0.0", artifact=manifest(world, made), kind=oci.MARGO_APPLICATION)
    device.source.files = world.publish()
    device.verify()
    with refused(device, DeploymentError, "deployment", match="has no margo.yaml"):
        device.fetch()
