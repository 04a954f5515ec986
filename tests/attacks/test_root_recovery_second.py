"""Mallory has an online key of an operator and writes where his repository is served.
What she leaves there neither bars the root that takes her key away, nor leads it back
behind what was published without a word."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.directory_place import DirectoryPlace
from margo_supplychain.authoring.witnesses import MOST_LOOKED_AT
from margo_supplychain.errors import (
    FetchError,
    IncompleteError,
    RefusedError,
    RollbackError,
    SupplyChainError,
)
from margo_supplychain.formats.pins import Pin
from margo_supplychain.transport.tagged_sink import TaggedSink
from margo_supplychain.verify.trust_store import TrustStore
from tests.authoring import thief
from tests.authoring.ceremony import keys_of, signed_root
from tests.authoring.tagged import TRUST, TaggedVendor
from tests.authoring.test_targets_draft import propose
from tests.authoring.trust import PUMP, Vendor, key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.authoring.repository import Repository
    from margo_supplychain.authoring.written import Written

ANY = Pin.range("*", grammar="npm")
ONLINE: dict[str, Any] = {"snapshot": keys_of("ci-2"), "timestamp": keys_of("ci-2")}
TIMESTAMP: dict[str, Any] = {"timestamp": keys_of("ci-2")}


@pytest.fixture
def operator(tmp_path: Path) -> Vendor:
    found = Vendor(tmp_path, profile="small")
    found.create_with_pump()
    found.publish("1.0.0")
    return found


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaggedVendor:
    found = TaggedVendor(tmp_path)
    found.create_with_pump()
    found.move()
    found.registry.install(monkeypatch)
    found.publish_there(found.release("1.0.0"))
    return found


def newest(operator: Vendor, store: TrustStore | None = None) -> str:
    return str(operator.device(store).verify(PUMP, ANY).version)


def adopted(
    repository: Repository,
    operator: Vendor,
    *keys: str,
    state: TrustStore | None = None,
    **changes: Any,
) -> Written:
    clock = operator.clock
    root = signed_root(repository, ["offline"], clock=clock, state=state, **changes)
    signers = [key(one) for one in keys]
    return repository.adopt_root(root, signers, clock=clock, state=state)


def told(written: Written, text: str) -> bool:
    return any(text in one for one in written.warnings)


def sound(repository: Repository, operator: Vendor) -> None:
    assert repository.check(clock=operator.clock).violations == ()


# --- what can't be read --------------------------------------------------------------


def too_long_a_snapshot(operator: Vendor) -> None:
    now = operator.signed("timestamp.json")
    now["version"] = thief.HIGHEST
    named = {"version": 9, "length": 2**50, "hashes": {"sha256": "0" * 64}}
    now["meta"]["snapshot.json"] = named
    thief.write(operator, {"timestamp.json": thief.signed_as("timestamp", now, "ci")})


def too_long_a_role(operator: Vendor) -> None:
    def change(meta: dict[str, dict[str, Any]]) -> None:
        meta["acme.json"]["length"] = 2**52

    thief.write(operator, thief.forge(operator, change=change))


def padded(operator: Vendor, role: str) -> None:
    path = path_of(operator, role)
    path.write_bytes(path.read_bytes() + b" " * 20_000_000)


def piped(operator: Vendor, role: str) -> None:
    path = path_of(operator, role)
    path.unlink()
    os.mkfifo(path)


def made_a_directory(operator: Vendor, role: str) -> None:
    path = path_of(operator, role)
    path.unlink()
    path.mkdir()


def path_of(operator: Vendor, role: str) -> Path:
    name = f"{role}.json"
    if role != "timestamp":
        name = f"{operator.version(role)}.{name}"
    return operator.trust / "metadata" / name


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize("changes", [TIMESTAMP, ONLINE])
def test_timestamp_names_more_than_anybody_reads(
    operator: Vendor, changes: dict[str, Any], remembers: bool
) -> None:
    author = operator.store("author/state")
    operator.publish("1.1.0", state=author)
    device = operator.store("device/state")
    assert newest(operator, device) == "1.1.0"  # sane
    too_long_a_snapshot(operator)
    with pytest.raises(FetchError):
        newest(operator)
    memory = author if remembers else None
    adopted(operator.repository, operator, "ci-2", state=memory, **changes)
    assert newest(operator, device) == newest(operator) == "1.1.0"
    sound(operator.repository, operator)


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize("changes", [TIMESTAMP, ONLINE])
@pytest.mark.parametrize("spoilt", [padded, piped])
def test_timestamp_that_nobody_can_read(
    operator: Vendor,
    spoilt: Callable[[Vendor, str], None],
    changes: dict[str, Any],
    remembers: bool,
) -> None:
    author = operator.store("author/state")
    operator.publish("1.1.0", state=author)
    device = operator.store("device/state")
    assert newest(operator, device) == "1.1.0"  # sane
    spoilt(operator, "timestamp")
    with pytest.raises(FetchError):
        newest(operator)
    memory = author if remembers else None
    done = adopted(operator.repository, operator, "ci-2", state=memory, **changes)
    assert newest(operator, device) == newest(operator) == "1.1.0"
    assert not told(done, "snapshot listed nothing of")
    is_guessed = not remembers and changes is ONLINE
    assert told(done, "shows no list that can be read") == is_guessed
    sound(operator.repository, operator)


@pytest.mark.parametrize("keys", [("ci-2",), ("ci-2", "ci")])
@pytest.mark.parametrize("changes", [TIMESTAMP, ONLINE, {}])
@pytest.mark.parametrize("role", ["snapshot", "targets", "acme.pump-monitor"])
def test_listed_file_that_nobody_can_read(
    operator: Vendor, role: str, changes: dict[str, Any], keys: tuple[str, ...]
) -> None:
    """The author's memory has it: it is written over what has its name."""
    author = operator.store("author/state")
    operator.publish("1.1.0", state=author)
    device = operator.store("device/state")
    assert newest(operator, device) == "1.1.0"  # sane
    piped(operator, role)
    with pytest.raises(FetchError):
        newest(operator)
    adopted(operator.repository, operator, *keys, state=author, **changes)
    assert newest(operator, device) == newest(operator) == "1.1.0"
    sound(operator.repository, operator)


