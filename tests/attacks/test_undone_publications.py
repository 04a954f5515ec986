"""What was published in a registry is undone, hidden or kept out: by who holds back a
write on its way, cuts a line, or may push there; with stolen online keys or none.

Each test is first sane, then attacked, then says what the author is told, and ends with
all of it in place for every device, or with a refusal aloud and nothing written.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Timestamp

from margo_supplychain.authoring.housekeeping import prune
from margo_supplychain.authoring.role_signing import AFTER, meta_of
from margo_supplychain.errors import (
    ConflictError,
    FetchError,
    IncompleteError,
    RefusedError,
    RollbackError,
    ThresholdError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.registry_form import TUF_METADATA, unwrapped, wrapped
from margo_supplychain.formats.versions import Version
from margo_supplychain.transport.tagged_sink import TaggedSink
from margo_supplychain.verify.trust_store import TrustStore
from tests.authoring.tagged import TRUST, MemoryRepository, TaggedVendor
from tests.authoring.trust import OPEN, PUMP, VALVE, key
from tests.authoring.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.authoring.edit import Edit

FLOW = ReleaseName.parse("acme/flow")
JUNK = b'{"schemaVersion":2}'
LAST = 2**53 - 1


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaggedVendor:
    found = TaggedVendor.moved(tmp_path, monkeypatch, others=[VALVE], release="1.0.0")
    assert (found.newest_there(), found.newest_there(VALVE)) == ("1.0.0", "1.0.0")
    return found


@pytest.fixture
def device(vendor: TaggedVendor) -> TrustStore:
    """Return the memory of a device that looks now and then."""
    return TrustStore.unsafe_without_memory(root=vendor.root, publishers=None)


def writes(what: str) -> bool:
    """Gate: what may be in another publisher's way."""
    return what.startswith("put ") and not what.startswith(("put sha256:", "put t."))


def change(vendor: TaggedVendor, action: Callable[[Edit], Any]) -> Edit:
    """Edit with the online key, and return what came of it."""
    with vendor.at_registry().edit([key("ci")], clock=vendor.clock) as edit:
        action(edit)
    return edit


def listed(vendor: TaggedVendor, name: ReleaseName) -> set[str]:
    with vendor.at_registry().edit((), clock=vendor.clock) as edit:
        return {str(one) for one in edit.releases(name)}


def problems(vendor: TaggedVendor) -> str:
    report = vendor.at_registry().check(clock=vendor.clock)
    return "\n".join(one.text for one in report.violations)


def plant(vendor: TaggedVendor, tag: str, data: bytes) -> None:
    """Put metadata under a tag, as anybody who may push can."""
    manifest, blobs = wrapped(data, media_type=TUF_METADATA, title=f"{tag}.json")
    repository = MemoryRepository(TRUST, vendor.registry, lambda _: None)
    for what, content in blobs:
        vendor.registry.at(TRUST).blobs[str(what.digest)] = content
    repository.put_manifest(manifest, "", tag=tag)


def plant_junk(vendor: TaggedVendor, *tags: str) -> None:
    trust = vendor.registry.at(TRUST)
    digest = str(Digest.of(JUNK))
    trust.manifests[digest] = JUNK
    trust.tags.update(dict.fromkeys(tags, digest))


def read(vendor: TaggedVendor, tag: str) -> bytes:
    trust = vendor.registry.at(TRUST)
    found = unwrapped(trust.manifests[trust.tags[tag]])
    return trust.blobs[str(found.layer.digest)]


def numbers(vendor: TaggedVendor, role: str) -> list[int]:
    """Return the versions of a role that have a tag."""
    tags = vendor.registry.at(TRUST).tags
    return sorted(
        int(one[: -len(role) - 1]) for one in tags if one.endswith("." + role)
    )


