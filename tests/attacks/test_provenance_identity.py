"""The online key says another release than the one that was made.

The links are true, and the artifact is the one that they name. Only the record differs,
which the application's key signs: other images, none of them, another version. The
release step has signed what the release is; nothing else speaks for what no manifest
says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.record import Image
from margo_supplychain.formats.versions import Version
from tests.attacks.proven import PROVEN, PUMP, Plant, current, running
from tests.attacks.test_provenance_steps import component
from tests.world.provenance import RECORD, Run, envelope, layout, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.formats.record import Component

REFERENCE = "registry.example/acme/images/pump-web:1.1.0"
PINNED = f"{REFERENCE}@{Digest.of(b'good')}"
COMPLETE = PROVEN.replace(b'"provenance"', b'"provenance", "closure-complete"')


def image(content: str, reference: str = REFERENCE) -> Image:
    digest = Digest.of(content.encode())
    return Image(component="web", reference=reference, digest=digest)


def with_web(plant: Plant) -> tuple[Run, Component]:
    """Return an honest run, of a release whose component names one image."""
    plant.device.policy = COMPLETE
    web = component("web", plant.world.artifact(b"web 1.1.0"))
    run = plant.run("1.1.0")
    run.releases(components=[web], images=[image("good")])
    return run, web


# --- T-246: other images -------------------------------------------------------------


@pytest.mark.parametrize(
    "images",
    [
        (image("of Mallory"),),
        (image("good", REFERENCE.replace("acme", "mallory")),),
        (replace(image("good"), platforms=("linux/riscv64",)),),
        (image("good"), image("of Mallory", "registry.example/mallory/miner:1")),
        (),
    ],
    ids=["digest", "reference", "platforms", "more", "none"],
)
def test_other_images(tmp_path: Path, images: tuple[Image, ...]) -> None:
    """No manifest names images by digest: only the record did, by the online key."""
    plant = running(tmp_path)
    run, web = with_web(plant)
    plant.publish(run, components=(web,), images=images)
    error = plant.refused("release-product", "other images or components")
    assert error.artifact == RECORD
    plant.publish(run, components=(web,), images=(image("good"),))
    plant.verified("1.1.0")


def test_image_pinned_twice(tmp_path: Path) -> None:
    """The reference holds its digest, and the record another one beside it."""
    plant = running(tmp_path)
    run, web = with_web(plant)
    run.releases(components=[web], images=[image("good", PINNED)])
    with pytest.raises(MetadataFormatError, match="names another digest"):
        plant.publish(run, components=(web,), images=(image("of Mallory", PINNED),))
    plant.publish(run, components=(web,), images=(image("good", PINNED),))
    plant.verified("1.1.0")


@pytest.mark.parametrize(
    "change",
    [
        {"repository": "oci://registry.example/mallory/web"},
        {"revision": "0.9.0"},
        {"profile_type": "custom"},
    ],
)
def test_component_under_another_name(tmp_path: Path, change: dict[str, str]) -> None:
    """The component's bytes are proven; what a deployment calls them by was not."""
    plant = running(tmp_path)
    run, web = with_web(plant)
    other: Component = replace(web, **change)  # type: ignore[arg-type] # text alone
    plant.publish(run, components=(other,), images=(image("good"),))
    plant.refused("release-product", "other images or components")


@pytest.mark.parametrize(
    "change",
    [
        {"application_version": "2.0.0"},
        {"closure": "partial"},
    ],
)
def test_another_kind_of_release(tmp_path: Path, change: dict[str, Any]) -> None:
    """What a release calls itself, and whether its closure is complete."""
    plant = running(tmp_path)
    plant.publish(plant.run("1.1.0"), **change)
    plant.refused("release-product", "says something else")


# --- T-247: old bytes as a new release -----------------------------------------------


def test_old_release_as_a_new_one(tmp_path: Path) -> None:
    """1.0.0, with its own true links, listed as 9.9.9: past floor and minimum."""
    plant = running(tmp_path)
    old = plant.run("1.0.0")
    plant.policy(minimum_version=Version.parse("1.1.0"))
    plant.publish(plant.run("1.1.0"))
    plant.verified("1.1.0")
    thief = Run("9.9.9", old.artifact)
    plant.publish(thief, old.documents().values())
    error = plant.refused("release-product", "another version")
    assert error.artifact == RECORD
    assert error.step == "package"


def test_old_release_by_its_superseded_layout(tmp_path: Path) -> None:
    """A superseded layout is good for releases, not for what has their artifact."""
    plant = running(tmp_path)
    old = plant.run("1.0.0")
    (rule,) = plant.world.policies[PUMP].layouts
    what = plant.add_layout(2, envelope(layout(readme="stronger"), "acme"))
    before = replace(rule, range=None, releases=(old.release,))
    plant.policy(layouts=(before, current(2, what)))
    plant.publish(old)
    plant.verified("1.0.0")
    plant.publish(Run("9.9.9", old.artifact), old.documents().values())
    plant.refused("layout-not-for-release", "layout 1")


def test_a_release_of_another_application(tmp_path: Path) -> None:
    """One pipeline makes two applications, and one of them may hold its key."""
    plant = running(tmp_path)
    run = Run("1.1.0", plant.world.artifact(b"a valve"), "acme/valve")
    plant.publish(run)
    plant.refused("release-product", "says something else")


def test_a_step_that_recorded_no_record(tmp_path: Path) -> None:
    """Without it nothing proves version and images; an empty one proves nothing."""
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    products = run.links["package"]["products"]
    del products[RECORD]
    plant.publish(run)
    plant.refused("release-product", f'recorded no "{RECORD}"')
    products[RECORD] = sha256("")
    plant.publish(run)
    plant.refused("release-product", "says something else")
