"""T-58: a registry's lists hide, invent or flood; no list decides anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.attacks.standing import stands
from tests.registries import lies
from tests.registries.hostile import INDEX, HostileRegistry
from tests.registries.plant import CONTENT, TRUST, plant_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.registries.plant import Plant

LISTS = "tags/list|/referrers/"


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with HostileRegistry() as registry:
        plant = plant_on(registry, tmp_path)
        plant.release("1.2.0")
        yield plant


@pytest.mark.parametrize(
    "lie",
    [
        lies.status(500),
        lies.endless,
        lies.document({"tags": ["9.9.9"], "manifests": []}),
        lies.pages(lambda _: {"tags": ["1.0.0"], "manifests": []}),
    ],
    ids=["broken", "endless", "invented", "without end"],
)
def test_lists_of_a_registry_decide_nothing(lie: object, plant: Plant) -> None:
    """Mallory lists what she likes: a device asks for no list, and resolves its pin
    against what is signed."""
    assert plant.device.version() == "1.2.0"
    plant.registry.lies(LISTS, lie)  # type: ignore[arg-type]  # pytest's parameters are objects
    assert plant.device.install() == "1.2.0"
    assert not plant.registry.asked(LISTS)


def test_referrer_that_mallory_attached(plant: Plant) -> None:
    """Mallory attaches a signature-like artifact to the release, by the referrers API
    and by tag; it counts for nothing."""
    before = stands(plant.device)
    held = plant.registry.of(CONTENT)
    subject, (kind, data) = list(held.manifests.items())[-1]
    document = {
        **json.loads(data),
        "artifactType": "application/vnd.dsse.envelope.v1+json",
        "subject": {"mediaType": kind, "digest": subject, "size": len(data)},
    }
    held.add_manifest(json.dumps(document).encode(), tag="9.9.9")
    held.add_manifest(b'{"manifests":[]}', tag=subject.replace(":", "-"), kind=INDEX)
    assert plant.device.version() == "1.2.0"
    assert stands(plant.device) == before
    assert plant.device.install() == "1.2.0"


def test_tags_that_mallory_added_to_the_trust_repository(plant: Plant) -> None:
    """Mallory adds tags that look like newer metadata; the signed snapshot names what
    counts."""
    held = plant.registry.of(TRUST)
    for role in ("snapshot", "targets", "acme", "acme.pump-monitor"):
        held.add_manifest(b"{}", tag=f"999.{role}")
    assert plant.device.install() == "1.2.0"
    assert not plant.registry.asked("999")