def race(
    vendor: TaggedVendor,
    ours: Callable[[Callable[[str], None]], Any],
    theirs: Callable[[Callable[[str], None]], Any],
    *,
    between: Callable[[], None] = lambda: None,
    after: Callable[[], None] = lambda: None,
) -> tuple[Turn, Turn]:
    """Let one publisher stop ahead of his timestamp until the other is through."""
    one, two = Turn(ours, writes), Turn(theirs, writes)
    one.start()
    two.start()
    one.step()
    while one.trace[-1] != "put timestamp":
        one.step()
    between()
    while not two.done:
        two.step()
    after()
    while not one.done:
        one.step()
    return one, two


# --- T-95: what was published is undone -----------------------------------------------


@pytest.mark.parametrize("then", ["nothing", "refresh", "timestamp", "publish"])
def test_write_that_came_late(
    vendor: TaggedVendor, device: TrustStore, then: str
) -> None:
    """Mallory, on the network, held back a first write of `timestamp` whose repetition
    went through; hours later, when a release was withdrawn, she lets it go."""
    release = vendor.release("1.1.0")
    vendor.publish_there(release)
    trust = vendor.registry.at(TRUST)
    held = trust.tags["timestamp"]
    vendor.publish_there(vendor.release("1.2.0", name=VALVE))
    change(vendor, lambda edit: edit.withdraw(PUMP, Version.parse("1.0.0"), reason="x"))
    vendor.device_there(device).refresh()
    assert problems(vendor) == ""
    trust.tags["timestamp"] = held
    with pytest.raises(RollbackError):
        vendor.device_there(device).refresh()
    assert "does not have in it what was published as v8" in problems(vendor)

    if then == "nothing":
        done = vendor.publish_there(release)
        assert not done.changed
        warnings = done.warnings
    elif then == "publish":
        warnings = vendor.publish_there(vendor.release("1.3.0")).warnings
    else:
        role = "timestamp" if then == "timestamp" else None
        warnings = change(vendor, lambda edit: edit.refresh(role)).warnings
    assert "older timestamp than v8, which was published" in "\n".join(warnings)
    assert listed(vendor, VALVE) == {"1.0.0", "1.2.0"}
    with vendor.at_registry().edit((), clock=vendor.clock) as edit:
        assert edit.releases(PUMP)[Version.parse("1.0.0")].withdrawn is not None
    vendor.device_there(device).refresh()
    assert problems(vendor) == ""


@pytest.mark.parametrize("how", [Killed(), FetchError("cut", url=TRUST)])
def test_publisher_cut_off_right_after_his_timestamp(
    vendor: TaggedVendor, device: TrustStore, how: BaseException
) -> None:
    """Mallory cuts a publisher's line when the registry has taken his timestamp, which
    was written over that of a colleague, who was told that all is done."""
    ours, theirs = vendor.release("1.1.0"), vendor.release("1.2.0", name=VALVE)
    asked: list[str] = []

    def cut(before: Callable[[str], None]) -> None:
        def stop(what: str) -> None:
            before(what)
            if "put timestamp" in asked:
                raise how
            asked.append(what)

        vendor.publish_there(ours, before=stop)

    one, two = race(
        vendor, cut, lambda before: vendor.publish_there(theirs, before=before)
    )
    assert (one.error, two.error) == (how, None)
    assert listed(vendor, VALVE) == {"1.0.0"}
    again = vendor.publish_there(ours)
    assert not again.changed
    assert "both are joined" in again.warnings[0]
    assert (listed(vendor, PUMP), listed(vendor, VALVE)) == (
        {"1.0.0", "1.1.0"},
        {"1.0.0", "1.2.0"},
    )
    vendor.device_there(device).refresh()
    assert problems(vendor) == ""


