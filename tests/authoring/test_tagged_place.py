"""A repository in a registry is edited there, and the registry is not believed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring.repository import Repository
from margo_supplychain.errors import (
    ExpiredError,
    FetchError,
    FormatError,
    RefusedError,
)
from margo_supplychain.formats.registry_form import unwrapped
from margo_supplychain.formats.versions import Version
from tests.authoring.tagged import HOST, TRUST, TaggedVendor
from tests.authoring.trust import OPEN, PUMP, VALVE, key
from tests.fixtures import wasm_layout

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaggedVendor:
    return TaggedVendor.moved(tmp_path, monkeypatch)


def test_publish(vendor: TaggedVendor) -> None:
    done = vendor.publish_there(vendor.release("1.0.0"))
    assert (done.changed, done.blobs_new, done.blobs_there) == (True, 3, 0)
    assert vendor.newest_there() == "1.0.0"
    package = vendor.registry.at(f"{HOST}/acme/pump-monitor")
    # No tag is ever added to an application's repository but its versions.
    assert list(package.tags) == ["1.0.0"]
    trust = vendor.registry.at(TRUST)
    assert {"timestamp", "1.root", "2.acme.pump-monitor", "3.snapshot"} <= set(
        trust.tags
    )
    # Every stored thing is the layer of a tagged manifest, or a collector takes it.
    named = {unwrapped(one).layer.digest for one in trust.manifests.values()}
    assert set(trust.blobs) - {str(one) for one in named} <= {
        "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    }
    with vendor.at_registry().edit((), clock=vendor.clock) as edit:
        record = edit.record(PUMP, Version.parse("1.0.0"))
    assert record.locations == (f"{HOST}/acme/pump-monitor",)

    again = vendor.publish_there(vendor.release("1.0.0"))
    assert (again.changed, again.timestamp) == (False, done.timestamp)
    more = vendor.publish_there(vendor.release("1.1.0"))
    assert (more.blobs_new, more.blobs_there) == (2, 1)  # both have one empty config
    assert vendor.newest_there() == "1.1.0"


def test_every_edit_works_there(vendor: TaggedVendor) -> None:
    vendor.publish_there(vendor.release("1.0.0"), vendor.release("1.1.0"))
    with vendor.at_registry().edit([key("ci")], clock=vendor.clock) as edit:
        edit.withdraw(PUMP, Version.parse("1.1.0"), reason="leaks")
    assert vendor.newest_there() == "1.0.0"
    with vendor.at_registry().edit(vendor.keys, clock=vendor.clock) as edit:
        edit.reinstate(PUMP, Version.parse("1.1.0"))
        edit.add_application(VALVE, [key("ci").public_key], policy=OPEN)
        edit.refresh("targets")
    assert vendor.newest_there() == "1.1.0"
    vendor.publish_there(vendor.release("2.0.0", name=VALVE))
    assert vendor.newest_there(VALVE) == "2.0.0"
    assert vendor.at_registry().profile == "small"  # as the keys have it


def test_a_standard_repository_takes_publishers_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = TaggedVendor(tmp_path, profile="standard")
    vendor.create()
    vendor.move()
    vendor.registry.install(monkeypatch)
    with vendor.at_registry().edit(vendor.keys, clock=vendor.clock) as edit:
        edit.add_publisher("acme", [key("offline").public_key], threshold=1)
        edit.add_application(PUMP, [key("ci").public_key], policy=OPEN)
    vendor.publish_there(vendor.release("1.0.0"))
    assert vendor.newest_there() == "1.0.0"


# --- what is believed ----------------------------------------------------------------


def test_a_registry_is_not_asked_for_its_root(vendor: TaggedVendor) -> None:
    unrooted = vendor.registry.open(None)
    with (
        pytest.raises(RefusedError, match="nothing says which keys are its own") as why,
        unrooted.edit([key("ci")], clock=vendor.clock),
    ):
        raise AssertionError
    assert "--root FILE" in str(why.value.hint)
    with pytest.raises(RefusedError, match="not asked for its own first root"):
        _ = unrooted.root
    with pytest.raises(RefusedError, match="is no directory"):
        _ = unrooted.directory
    # A memory is as good as a root.
    with unrooted.edit([key("ci")], clock=vendor.clock, state=vendor.store()) as edit:
        edit.refresh()
    assert edit.written is not None


def test_an_expired_timestamp_needs_a_memory(vendor: TaggedVendor) -> None:
    """Whoever serves the registry may show an old copy to sign on top of."""
    vendor.publish_there(vendor.release("1.0.0"))
    store = vendor.store()
    vendor.device_there(store).refresh()
    vendor.clock.when += timedelta(days=5)
    before = vendor.registry.copy()
    with (
        pytest.raises(ExpiredError, match="timestamp") as why,
        vendor.at_registry().edit([key("ci")], clock=vendor.clock) as edit,
    ):
        edit.refresh()
    assert "begin-from" in str(why.value.hint)
    with vendor.at_registry().edit((), clock=vendor.clock) as edit:
        assert len(edit.releases(PUMP)) == 1  # to look is no harm
    assert vendor.registry == before
    with vendor.at_registry().edit(
        [key("ci")], clock=vendor.clock, state=store
    ) as edit:
        edit.refresh()
    assert vendor.newest_there() == "1.0.0"


def test_archives_are_not_edited(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="a tar, which is written as a whole"):
        Repository.open(f"oci-archive:{tmp_path / 'x.tar'}", root=b"{}")


def test_a_path_is_a_directory(tmp_path: Path) -> None:
    """What a build left is a layout, and no repository."""
    wasm_layout(tmp_path / "dist")
    for where in (tmp_path / "dist", str(tmp_path / "dist")):
        with pytest.raises(FormatError, match="holds no trust repository"):
            Repository.open(where)


# --- names that are taken ------------------------------------------------------------


def test_the_same_metadata_is_adopted(vendor: TaggedVendor) -> None:
    """A run was killed before its timestamp; the next one signs nothing twice."""
    release = vendor.release("1.0.0")

    def stop(what: str) -> None:
        if what == "put timestamp":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vendor.publish_there(release, before=stop)
    trust = vendor.registry.at(TRUST)
    left = dict(trust.tags)
    assert {"2.acme.pump-monitor", "3.snapshot"} <= set(left)
    vendor.publish_there(release)
    assert {tag: trust.tags[tag] for tag in left if tag != "timestamp"} == {
        tag: one for tag, one in left.items() if tag != "timestamp"
    }
    assert not {"3.acme.pump-monitor", "4.snapshot"} & set(trust.tags)
    assert vendor.newest_there() == "1.0.0"


def test_other_metadata_takes_the_next_version(vendor: TaggedVendor) -> None:
    def stop(what: str) -> None:
        if what == "put timestamp":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vendor.publish_there(vendor.release("1.0.0"), before=stop)
    trust = vendor.registry.at(TRUST)
    left = trust.tags["2.acme.pump-monitor"]
    vendor.publish_there(vendor.release("1.0.1"))
    assert trust.tags["2.acme.pump-monitor"] == left
    assert "3.acme.pump-monitor" in trust.tags
    assert vendor.newest_there() == "1.0.1"


def test_what_expires_soon_is_not_adopted(vendor: TaggedVendor) -> None:
    def stop(what: str) -> None:
        if what == "put timestamp":
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        vendor.at_registry(stop).edit([key("ci")], clock=vendor.clock) as edit,
    ):
        edit.refresh()
    vendor.clock.when += timedelta(days=3)
    with vendor.at_registry().edit([key("ci")], clock=vendor.clock) as edit:
        edit.refresh()
    assert edit.written is not None
    assert edit.written.roles["snapshot"][0] == 4  # v3 would end three days sooner


def test_names_that_somebody_took_are_passed_over(vendor: TaggedVendor) -> None:
    trust = vendor.registry.at(TRUST)
    for version in range(3, 320):
        trust.tags[f"{version}.snapshot"] = trust.tags["2.snapshot"]
    with vendor.at_registry().edit([key("ci")], clock=vendor.clock) as edit:
        edit.refresh()
    assert edit.written is not None
    assert edit.written.roles["snapshot"][0] == 320


def test_what_a_run_left_hours_ago_is_not_adopted(vendor: TaggedVendor) -> None:
    """Others tell by a snapshot's expiry when the edit happened that published it."""

    def stop(what: str) -> None:
        if what == "put timestamp":
            raise KeyboardInterrupt

    for hours, expected in ((1, 3), (2, 4)):
        registry = vendor.registry.copy()
        with (
            pytest.raises(KeyboardInterrupt),
            vendor.at_registry(stop).edit([key("ci")], clock=vendor.clock) as edit,
        ):
            edit.refresh()
        vendor.clock.when += timedelta(hours=hours)
        with vendor.at_registry().edit([key("ci")], clock=vendor.clock) as edit:
            edit.refresh()
        assert edit.written is not None
        assert edit.written.roles["snapshot"][0] == expected
        vendor.registry.repositories = registry.repositories


