"""Attestations wherever a repository lies: stored, copied, checked, repaired, kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring.attested import envelope_problems, named_envelopes
from margo_supplychain.authoring.housekeeping import prune
from margo_supplychain.authoring.overlay import Overlay, Staged
from margo_supplychain.authoring.selection import Selection
from margo_supplychain.authoring.shelves import open_shelf
from margo_supplychain.errors import FetchError, InconclusiveError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.record import ReleaseRecord
from margo_supplychain.formats.registry_form import ATTESTATION, attestation_tag
from margo_supplychain.formats.versions import Version
from margo_supplychain.storage.content_store import blob_path
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.transport.opening import FixedContent, open_sink, open_source
from margo_supplychain.transport.tagged_sink import TaggedSink
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.authoring.copies import KINDS, copy, place
from tests.authoring.killing import Killed, Stop, at, cut_off, killed
from tests.authoring.proving import (
    ANY,
    PROVEN,
    allow_summaries,
    demand,
    device_of,
    links_of,
    make_demanding,
    publish_proven,
    summary,
)
from tests.authoring.tagged import TRUST, EveryRepository, TaggedVendor
from tests.authoring.test_repairing import check, mend, texts
from tests.authoring.trust import PUMP, Vendor
from tests.faults.crash import Crash, Loss, crash_points
from tests.registries.servers import docker_registry
from tests.world.provenance import envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from margo_supplychain.errors import SupplyChainError
    from margo_supplychain.formats.digests import Descriptor
    from tests.registries.servers import DockerRegistry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def filled(vendor: Vendor) -> Vendor:
    """Return a vendor of a proven 1.0.0, with a verification summary."""
    make_demanding(vendor)
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        allow_summaries(edit, "verifier")
    publish_proven(vendor, "1.0.0")
    publish_proven(vendor, "1.0.0", [summary(vendor, "1.0.0")])
    return vendor


def envelopes(vendor: Vendor, version: str = "1.0.0") -> tuple[Descriptor, ...]:
    """Return what a release names."""
    with vendor.repository.edit((), clock=vendor.clock) as edit:
        wanted = Version.parse(version)
        return named_envelopes(edit.record(PUMP, wanted), edit.releases(PUMP)[wanted])


def verify_at(vendor: Vendor, at: str, registry: DockerRegistry) -> str:
    """Return what a device takes that demands provenance."""
    source = open_source(at, network=registry.network())
    device = Verifier(
        store=TrustStore.unsafe_without_memory(
            root=vendor.repository.root, publishers=None
        ),
        source=source,
        content=FixedContent([source]),
        policy=PROVEN,
        clock=vendor.clock,
    )
    return str(device.verify(PUMP, ANY).version)


def lose(at: str, what: Descriptor, registry: DockerRegistry) -> None:
    """Take an envelope away, where that can be done."""
    sink = open_sink(at, network=registry.network())
    if isinstance(sink, TaggedSink):
        tag = attestation_tag(what.digest)
        found = sink.resolve(tag)
        sink._writer.delete_manifest(found.digest)
        return
    blob_path(Path(at), what.digest).unlink()


# --- copies --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_copied_with_the_release(
    filled: Vendor, registry: DockerRegistry, kind: str
) -> None:
    """A device that demands provenance verifies from any copy, and copies of it."""
    target = place(kind, filled, "mirror", registry)
    done = copy(filled, str(filled.trust), target, registry)
    assert (done.incomplete, done.warnings) == ((), ())
    assert verify_at(filled, target, registry) == "1.0.0"
    report = check(filled, target, registry)
    assert report.violations == ()
    assert report.steps[3].facts == {"releases": 1, "attestations": 4}
    shelf = open_sink(target, network=registry.network())
    for what in envelopes(filled):
        assert shelf.has_blob(what)
        if isinstance(shelf, TaggedSink):
            assert shelf.keeps(attestation_tag(what.digest), what)
    # What is there is not copied again.
    again = copy(filled, str(filled.trust), target, registry)
    assert again.blobs_new == 0
    assert again.blobs_there == done.blobs_new + done.blobs_there
    # From there to a stick.
    further = copy(filled, target, str(filled.directory / "stick"), registry)
    assert further.incomplete == ()
    assert verify_at(filled, str(filled.directory / "stick"), registry) == "1.0.0"


def test_a_copy_without_an_envelope_is_not_whole(
    filled: Vendor, registry: DockerRegistry
) -> None:
    gone = envelopes(filled)[0]
    blob_path(filled.trust, gone.digest).unlink()
    target = str(filled.directory / "mirror")
    done = copy(filled, str(filled.trust), target, registry)
    assert done.incomplete == (PUMP.release_path("1.0.0"),)
    assert "is not copied whole" in done.warnings[0]


def test_a_narrowed_copy_has_the_envelopes_of_what_it_takes(
    filled: Vendor, registry: DockerRegistry
) -> None:
    publish_proven(filled, "1.1.0")
    old, new = envelopes(filled), envelopes(filled, "1.1.0")
    target = str(filled.directory / "mirror")
    select = Selection(pin=Pin.exact(Version.parse("1.1.0")))
    copy(filled, str(filled.trust), target, registry, select=select)
    shelf = open_sink(target)
    assert all(shelf.has_blob(one) for one in new)
    assert not any(shelf.has_blob(one) for one in old)
    # Once it takes all of them, these come as well.
    copy(filled, str(filled.trust), target, registry)
    assert all(shelf.has_blob(one) for one in old)


def test_no_clean_up_takes_them(filled: Vendor, registry: DockerRegistry) -> None:
    """Neither ours nor the registry's, which removes what has no tag."""
    target = place("oci", filled, "cleaned", registry)
    copy(filled, str(filled.trust), target, registry)
    trust = TrustStore.unsafe_without_memory(root=filled.repository.root)
    with open_shelf(target, network=registry.network()) as shelf:
        prune(shelf, trust=trust, clock=filled.clock, keep=1)
    registry.collect_garbage()
    assert check(filled, target, registry).violations == ()
    assert verify_at(filled, target, registry) == "1.0.0"