def test_memory_of_what_was_undone(vendor: TaggedVendor) -> None:
    """Whose publication was undone has a memory, which refuses what is shown now; his
    own next run brings it back."""
    store = vendor.store()
    held = vendor.registry.at(TRUST).tags["timestamp"]
    release = vendor.release("1.1.0")
    vendor.publish_there(release, state=store)
    vendor.registry.at(TRUST).tags["timestamp"] = held
    with pytest.raises(RollbackError):
        vendor.at_registry().status(
            within=timedelta(0), clock=vendor.clock, state=store
        )
    assert not vendor.publish_there(release, state=store).changed
    assert listed(vendor, PUMP) == {"1.0.0", "1.1.0"}
    assert problems(vendor) == ""


def test_what_is_hidden_with_its_witnesses(vendor: TaggedVendor) -> None:
    """The registry itself shows an old copy, without witnesses: the memory refuses."""
    store, old = vendor.store(), vendor.registry.copy()
    vendor.publish_there(vendor.release("1.1.0"), state=store)
    vendor.registry.repositories[TRUST] = old.at(TRUST)
    before = vendor.registry.copy()
    with pytest.raises(RollbackError):
        vendor.publish_there(vendor.release("1.2.0"), state=store)
    assert vendor.registry == before


def test_publications_that_cannot_be_joined(vendor: TaggedVendor) -> None:
    """A hostile registry showed each of two publishers a state of his own; both are
    told that they have published, and both changed one role."""
    start = vendor.registry.copy()
    vendor.publish_there(vendor.release("1.1.0"))
    one = vendor.registry.at(TRUST).copy()
    vendor.registry.repositories[TRUST] = start.at(TRUST)
    vendor.publish_there(vendor.release("1.2.0"))
    change(vendor, lambda edit: edit.refresh())
    trust = vendor.registry.at(TRUST)
    newest = max(numbers(vendor, "timestamp"))
    trust.blobs |= one.blobs
    trust.manifests |= one.manifests
    trust.tags |= one.tags
    before = vendor.registry.copy()
    with pytest.raises(ConflictError, match="can't be joined") as caught:
        vendor.publish_there(vendor.release("1.3.0", name=VALVE))
    assert f"{newest}.timestamp" in str(caught.value.hint)
    assert vendor.registry.at(TRUST).tags == before.at(TRUST).tags
    assert "does not have in it" in problems(vendor)
    del trust.tags[f"{newest}.timestamp"]  # as the hint says
    vendor.publish_there(vendor.release("1.3.0", name=VALVE))
    assert listed(vendor, PUMP) == {"1.0.0", "1.1.0"}


def test_who_has_not_the_keys_to_bring_it_back(vendor: TaggedVendor) -> None:
    """Nobody signs on top of what was undone without bringing it back."""
    held = vendor.registry.at(TRUST).tags["timestamp"]
    vendor.publish_there(vendor.release("1.1.0"))
    vendor.registry.at(TRUST).tags["timestamp"] = held
    before = vendor.registry.copy()
    with (
        pytest.raises(ConflictError, match="does not have in it") as caught,
        vendor.at_registry().edit([key("offline")], clock=vendor.clock) as edit,
    ):
        edit.refresh("acme")
    assert "repo refresh" in str(caught.value.hint)
    assert vendor.registry == before


def test_forged_witnesses(vendor: TaggedVendor) -> None:
    """Who may push writes witnesses of her own: by other keys, old ones under higher
    names, bytes that are nothing. They count for nothing, also in the way of ours."""
    forged = Metadata[Timestamp].from_bytes(read(vendor, "timestamp"))
    version = forged.signed.version
    forged.signed.version += 2
    forged.sign(CryptoSigner.generate_ecdsa())
    plant(vendor, f"{version + 2}.timestamp", forged.to_bytes())
    plant(vendor, f"{version + 1}.timestamp", read(vendor, f"{version}.timestamp"))
    plant_junk(vendor, f"{version + 3}.timestamp", "1x.timestamp", "0.timestamp")
    assert problems(vendor) == ""
    done = vendor.publish_there(vendor.release("1.1.0"))
    assert (done.timestamp, done.warnings) == (version + 1, ())
    witness = Metadata[Timestamp].from_bytes(read(vendor, f"{version + 1}.timestamp"))
    assert (
        witness.to_bytes() == Metadata.from_bytes(read(vendor, "timestamp")).to_bytes()
    )
    assert problems(vendor) == ""