@pytest.mark.parametrize("spoilt", [padded, piped, made_a_directory])
def test_snapshot_that_nobody_can_read_or_remembers(
    operator: Vendor, spoilt: Callable[[Vendor, str], None]
) -> None:
    """Without a memory its work is lost, and said; the root is not barred."""
    operator.publish("1.1.0")
    assert newest(operator) == "1.1.0"  # sane
    spoilt(operator, "snapshot")
    with pytest.raises(FetchError):
        newest(operator)
    done = adopted(operator.repository, operator, "ci-2", **ONLINE)
    assert told(done, "acme.pump-monitor v3 lies there, signed by its keys, and no")
    assert newest(operator) == "1.0.0"
    sound(operator.repository, operator)


def test_role_that_nobody_can_read_or_remembers(operator: Vendor) -> None:
    """One application stays as refused as it is; the others get their root."""
    piped(operator, "acme.pump-monitor")
    with pytest.raises(FetchError):
        newest(operator)
    done = adopted(operator.repository, operator, "ci-2", "ci", **TIMESTAMP)
    assert told(done, "acme.pump-monitor.json is not a regular file")
    other = Vendor(operator.directory / "other", profile="small")
    other.create_with_pump()
    other.publish("1.0.0")
    too_long_a_role(other)
    done = adopted(other.repository, other, "ci-2", "ci", **ONLINE)
    assert newest(other) == "1.0.0"


@pytest.mark.parametrize("role", ["timestamp", "targets"])
def test_directory_in_the_place_of_a_file(operator: Vendor, role: str) -> None:
    """Only that has to be taken away by hand, and who is asked to is told so first."""
    author = operator.store("author/state")
    operator.publish("1.1.0", state=author)
    path = path_of(operator, role)
    made_a_directory(operator, role)
    before = operator.files()
    with pytest.raises(RefusedError, match=f"{path.name} is a directory") as caught:
        adopted(operator.repository, operator, "ci-2", state=author, **ONLINE)
    assert "remove it" in str(caught.value.hint)
    assert operator.files() == before
    path.rmdir()
    adopted(operator.repository, operator, "ci-2", state=author, **ONLINE)
    assert newest(operator) == "1.1.0"
    sound(operator.repository, operator)


class Killed(BaseException):
    """The machine went off."""