# --- check and repair ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["directory", "oci-layout", "oci"])
def test_what_was_lost_is_found_and_put_back(
    filled: Vendor, registry: DockerRegistry, kind: str
) -> None:
    target = place(kind, filled, "mirror", registry)
    copy(filled, str(filled.trust), target, registry)
    for what in envelopes(filled):
        lose(target, what, registry)
    found = texts(check(filled, target, registry))
    assert found.count("acme/pump-monitor 1.0.0: ") == 4
    done = mend(filled, target, registry)
    assert done.warnings == ()
    assert set(done.restored) == {str(one.digest) for one in envelopes(filled)}
    assert check(filled, target, registry).violations == ()
    assert verify_at(filled, target, registry) == "1.0.0"
    assert mend(filled, target, registry).restored == ()


@pytest.mark.parametrize("kind", ["directory", "oci-layout"])
def test_what_was_damaged_is_put_back(
    filled: Vendor, registry: DockerRegistry, kind: str
) -> None:
    target = place(kind, filled, "mirror", registry)
    copy(filled, str(filled.trust), target, registry)
    one, *_ = envelopes(filled)
    blob_path(filled.directory / "mirror", one.digest).write_bytes(b"x" * one.size)
    assert one.digest.short in texts(check(filled, target, registry))
    assert mend(filled, target, registry).restored == (str(one.digest),)
    assert check(filled, target, registry).violations == ()


def test_what_nobody_has_is_said(filled: Vendor, registry: DockerRegistry) -> None:
    target = str(filled.directory / "mirror")
    copy(filled, str(filled.trust), target, registry)
    one, *_ = envelopes(filled)
    for directory in (filled.trust, filled.directory / "mirror"):
        blob_path(directory, one.digest).unlink()
    (warning,) = mend(filled, target, registry).warnings
    assert warning.startswith(f"attestation {one.digest.short}: ")