def test_more_names_than_anybody_looks_at(vendor: TaggedVendor) -> None:
    """Mallory hides a witness among a thousand names: that is said, not passed over."""
    above = max(numbers(vendor, "timestamp")) + 1
    plant_junk(vendor, *(f"{above + one}.timestamp" for one in range(1000)))
    before = vendor.registry.copy()
    with pytest.raises(ConflictError, match="only 512 are looked at") as caught:
        vendor.publish_there(vendor.release("1.1.0"))
    assert "the registry's own tools" in str(caught.value.hint)
    assert vendor.registry == before


def test_timestamp_without_an_answer_is_looked_at_first(vendor: TaggedVendor) -> None:
    """A write of `timestamp` breaks off, and a colleague is through before it is tried
    again: it is not written over his."""
    tried: list[str] = []

    def broken(what: str) -> None:
        if what == "put timestamp":
            tried.append(what)
            if len(tried) == 1:
                raise FetchError("broke off", url=TRUST, unreachable=True)

    assert vendor.publish_there(vendor.release("1.1.0"), before=broken).changed
    assert len(tried) == 2
    tried.clear()

    def overtaken(what: str) -> None:
        broken(what)
        if what == "get timestamp" and len(tried) == 1:
            tried.append(what)
            vendor.publish_there(vendor.release("1.2.0", name=VALVE))

    with (
        pytest.raises(ConflictError, match="somebody else published"),
        vendor.at_registry(overtaken).edit([key("ci")], clock=vendor.clock) as edit,
    ):
        edit.refresh()
    assert listed(vendor, VALVE) == {"1.0.0", "1.2.0"}
    assert problems(vendor) == ""


def test_pruning_keeps_witnesses(vendor: TaggedVendor) -> None:
    """Old ones go like every other file; those that are above what is shown stay."""
    for version in ("1.1.0", "1.2.0", "1.3.0"):
        vendor.publish_there(vendor.release(version))
    trust = vendor.registry.at(TRUST)
    newest = max(numbers(vendor, "timestamp"))
    trust.tags["timestamp"] = trust.tags[f"{newest - 1}.timestamp"]
    plant(vendor, "timestamp", read(vendor, f"{newest - 1}.timestamp"))
    root = TrustStore.unsafe_without_memory(root=vendor.root)
    shelf = TaggedSink(vendor.registry.repository(TRUST))
    prune(shelf, trust=root, clock=vendor.clock, keep=1)
    assert numbers(vendor, "timestamp") == [newest - 1, newest]
    change(vendor, lambda edit: edit.refresh())
    assert listed(vendor, PUMP) == {"1.0.0", "1.1.0", "1.2.0", "1.3.0"}


# --- T-96: rivals that are planted, or sign with what was taken from them -------------


@pytest.mark.parametrize(
    "ghost", ["ghost", "a..b", "acme", "root", "GHOST", "x.y", "snapshot", "acme.valve"]
)
def test_planted_rival(vendor: TaggedVendor, device: TrustStore, ghost: str) -> None:
    """A thief of snapshot's key plants a snapshot beside that of an honest colleague,
    which does not verify: the colleague is joined all the same."""

    def add_ghost() -> None:
        version = max(numbers(vendor, "snapshot"))
        forged = Metadata[Snapshot].from_bytes(read(vendor, f"{version}.snapshot"))
        forged.signed.version = version + 1
        forged.signed.meta[f"{ghost}.json"] = MetaFile(9, 3, {"sha256": "00" * 32})
        forged.sign(key("ci"))
        plant(vendor, f"{version + 1}.snapshot", forged.to_bytes())

    ours, theirs = vendor.release("1.1.0"), vendor.release("1.2.0", name=VALVE)
    one, two = race(
        vendor,
        lambda before: vendor.publish_there(ours, before=before),
        lambda before: vendor.publish_there(theirs, before=before),
        after=add_ghost,
    )
    assert (one.error, two.error) == (None, None)
    assert "does not verify" in "\n".join(one.result.warnings)
    assert listed(vendor, PUMP) == {"1.0.0", "1.1.0"}
    assert listed(vendor, VALVE) == {"1.0.0", "1.2.0"}
    vendor.device_there(device).refresh()
    assert problems(vendor) == ""


