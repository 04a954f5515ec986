"""Publishers of a repository in a registry: rotation, cut-off and removal, also while
somebody else publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import (
    ConflictError,
    RefusedError,
    ThresholdError,
    UnknownTargetError,
)
from tests.authoring.marketplace import ANY, public
from tests.authoring.tagged import TaggedVendor
from tests.authoring.trust import OPEN, PUMP, VALVE, key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.authoring.edit import Edit


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaggedVendor:
    return TaggedVendor.moved(tmp_path, monkeypatch, release="1.0.0")


def change(vendor: TaggedVendor, what: Callable[[Edit], object], *names: str) -> Edit:
    keys = [*vendor.keys, *map(key, names)]
    with vendor.at_registry().edit(keys, clock=vendor.clock) as edit:
        what(edit)
    return edit


def newest(vendor: TaggedVendor) -> str:
    return str(vendor.device_there().verify(PUMP, ANY).version)


def problems(vendor: TaggedVendor) -> list[str]:
    report = vendor.at_registry().check(clock=vendor.clock)
    return [one.text for one in report.violations]


def test_cut_off_and_go_on(vendor: TaggedVendor) -> None:
    change(
        vendor,
        lambda edit: edit.cut_off_keys(PUMP.role, [public("new-ci")], threshold=1),
    )
    with pytest.raises(ThresholdError):
        newest(vendor)
    assert problems(vendor) == []
    edit = change(vendor, lambda edit: edit.refresh(PUMP.role), "new-ci")
    assert f"{PUMP.role} goes on from v2" in edit.warnings[0]
    assert newest(vendor) == "1.0.0"
    vendor.publish_there(vendor.release("1.1.0"), keys=[key("ci"), key("new-ci")])
    assert newest(vendor) == "1.1.0"
    assert problems(vendor) == []


def test_remove_and_add_again(vendor: TaggedVendor) -> None:
    edit = change(vendor, lambda edit: edit.remove_publisher("acme"))
    assert edit.warnings == ()
    with pytest.raises(UnknownTargetError):
        newest(vendor)
    assert problems(vendor) == []

    def again(edit: Edit) -> None:
        with pytest.raises(RefusedError, match="left the role acme before"):
            edit.add_publisher("acme", [public("offline")], threshold=1)
        edit.add_publisher("acme", [public("acme")], threshold=1)
        edit.add_application(PUMP, [public("new-ci")], policy=OPEN)

    edit = change(vendor, again, "acme")
    vendor.publish_there(vendor.release("1.1.0"), keys=[key("ci"), key("new-ci")])
    assert newest(vendor) == "1.1.0"
    assert problems(vendor) == []


def test_a_release_lands_while_its_publisher_is_removed(vendor: TaggedVendor) -> None:
    """Whoever comes second is told, and starts from what the first one wrote; nothing
    of a publisher that is removed is followed."""
    release = vendor.release("1.1.0")
    done: list[str] = []

    def publish_first(what: str) -> None:
        if what == "put timestamp" and not done:
            done.append(what)
            vendor.publish_there(release)

    def remove() -> None:
        repository = vendor.at_registry(publish_first)
        with repository.edit(vendor.keys, clock=vendor.clock) as edit:
            edit.remove_publisher("acme")

    try:
        remove()
    except ConflictError:
        remove()
    assert done
    with pytest.raises(UnknownTargetError):
        newest(vendor)
    # The removal stands, whatever became of the release.
    with pytest.raises(RefusedError, match="acme is no longer a publisher here"):
        vendor.publish_there(vendor.release("1.2.0"))
    change(vendor, lambda edit: edit.refresh())
    with pytest.raises(RefusedError, match="acme is no longer a publisher here"):
        change(
            vendor,
            lambda edit: edit.add_application(VALVE, [public("ci")], policy=OPEN),
        )