def test_problems_of_a_memory_registry(filled: Vendor) -> None:
    """A registry is asked for presence; one that does not answer is no answer."""
    from tests.authoring.tagged import MemoryRegistry

    def stop(what: str) -> None:
        del what
        raise cut_off()

    memory = MemoryRegistry()
    sink = TaggedSink(memory.repository(TRUST))
    what, *_ = envelopes(filled)

    def problems(place: TaggedSink = sink) -> list[SupplyChainError]:
        return list(envelope_problems(place, [what]))

    assert "does not hold attestation" in str(problems()[0])
    with DirectorySource(filled.trust).blob(what) as stream:
        sink.put_attestation(what, stream)
    assert problems() == []
    memory.at(TRUST).tags.clear()
    assert "has no tag, or one that names something else" in str(problems()[0])
    (problem,) = problems(TaggedSink(memory.repository(TRUST, stop)))
    assert str(problem) == "no route"


# --- where publishing stores them ----------------------------------------------------


@pytest.fixture
def tagged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaggedVendor:
    """Return a vendor in a registry whose policy demands provenance."""
    found = TaggedVendor.moved(tmp_path, monkeypatch)
    with found.at_registry().edit(found.keys, clock=found.clock) as edit:
        demand(edit)
    return found


def publish_there(
    vendor: TaggedVendor, version: str, before: Callable[[str], None] | None = None
) -> bool:
    made = vendor.release(version)
    options = {} if before is None else {"before": before}
    return vendor.publish_there(made, attestations=links_of(made), **options).changed


def device_there(vendor: TaggedVendor) -> Verifier:
    return Verifier(
        store=TrustStore.unsafe_without_memory(root=vendor.root, publishers=None),
        source=vendor.registry.source(),
        content=EveryRepository(vendor.registry),
        policy=PROVEN,
        clock=vendor.clock,
    )


def newest_proven(vendor: TaggedVendor) -> str:
    return str(device_there(vendor).verify(PUMP, ANY).version)


def test_a_registry_has_them_under_tags_of_their_own(tagged: TaggedVendor) -> None:
    publish_there(tagged, "1.0.0")
    trust = tagged.registry.at(TRUST)
    tags = [tag for tag in trust.tags if tag.startswith("a.")]
    assert len(tags) == 3
    assert all(f"sha256:{tag[2:]}" in trust.blobs for tag in tags)
    assert newest_proven(tagged) == "1.0.0"
    assert tagged.at_registry().check(clock=tagged.clock).violations == ()
    assert not publish_there(tagged, "1.0.0")
    # The package's own repository has no tag but its version's.
    assert set(tagged.registry.at("oci://registry.example/acme/pump-monitor").tags) == {
        "1.0.0"
    }


def test_a_lost_tag_is_restored(tagged: TaggedVendor) -> None:
    publish_there(tagged, "1.0.0")
    trust = tagged.registry.at(TRUST)
    tag = next(tag for tag in trust.tags if tag.startswith("a."))
    del trust.tags[tag]
    report = tagged.at_registry().check(clock=tagged.clock)
    assert "has no tag" in report.violations[0].text
    assert publish_there(tagged, "1.0.0")
    assert tag in trust.tags
    assert tagged.at_registry().check(clock=tagged.clock).violations == ()


def test_a_check_that_is_cut_off_is_no_verdict(tagged: TaggedVendor) -> None:
    """The policy's layout can't be read: nobody says that the release is bad."""
    publish_there(tagged, "1.0.0")
    with tagged.at_registry().edit((), clock=tagged.clock) as edit:
        policy = edit.policy(PUMP)
    assert policy is not None
    layout = policy.layouts[0].digest

    def stop(what: str) -> None:
        if what == f"get {layout}":
            raise cut_off()

    report = tagged.at_registry(stop).check(clock=tagged.clock)
    assert report.verdict == "inconclusive"
    assert "no route" in report.violations[0].text


def test_a_summary_that_can_not_be_asked_for(tagged: TaggedVendor) -> None:
    """Whoever does not answer has not said that the summary is gone."""
    with tagged.at_registry().edit(tagged.keys, clock=tagged.clock) as edit:
        allow_summaries(edit, "verifier")
    publish_there(tagged, "1.0.0")
    made = tagged.release("1.0.0")
    said = json.loads(
        device_there(tagged)
        .verify(PUMP, ANY)
        .report.to_vsa(verifier="https://v.example")
    )
    first, second = (envelope(said, one) for one in ("verifier", "auditor"))
    assert tagged.publish_there(made, attestations=[first]).changed

    def stop(what: str) -> None:
        if what == f"get {Digest.of(first)}":
            raise cut_off()

    with pytest.raises(FetchError, match="no route"):
        tagged.publish_there(made, attestations=[second], before=stop)
    assert tagged.publish_there(made, attestations=[second]).changed