@pytest.mark.parametrize("is_thief_first", [False, True])
def test_first_release_by_a_key_that_was_taken_away(
    vendor: TaggedVendor, device: TrustStore, is_thief_first: bool
) -> None:
    """An application's key was stolen; at the moment when it gets another one, the
    thief signs its first release. The stolen key does not come back, and the new one
    can go on."""
    with vendor.at_registry().edit(vendor.keys, clock=vendor.clock) as edit:
        edit.add_application(FLOW, [key("old").public_key], policy=OPEN)
    bad = vendor.release("6.6.6", name=FLOW)

    def steal(before: Callable[[str], None]) -> None:
        vendor.publish_there(bad, before=before, keys=[key("ci"), key("old")])

    def rotate(before: Callable[[str], None]) -> None:
        with vendor.at_registry(before).edit(vendor.keys, clock=vendor.clock) as edit:
            edit.rotate_keys(FLOW.role, [key("new").public_key], threshold=1)

    order = (rotate, steal) if is_thief_first else (steal, rotate)
    turns = race(vendor, *order)
    rotated = turns[0 if is_thief_first else 1]
    assert rotated.error is None
    vendor.device_there(device).refresh()
    with pytest.raises((IncompleteError, ThresholdError)):
        vendor.publish_there(bad, keys=[key("ci"), key("old")])
    good = vendor.release("1.0.0", name=FLOW)
    vendor.publish_there(good, keys=[key("ci"), key("new")])
    pin = Pin.range("*", grammar="npm")
    assert str(vendor.device_there(device).verify(FLOW, pin).version) == "1.0.0"
    assert problems(vendor) == ""


# --- T-97: names that hide a rival, or bar the next version ---------------------------


@pytest.mark.parametrize(("many", "stay"), [(16, True), (100, True), (1, False)])
def test_hole_between_two_publishers(
    vendor: TaggedVendor, device: TrustStore, many: int, stay: bool
) -> None:
    """Who may push plants names between the snapshots of two, or takes them away
    again, so that the slower one does not find the other's."""
    above = max(numbers(vendor, "snapshot")) + 2  # ours has the next one
    tags = [f"{above + one}.snapshot" for one in range(many)]

    def take_away() -> None:
        for one in () if stay else tags:
            del vendor.registry.at(TRUST).tags[one]

    ours, theirs = vendor.release("1.1.0"), vendor.release("1.2.0", name=VALVE)
    one, two = race(
        vendor,
        lambda before: vendor.publish_there(ours, before=before),
        lambda before: vendor.publish_there(theirs, before=before),
        between=lambda: plant_junk(vendor, *tags),
        after=take_away,
    )
    assert (one.error, two.error) == (None, None)
    assert listed(vendor, PUMP) == {"1.0.0", "1.1.0"}
    assert listed(vendor, VALVE) == {"1.0.0", "1.2.0"}
    vendor.device_there(device).refresh()
    assert problems(vendor) == ""