# --- who does not answer -------------------------------------------------------------


def test_when_the_answer_about_the_timestamp_gets_lost(vendor: TaggedVendor) -> None:
    asked: list[str] = []

    def silent(what: str) -> None:
        asked.append(what)
        if what == "get timestamp" and "put timestamp" in asked:
            raise FetchError("no answer", url=TRUST, unreachable=True)

    with pytest.raises(FetchError, match="no answer") as caught:
        vendor.publish_there(vendor.release("1.0.0"), before=silent)
    assert "it may be published, or not" in str(caught.value.hint)
    assert vendor.newest_there() == "1.0.0"
    assert not vendor.publish_there(vendor.release("1.0.0")).changed


def test_a_memory_is_no_place_to_sign_from(vendor: TaggedVendor) -> None:
    """What an author remembers does not say how the repository stands today."""
    store = vendor.store()

    def silent(what: str) -> None:
        raise FetchError(f"no answer to {what}", url=TRUST, unreachable=True)

    vendor.publish_there(vendor.release("1.0.0"), state=store)
    repository = vendor.at_registry(silent)
    with pytest.raises(FetchError, match=r"no answer to get 2\.root") as caught:
        repository.status(within=timedelta(0), clock=vendor.clock, state=store)
    assert caught.value.unreachable
    with (
        pytest.raises(FetchError, match=r"no answer to get 2\.root"),
        repository.edit([key("ci")], clock=vendor.clock, state=store) as edit,
    ):
        edit.refresh()


def test_a_policy_that_does_not_come_is_not_lost(vendor: TaggedVendor) -> None:
    def broken(what: str) -> None:
        if what.startswith("get sha256:"):
            raise FetchError("answered 500", url=TRUST, status=500)

    repository = vendor.at_registry(broken)
    with (
        pytest.raises(FetchError, match="answered 500") as caught,
        repository.edit((), clock=vendor.clock) as edit,
    ):
        edit.policy(PUMP)
    assert caught.value.hint == FetchError.default_hint
