"""T-54: tags are re-pointed: of trust metadata, and of applications."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import (
    ExpiredError,
    FetchError,
    MixAndMatchError,
    RollbackError,
    SupplyChainError,
)
from tests.attacks.standing import refused
from tests.registries.hostile import HostileRegistry
from tests.registries.plant import CONTENT, METADATA, TRUST, plant_on, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.registries.hostile import Conversation
    from tests.registries.plant import Plant


@pytest.fixture(params=["inline", "layer"])
def plant(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Plant]:
    """A plant; metadata stands in the manifests themselves, or in layers alone."""
    with HostileRegistry() as registry:
        inline = request.param == "inline"
        plant = plant_on(registry, tmp_path, inline=inline)
        plant.release("1.2.0", inline=inline)
        yield plant


def repoint(plant: Plant, tag: str, data: bytes) -> None:
    """Let a tag of the trust repository name other bytes."""
    wrap(plant.registry.of(TRUST), tag, data, METADATA, inline=True)


def test_timestamp_tag_back_at_an_old_one(plant: Plant) -> None:
    """Mallory moves the tag `timestamp` back to what it named when 1.0.0 was new."""
    now = plant.registry.of(TRUST).tags["timestamp"]
    repoint(plant, "timestamp", plant.old.metadata["timestamp.json"])
    with refused(plant.device, RollbackError, "rollback", match="older than trusted"):
        plant.device.verify()
    plant.registry.of(TRUST).tags["timestamp"] = now
    assert plant.device.install() == "1.2.0"


def test_timestamp_tag_never_moves_again(plant: Plant) -> None:
    """Mallory leaves the tag where it is, as a pull-through cache might: the device
    notices when the timestamp expires."""
    assert plant.device.install() == "1.2.0"
    plant.world.release("1.3.0")
    plant.world.publish()
    plant.device.clock.advance(days=5)
    with refused(plant.device, ExpiredError, "expired", match="timestamp"):
        plant.device.verify()


@pytest.mark.parametrize("role", ["snapshot", "acme.pump-monitor"])
def test_versioned_tag_names_an_older_file(role: str, plant: Plant) -> None:
    """Mallory lets the tag of a new version name the file of an older one."""
    metadata = plant.world.files.metadata
    versions = sorted(
        (int(name.split(".")[0]), name)
        for name in metadata
        if name.partition(".")[2] == f"{role}.json"
    )
    (_, old), (_, new) = versions[-2:]
    repoint(plant, new.removesuffix(".json"), metadata[old])
    with refused(
        plant.device,
        MixAndMatchError,
        "mix-and-match",
        match=".",
        newer=True,
    ):
        plant.device.verify()
    repoint(plant, new.removesuffix(".json"), metadata[new])
    assert plant.device.install() == "1.2.0"


def test_tag_of_a_new_file_is_missing(plant: Plant) -> None:
    """A replicator has copied the timestamp before the rest: inconclusive, not an
    alarm, and the device keeps what it had."""
    held = plant.registry.of(TRUST)
    (newest,) = sorted(name for name in held.tags if name.endswith(".snapshot"))[-1:]
    gone = held.tags.pop(newest)
    with refused(plant.device, FetchError, "fetch", match=newest, newer=True) as _:
        plant.device.verify()
    held.tags[newest] = gone
    assert plant.device.install() == "1.2.0"


def test_version_tag_of_an_application_is_repointed(plant: Plant) -> None:
    """Mallory lets the application's tags name its oldest release; no tag of an
    application is ever asked for."""
    held = plant.registry.of(CONTENT)
    oldest = next(iter(held.manifests))
    held.tags.update(dict.fromkeys(("1.2.0", "latest", "9.0.0"), oldest))
    assert plant.device.install() == "1.2.0"
    asked = plant.registry.asked(f"{CONTENT}/manifests/")
    assert asked
    assert all("manifests/sha256:" in one.path for one in asked)
    with pytest.raises(SupplyChainError, match=r"9\.0\.0"):
        plant.device.verify(pin="9.0.0")


def test_tags_move_while_a_device_works(plant: Plant) -> None:
    """Mallory moves everything back between verification and download; what was
    verified is what is fetched."""
    release = plant.device.verify()
    assert str(release.version) == "1.2.0"
    held = plant.registry.of(CONTENT)
    oldest = next(iter(held.manifests))

    def back(talk: Conversation) -> None:
        held.tags.update(dict.fromkeys(held.tags, oldest))
        talk.tell(talk.truth())

    plant.registry.lies("GET", back)
    assert plant.device.install() == "1.2.0"
