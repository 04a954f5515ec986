"""The source does not answer, or says that it may not: no verdict, and no excuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import FetchError
from margo_supplychain.verify.clock import Freshness
from tests.attacks.scenes import ROLES, refused, running
from tests.world import MemorySource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Refusing(MemorySource):
    """A source that answers for one file with an HTTP status, or not at all."""

    barred = ""
    status: int | None = 403

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        if filename == self.barred:
            self.asked.append(filename)
            raise FetchError(
                f"no answer for {filename}",
                url=self.url,
                status=self.status,
                unreachable=self.status is None,
            )
        return super().metadata(filename, limit=limit, tick=tick)


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
@pytest.mark.parametrize("filename", ["2.root.json", "timestamp.json"])
def test_refusal_in_place_of_an_answer(
    tmp_path: Path, filename: str, status: int
) -> None:
    """Mallory's proxy answers 403 for the next root, to keep the device on the root
    whose keys she holds, or for timestamp. Only 404 says "there is none"; anything
    else is no verdict, and nothing is taken from it."""
    plant = running(tmp_path)
    world = plant.world
    world.rotate("timestamp", "timestamp-2")
    world.publish_timestamp()
    source = Refusing(world.files.copy())
    plant.device.source = source
    source.barred, source.status = filename, status

    error = refused(
        plant.device,
        FetchError,
        "fetch",
        f"no answer for {filename}",
        last=filename,
        moved=[] if "root" in filename else ["root", "timestamp", "timestamp_time"],
    )
    assert (error.exit_status, error.status) == (4, status)

    source.barred = ""
    assert plant.device.version() == "1.1.0"
    assert plant.device.trusted["root"] == 2


@pytest.mark.parametrize("filename", ["2.root.json", "timestamp.json"])
def test_source_is_cut(tmp_path: Path, filename: str) -> None:
    """The wire is cut: within expiry the device lives on what it accepted, and says so;
    after it, it decides nothing by old metadata."""
    plant = running(tmp_path)
    source = Refusing(plant.world.files.copy())
    source.barred, source.status = filename, None
    plant.device.source = source
    memory = plant.device.memory

    plant.device.clock.advance(days=3)
    assert plant.device.refresh() is Freshness.GRACE
    release = plant.device.verify()
    assert (str(release.version), release.freshness) == ("1.1.0", Freshness.GRACE)
    assert plant.device.memory == memory

    plant.device.clock.advance(days=1)
    refused(
        plant.device,
        FetchError,
        "fetch",
        "can't be reached, and timestamp v3 expired",
        last=filename,
    )
    # A clock that is set back shows no more than that it is behind.
    plant.device.clock.advance(days=-400)
    assert plant.device.verify().freshness is Freshness.UNPROVEN


@pytest.mark.parametrize("role", ROLES[1:])
def test_source_is_cut_and_a_copy_is_gone(tmp_path: Path, role: str) -> None:
    """The wire is cut and the device has lost a copy: no verdict, and it comes back
    with the wire."""
    plant = running(tmp_path)
    (plant.device.state / "metadata" / f"{role}.json").unlink()

    plant.device.source.down = True
    error = refused(plant.device, FetchError, "fetch", "reached|the wire is cut")
    assert error.unreachable
    plant.device.source.down = False
    assert plant.device.version() == "1.1.0"


@pytest.mark.parametrize("role", ["snapshot", "targets", "acme", "acme.pump-monitor"])
def test_source_is_cut_and_a_copy_has_expired(tmp_path: Path, role: str) -> None:
    """The wire is cut, timestamp is good for months and a role behind it is not: an
    expired copy is no better for want of another."""
    plant = running(tmp_path)
    world = plant.world
    world.touch("targets", "acme", "acme.pump-monitor")
    world.publish(days={"timestamp": 300, "snapshot": 300, role: 3})
    plant.serve()
    assert plant.device.version() == "1.1.0"  # sane

    plant.device.source.down = True
    plant.device.clock.advance(days=2)
    assert plant.device.verify().freshness is Freshness.GRACE
    plant.device.clock.advance(days=2)
    refused(plant.device, FetchError, "fetch", f"reached, and {role} v[0-9] expired")


def test_source_is_cut_between_two_roots(tmp_path: Path) -> None:
    """The wire is cut after one of two new roots: what was followed is kept, and the
    rest is no verdict, since keys may have changed."""
    plant = running(tmp_path)
    world = plant.world
    world.rotate("timestamp", "timestamp-2")
    world.rotate("timestamp", "timestamp-3")
    world.publish_timestamp()
    source = Refusing(world.files.copy())
    source.barred, source.status = "3.root.json", None
    plant.device.source = source
    refused(
        plant.device,
        FetchError,
        "fetch",
        "no answer for 3.root.json",
        last="3.root.json",
        moved=["root"],
    )
    assert plant.device.trusted["root"] == 2

    source.barred = ""
    assert plant.device.version() == "1.1.0"
    assert plant.device.trusted["root"] == 3


def test_first_start_without_a_source(tmp_path: Path) -> None:
    """A device that never got an answer has nothing to live on."""
    plant = running(tmp_path)
    fresh = plant.world.device(tmp_path / "fresh")
    fresh.source.down = True
    error = refused(fresh, FetchError, "fetch", "the wire is cut", last="2.root.json")
    assert error.unreachable
    # Asking again for something else would be the same wait once more.
    assert len(fresh.source.asked) == 1