def test_pipe_in_the_gap(operator: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run was killed between the root and its timestamp, and she was there first."""

    def die(place: DirectoryPlace, work: object) -> None:
        del place, work
        raise Killed

    there, clock = operator.repository, operator.clock
    root = signed_root(there, ["offline"], clock=clock, **ONLINE)
    with monkeypatch.context() as patch:
        patch.setattr(DirectoryPlace, "commit", die)
        with pytest.raises(Killed):
            there.adopt_root(root, [key("ci-2")], clock=clock)
    assert (operator.trust / "metadata/2.root.json").exists()  # sane
    piped(operator, "timestamp")
    there.adopt_root(root, [key("ci-2")], clock=clock)
    assert newest(operator) == "1.0.0"
    sound(there, operator)


def steal_there(operator: TaggedVendor, version: int, named: dict[str, Any]) -> None:
    """Write a timestamp in a registry."""
    sink = operator.registry.place().shelf
    path = operator.trust / "metadata/timestamp.json"
    path.write_bytes(sink.metadata("timestamp.json", limit=1 << 20))
    now = operator.signed("timestamp.json")
    now["version"] = version
    now["meta"]["snapshot.json"] = named
    sink.put_metadata("timestamp.json", thief.signed_as("timestamp", now, "ci"))


@pytest.mark.parametrize("changes", [TIMESTAMP, ONLINE])
def test_registry_names_more_than_anybody_reads(
    registry: TaggedVendor, changes: dict[str, Any]
) -> None:
    assert registry.newest_there() == "1.0.0"  # sane
    named = {"version": 9, "length": 2**50, "hashes": {"sha256": "0" * 64}}
    steal_there(registry, thief.HIGHEST, named)
    with pytest.raises(FetchError):
        registry.newest_there()
    adopted(registry.at_registry(), registry, "ci-2", **changes)
    assert registry.newest_there() == "1.0.0"
    sound(registry.at_registry(), registry)


@pytest.mark.parametrize("changes", [TIMESTAMP, ONLINE])
@pytest.mark.parametrize("tag", ["timestamp", "3.snapshot", "1.targets", "2.acme"])
def test_tag_of_another_kind(
    registry: TaggedVendor, tag: str, changes: dict[str, Any]
) -> None:
    """A file's tag names a manifest that is no metadata."""
    author = TrustStore.create(
        registry.directory / "author",
        root=registry.root,
        publishers=frozenset({"acme"}),
    )
    with registry.at_registry().edit(
        [key("ci")], clock=registry.clock, state=author
    ) as edit:
        edit.refresh()
    assert registry.newest_there() == "1.0.0"  # sane
    tags = registry.registry.at(TRUST).tags
    if tag == "3.snapshot":
        tag = max(one for one in tags if one.endswith(".snapshot"))
    other = next(one for one in tags if one.startswith("t."))
    tags[tag] = tags[other]
    with pytest.raises(SupplyChainError):
        registry.newest_there()
    adopted(registry.at_registry(), registry, "ci-2", state=author, **changes)
    assert registry.newest_there() == "1.0.0"
    sound(registry.at_registry(), registry)


@pytest.mark.parametrize("name", ["timestamp.json", "3.snapshot.json"])
def test_silence_is_no_evidence(
    registry: TaggedVendor, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A registry that fails for a moment says nothing of what it holds."""
    there, clock = registry.at_registry(), registry.clock
    root = signed_root(there, ["offline"], clock=clock, **ONLINE)
    before = dict(registry.registry.at(TRUST).tags)
    read = TaggedSink.metadata

    def fail(self: TaggedSink, filename: str, **options: Any) -> bytes:
        if filename == name:
            url = f"{self.url}/{name}"
            raise FetchError(f"{url} answered 503", url=url, status=503)
        return read(self, filename, **options)

    with monkeypatch.context() as patch:
        patch.setattr(TaggedSink, "metadata", fail)
        with pytest.raises(FetchError, match="answered 503"):
            there.adopt_root(root, [key("ci-2")], clock=clock)
    assert registry.registry.at(TRUST).tags == before
    there.adopt_root(root, [key("ci-2")], clock=clock)
    assert registry.newest_there() == "1.0.0"


# --- more names than are looked at ----------------------------------------------------


def refreshed(operator: TaggedVendor, times: int) -> None:
    """Refresh often; what each publisher was told stands under a name of its own."""
    sink = operator.registry.place().shelf
    path = operator.trust / "metadata/timestamp.json"
    path.write_bytes(sink.metadata("timestamp.json", limit=1 << 20))
    begun, data = operator.version("timestamp"), b""
    for version in range(begun + 1, begun + times + 1):
        now = operator.signed("timestamp.json")
        now["version"] = version
        data = thief.signed_as("timestamp", now, "ci")
        sink.put_metadata(f"{version}.timestamp.json", data)
    sink.put_metadata("timestamp.json", data)


@pytest.mark.parametrize("changes", [TIMESTAMP, ONLINE])
def test_years_of_witnesses(registry: TaggedVendor, changes: dict[str, Any]) -> None:
    """Nobody attacks: every refresh left one, and an old registry has many."""
    refreshed(registry, MOST_LOOKED_AT + 5)
    registry.publish_there(registry.release("1.1.0"))
    assert registry.newest_there() == "1.1.0"  # sane
    done = adopted(registry.at_registry(), registry, "ci-2", **changes)
    assert told(done, "more names of timestamp than are looked at")
    assert registry.newest_there() == "1.1.0"
    sound(registry.at_registry(), registry)


@pytest.mark.parametrize("changes", [TIMESTAMP, ONLINE])
def test_flood_of_witnesses(registry: TaggedVendor, changes: dict[str, Any]) -> None:
    """Hers say nothing: the root that ends this is published, and the author told."""
    sink = registry.registry.place().shelf
    for version in range(100, 100 + MOST_LOOKED_AT + 1):
        sink.put_metadata(f"{version}.timestamp.json", b"%d" % version)
    done = adopted(registry.at_registry(), registry, "ci-2", **changes)
    assert told(done, "remove those tags")
    assert registry.newest_there() == "1.0.0"


# --- a list of yesterday -------------------------------------------------------------


def take_back_a_rotation(operator: Vendor) -> None:
    """List the targets from before acme's key was rotated."""
    before = operator.signed(f"{operator.version('snapshot')}.snapshot.json")["meta"]
    keys = [key("offline"), key("ci"), key("acme-2")]
    with operator.repository.edit(keys, clock=operator.clock) as edit:
        edit.rotate_keys("acme", [key("acme-2").public_key], threshold=1)
    assert operator.version("targets") == 2  # sane

    def roll_back(meta: dict[str, dict[str, Any]]) -> None:
        meta.clear()
        meta.update(before)

    above = operator.version("timestamp") + 1
    files = thief.forge(operator, timestamp=above, snapshot=above, change=roll_back)
    thief.write(operator, files)
    assert operator.version("targets") == 1  # sane


def keys_of_acme(operator: Vendor) -> list[str]:
    listed = operator.signed(f"{operator.version('targets')}.targets.json")
    found: list[str] = listed["delegations"]["roles"][0]["keyids"]
    return found


def test_rotation_is_taken_back_before_targets_is_handed_on(operator: Vendor) -> None:
    """Signed anew from there, the key that left would be back on every device."""
    take_back_a_rotation(operator)
    new: dict[str, Any] = {"targets": keys_of("t-1")}
    before = operator.files()
    with pytest.raises(RefusedError, match="targets v2 lies there") as caught:
        adopted(operator.repository, operator, "t-1", "offline", "ci", **new)
    assert "leave the old ones out" in str(caught.value.hint)
    with pytest.raises(RefusedError, match="targets v2 lies there"):
        adopted(operator.repository, operator, "t-1", "ci", **new)
    assert operator.files() == before
    adopted(operator.repository, operator, "t-1", "ci-2", **new, **ONLINE)
    assert keys_of_acme(operator) == [key("acme-2").public_key.keyid]
    sound(operator.repository, operator)


def test_rotation_is_taken_back_before_targets_is_drafted(operator: Vendor) -> None:
    """Who holds the keys of targets never sees her list as what stands."""
    take_back_a_rotation(operator)
    there, clock = operator.repository, operator.clock
    new: dict[str, Any] = {"targets": keys_of("t-1")}

    with pytest.raises(RefusedError, match="targets v2 lies there"):
        there.draft_targets(propose(operator, **new), clock=clock)
    proposal = propose(operator, **new, **ONLINE)
    draft = there.draft_targets(proposal, clock=clock)
    assert draft.file.version == 3
    draft = draft.sign(key("t-1"))
    root = proposal.finalize()
    with pytest.raises(IncompleteError):
        there.adopt_root(root, [key("ci")], targets=draft.data, clock=clock)
    there.adopt_root(root, [key("ci-2")], targets=draft.data, clock=clock)
    assert keys_of_acme(operator) == [key("acme-2").public_key.keyid]
    sound(there, operator)


@pytest.mark.parametrize("roles", [("timestamp",), ("snapshot", "timestamp")])
def test_older_snapshot_is_named_in_a_registry(
    registry: TaggedVendor, roles: tuple[str, ...]
) -> None:
    """It exists, and the newest is gone with its witness: nothing is missing, and
    what was published lies there unlisted. Who remembers nothing is told."""
    registry.publish_there(registry.release("1.1.0"))
    device = registry.device_there(registry.store("device/state"))
    device.refresh()
    assert registry.newest_there() == "1.1.0"  # sane
    sink = registry.registry.place().shelf
    old = sink.metadata("3.snapshot.json", limit=1 << 20)
    steal_there(registry, thief.HIGHEST, thief.entry(3, old))
    tags = registry.registry.at(TRUST).tags
    del tags["4.snapshot"], tags["4.timestamp"]
    with pytest.raises(RollbackError):
        device.refresh()
    changes: dict[str, Any] = dict.fromkeys(roles, keys_of("ci-2"))
    done = adopted(registry.at_registry(), registry, "ci-2", **changes)
    assert told(done, "acme.pump-monitor v3 lies there, signed by its keys, and no")
    assert told(done, "publish it again (perhaps it never was")
    assert registry.newest_there() == "1.0.0"