def test_hundreds_of_names_above(vendor: TaggedVendor, device: TrustStore) -> None:
    """Who may push takes the next three hundred names: they are passed over, and left
    alone by a clean-up."""
    for role in ("snapshot", PUMP.role):
        above = max(numbers(vendor, role)) + 1
        plant_junk(vendor, *(f"{above + one}.{role}" for one in range(300)))
    vendor.publish_there(vendor.release("1.1.0"))
    vendor.device_there(device).refresh()
    assert vendor.newest_there() == "1.1.0"
    root = TrustStore.unsafe_without_memory(root=vendor.root)
    prune(
        TaggedSink(vendor.registry.repository(TRUST)),
        trust=root,
        clock=vendor.clock,
        keep=1,
    )
    vendor.publish_there(vendor.release("1.2.0"))
    assert vendor.newest_there() == "1.2.0"
    assert problems(vendor) == ""


# --- T-98: names on the list that nobody delegates to ---------------------------------


def squat(vendor: TaggedVendor, role: str, version: int) -> None:
    """Publish a snapshot that lists a name, with the stolen online keys."""
    timestamp = Metadata[Timestamp].from_bytes(read(vendor, "timestamp"))
    known = timestamp.signed.snapshot_meta.version
    base = read(vendor, f"{known}.snapshot")
    snapshot = Metadata[Snapshot].from_bytes(base)
    snapshot.signed.version = known + 1
    after = [meta_of(known, base).to_dict()]
    snapshot.signed.unrecognized_fields[AFTER] = after
    entry = MetaFile(version, 3, {"sha256": "00" * 32})
    snapshot.signed.meta[f"{role}.json"] = entry
    snapshot.sign(key("ci"))
    data = snapshot.to_bytes()
    timestamp.signed.version += 1
    timestamp.signed.snapshot_meta = meta_of(known + 1, data)
    timestamp.sign(key("ci"))
    plant(vendor, f"{known + 1}.snapshot", data)
    plant(vendor, "timestamp", timestamp.to_bytes())


@pytest.mark.parametrize("version", [7, LAST - 1])
def test_name_that_is_taken_before_its_application(
    vendor: TaggedVendor, device: TrustStore, version: int
) -> None:
    """A thief of the online keys lists an application that nobody has added yet: it can
    be added all the same, and everybody is told."""
    squat(vendor, FLOW.role, version)
    vendor.device_there(device).refresh()  # devices do not mind
    assert "nobody delegates to that" in problems(vendor)
    done = vendor.publish_there(vendor.release("1.1.0"))
    assert "nobody delegates to that" in "\n".join(done.warnings)
    keys = [*vendor.keys, key("flow")]
    with vendor.at_registry().edit(keys, clock=vendor.clock) as edit:
        edit.add_application(FLOW, [key("flow").public_key], policy=OPEN)
    assert edit.standing(FLOW.role)[0] == version + 1
    assert problems(vendor) == ""
    if version == 7:
        release = vendor.release("1.0.0", name=FLOW)
        vendor.publish_there(release, keys=[key("ci"), key("flow")])
        assert vendor.newest_there(FLOW) == "1.0.0"


def test_last_number_there_is(vendor: TaggedVendor) -> None:
    """The thief took the last number, too: only new keys of his roles lead back."""
    squat(vendor, FLOW.role, LAST)
    before = vendor.registry.copy()
    with (
        pytest.raises(RefusedError, match="no number above") as caught,
        vendor.at_registry().edit(
            [*vendor.keys, key("flow")], clock=vendor.clock
        ) as edit,
    ):
        edit.add_application(FLOW, [key("flow").public_key], policy=OPEN)
    assert "new keys of snapshot" in str(caught.value.hint)
    assert vendor.registry.at(TRUST) == before.at(TRUST)


@pytest.mark.parametrize("role", ["root", "zz..y", "ghost", "zz.top", "a/../../x"])
def test_names_that_are_none(vendor: TaggedVendor, role: str) -> None:
    """Whatever a thief of the online keys lists is noticed, and bars nobody."""
    squat(vendor, role, 7)
    assert "nobody delegates to that" in problems(vendor)
    vendor.publish_there(vendor.release("1.1.0"))
    assert vendor.newest_there() == "1.1.0"