def test_envelopes_are_there_before_the_record(tagged: TaggedVendor) -> None:
    asked: list[str] = []
    publish_there(tagged, "1.0.0", before=asked.append)
    puts = [one.removeprefix("put ") for one in asked if one.startswith("put ")]
    attested = max(puts.index(tag) for tag in puts if tag.startswith("a."))
    records = min(puts.index(tag) for tag in puts if tag.startswith("t."))
    assert attested < records < puts.index("timestamp")


# --- killed --------------------------------------------------------------------------


@pytest.mark.parametrize("how", [killed, cut_off])
def test_killed_at_any_request(
    tagged: TaggedVendor,
    monkeypatch: pytest.MonkeyPatch,
    how: Callable[[], BaseException],
) -> None:
    """Devices see the old release or the new one, each with all that proves it."""
    publish_there(tagged, "1.0.0")
    start = tagged.registry
    for number in range(1, 1000):
        tagged.registry = start.copy()
        stop = Stop(number, how)
        tagged.registry.install(monkeypatch, stop)
        done = True
        try:
            publish_there(tagged, "1.1.0", before=stop)
        except (Killed, InconclusiveError):
            done = False
        finally:
            tagged.registry.install(monkeypatch)
        seen = newest_proven(tagged)
        assert seen in ({"1.1.0"} if done else {"1.0.0", "1.1.0"}), stop.seen
        assert publish_there(tagged, "1.1.0") == (seen == "1.0.0"), stop.seen
        assert newest_proven(tagged) == "1.1.0"
        report = tagged.at_registry().check(clock=tagged.clock)
        assert report.violations == ()
        if done:
            assert number > 30
            return
    raise AssertionError("is there a loop?")


def test_killed_at_any_write(tmp_path: Path) -> None:
    original = make_demanding(Vendor(tmp_path / "start"))
    publish_proven(original, "1.0.0")
    original.release("1.1.0")

    def publish(copied: Path) -> None:
        publish_proven(at(copied, original), "1.1.0")

    def look(copied: Path, crash: Crash) -> None:
        vendor = at(copied, original)
        seen = str(device_of(vendor).verify(PUMP, ANY).version)
        assert seen in ({"1.1.0"} if crash.finished else {"1.0.0", "1.1.0"})
        assert publish_proven(vendor, "1.1.0").changed == (seen == "1.0.0")
        assert str(device_of(vendor).verify(PUMP, ANY).version) == "1.1.0"
        assert vendor.repository.check(clock=vendor.clock).violations == ()

    losses = [Loss.UNSYNCED]
    points = crash_points(
        original.directory, publish, look, scratch=tmp_path, losses=losses
    )
    assert points > 30


# --- parts ---------------------------------------------------------------------------


def test_a_staged_envelope_is_read_from_where_it_begins(filled: Vendor) -> None:
    what, *_ = envelopes(filled)
    with DirectorySource(filled.trust).blob(what) as stream:
        data = stream.read()
    staged = Staged(attestations={what.digest: (what, data)})
    assert not staged.is_empty()
    overlay = Overlay(staged, DirectorySource(filled.directory / "nowhere"))
    with overlay.blob(what, start=10) as stream:
        assert stream.read() == data[10:]


def test_what_a_release_names(filled: Vendor) -> None:
    with filled.repository.edit((), clock=filled.clock) as edit:
        record = edit.record(PUMP, Version.parse("1.0.0"))
    assert isinstance(record, ReleaseRecord)
    named = named_envelopes(record, None)
    assert [one.digest for one in named] == [one.digest for one in record.attestations]
    assert {one.media_type for one in named} == {ATTESTATION}
    shutil.rmtree(filled.trust)
