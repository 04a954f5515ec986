"""What a registry, a mirror, or somebody on the way does to the attestations of a
release: drops, swaps and adds them. A device that demands provenance takes what was
proven, or nothing; whoever runs the place finds out what is wrong with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from margo_supplychain import threshold
from margo_supplychain.authoring.attested import named_envelopes
from margo_supplychain.authoring.copying import copy_releases
from margo_supplychain.authoring.shelves import open_shelf
from margo_supplychain.errors import (
    DigestMismatchError,
    FetchError,
    LengthMismatchError,
    RefusedError,
    SupplyChainError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.oci import Layer, manifest_bytes
from margo_supplychain.formats.registry_form import (
    ATTESTATION,
    attestation_tag,
    wrapped,
)
from margo_supplychain.formats.versions import Version
from margo_supplychain.verify.policy import Policy
from margo_supplychain.verify.trust_store import MEMORY_FILES, TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.authoring.proving import (
    ANY,
    PROVEN,
    allow_summaries,
    demand,
    device_of,
    links_of,
    make_demanding,
    publish_proven,
    signed_layout,
    summary,
)
from tests.authoring.tagged import TRUST, EveryRepository, TaggedVendor
from tests.authoring.trust import PUMP, Vendor, key
from tests.world.repository import key as world_key

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor

PROVEN_BY_SUMMARY: Final = (
    b'[policy."*/*"]\nrequire = ["signed", "provenance"]\nprovenance = "summary"\n'
)


class Plant:
    """A vendor in a registry, and a device that has verified a proven 1.0.0 there."""

    def __init__(self, vendor: TaggedVendor, state: Path) -> None:
        self.vendor = vendor
        self.state = state
        self.store = TrustStore.create(
            state, root=vendor.root, publishers=frozenset({"acme"})
        )
        self.publish("1.0.0")
        assert self.verify() == "1.0.0"

    def publish(self, version: str) -> None:
        made = self.vendor.release(version)
        self.vendor.publish_there(made, attestations=links_of(made))

    def verify(self) -> str:
        device = Verifier(
            store=self.store,
            source=self.vendor.registry.source(),
            content=EveryRepository(self.vendor.registry),
            policy=PROVEN,
            clock=self.vendor.clock,
        )
        return str(device.verify(PUMP, ANY).version)

    def envelopes(self, version: str) -> tuple[Descriptor, ...]:
        """Return what the record of a release names."""
        repository = self.vendor.at_registry()
        with repository.edit((), clock=self.vendor.clock) as edit:
            record = edit.record(PUMP, Version.parse(version))
            return named_envelopes(record, None)

    def floors(self) -> dict[str, bytes]:
        """Return what the device remembers of releases."""
        memory = self.store.load()
        return {
            "releases": repr(memory.releases).encode(),
            "withdrawn": repr(memory.withdrawn).encode(),
        }

    def refused(self, *kinds: type[SupplyChainError]) -> SupplyChainError:
        """Expect that the device takes nothing, and that nothing moved; twice."""
        before = self.floors()
        with pytest.raises(kinds) as caught:
            self.verify()
        assert type(caught.value) in kinds
        memory = {name: (self.state / name).read_bytes() for name in MEMORY_FILES}
        with pytest.raises(kinds):
            self.verify()
        assert self.floors() == before
        found = {name: (self.state / name).read_bytes() for name in MEMORY_FILES}
        assert found == memory
        return caught.value


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    vendor = TaggedVendor.moved(tmp_path / "vendor", monkeypatch)
    with vendor.at_registry().edit(vendor.keys, clock=vendor.clock) as edit:
        demand(edit)
    return Plant(vendor, tmp_path / "device")


# --- T-213: dropped ------------------------------------------------------------------


def test_envelope_is_dropped(plant: Plant) -> None:
    """The registry loses one link of the new release, or hides it."""
    plant.publish("1.1.0")
    gone = plant.envelopes("1.1.0")[0]
    trust = plant.vendor.registry.at(TRUST)
    kept = trust.blobs.pop(str(gone.digest))
    why = plant.refused(FetchError)
    assert isinstance(why, FetchError)
    assert why.missing
    trust.blobs[str(gone.digest)] = kept
    assert plant.verify() == "1.1.0"


def test_dropped_envelope_is_found_and_not_copied(plant: Plant, tmp_path: Path) -> None:
    """A copy that lacks it is not called whole, and a check says which."""
    vendor = plant.vendor
    gone = plant.envelopes("1.0.0")[0]
    trust = vendor.registry.at(TRUST)
    kept = trust.blobs.pop(str(gone.digest))
    report = vendor.at_registry().check(clock=vendor.clock)
    assert any(gone.digest.short in one.text for one in report.violations)
    with open_shelf(str(tmp_path / "mirror")) as shelf:
        done = copy_releases(
            vendor.registry.source(),
            shelf,
            trust=TrustStore.unsafe_without_memory(root=vendor.root, publishers=None),
            content=EveryRepository(vendor.registry),
            clock=vendor.clock,
        )
    assert done.incomplete == (PUMP.release_path("1.0.0"),)
    trust.blobs[str(gone.digest)] = kept
    assert vendor.at_registry().check(clock=vendor.clock).violations == ()


def test_tag_is_dropped_so_that_a_clean_up_takes_it(plant: Plant) -> None:
    """Devices need no tag; whoever publishes next is told, and puts it back."""
    vendor = plant.vendor
    gone = plant.envelopes("1.0.0")[0]
    trust = vendor.registry.at(TRUST)
    del trust.tags[attestation_tag(gone.digest)]
    assert plant.verify() == "1.0.0"
    report = vendor.at_registry().check(clock=vendor.clock)
    assert any("has no tag" in one.text for one in report.violations)
    plant.publish("1.0.0")
    assert attestation_tag(gone.digest) in trust.tags
    assert vendor.at_registry().check(clock=vendor.clock).violations == ()


@pytest.mark.parametrize("demands", [True, False])
def test_record_is_not_answered_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, demands: bool
) -> None:
    """Whoever sits between the pipeline and the registry answers 503 for one record, so
    that the release is signed anew: with other links or none, and without its summary.
    No answer is no loss; and what is lost for good is proven again or not signed."""
    vendor = TaggedVendor.moved(tmp_path / "vendor", monkeypatch)
    with vendor.at_registry().edit(vendor.keys, clock=vendor.clock) as edit:
        if demands:
            demand(edit)
        else:
            edit.add_layout(PUMP, signed_layout(), serves=ANY)
    plant = Plant(vendor, tmp_path / "device")
    with vendor.at_registry().edit((), clock=vendor.clock) as edit:
        record = edit.record(PUMP, Version.parse("1.0.0")).to_bytes()
    mine = Digest.of(record)
    asked: list[str] = []

    def busy(what: str) -> None:
        if what.startswith("get") and mine.hex in what:
            asked.append(what)
            raise FetchError("the registry answers 503", url=TRUST, status=503)

    before = vendor.registry.copy()
    vendor.clock.advance(seconds=30)
    made = vendor.release("1.0.0")
    for given in (links_of(made), []):
        with pytest.raises(FetchError, match="503"):
            vendor.publish_there(made, before=busy, attestations=given)
    assert asked
    assert vendor.registry.at(TRUST) == before.at(TRUST)
    assert plant.verify() == "1.0.0"
    assert not vendor.publish_there(made, attestations=links_of(made)).changed
    for data in (vendor.registry.at(TRUST).blobs, vendor.registry.at(TRUST).manifests):
        data.pop(str(mine), None)
    with pytest.raises(RefusedError, match="with it which attestations it named"):
        vendor.publish_there(made)
    plant.publish("1.0.0")
    assert plant.verify() == "1.0.0"


# --- T-214: swapped ------------------------------------------------------------------


def test_envelope_is_swapped(plant: Plant) -> None:
    """Other bytes lie under the digest of a link: another release's, or nonsense."""
    plant.publish("1.1.0")
    old, new = plant.envelopes("1.0.0"), plant.envelopes("1.1.0")
    trust = plant.vendor.registry.at(TRUST)
    mine = str(new[0].digest)
    honest = trust.blobs[mine]
    for other in (
        trust.blobs[str(old[0].digest)],
        b"x" * len(honest),
        honest[:-1],
        honest + b" ",
    ):
        trust.blobs[mine] = other
        plant.refused(DigestMismatchError, LengthMismatchError)
        report = plant.vendor.at_registry().check(clock=plant.vendor.clock)
        assert report.violations != ()
    trust.blobs[mine] = honest
    assert plant.verify() == "1.1.0"


def test_tag_of_an_envelope_names_something_else(plant: Plant) -> None:
    """Whoever may push takes the tag first: it keeps no publisher from it."""
    vendor = plant.vendor
    link = links_of(vendor.release("1.1.0"))[0]
    trust = vendor.registry.at(TRUST)
    manifest, blobs = wrapped(b"evil", media_type=ATTESTATION)
    for what, data in blobs:
        trust.blobs[str(what.digest)] = data
    digest = str(Digest.of(manifest))
    trust.manifests[digest] = manifest
    tag = attestation_tag(Digest.of(link))
    trust.tags[tag] = digest
    plant.publish("1.1.0")
    assert trust.tags[tag] != digest
    assert plant.verify() == "1.1.0"
    assert vendor.at_registry().check(clock=vendor.clock).violations == ()


# --- T-215: added --------------------------------------------------------------------


def test_envelopes_are_added(plant: Plant) -> None:
    """More links, well formed and well tagged, and referrers: nobody reads them."""
    vendor = plant.vendor
    made = vendor.release("1.0.0")
    trust = vendor.registry.at(TRUST)
    package = vendor.registry.at(f"oci://registry.example/acme/{PUMP.name}")
    for data in links_of(vendor.release("9.0.0")):
        manifest, blobs = wrapped(data, media_type=ATTESTATION)
        for what, blob in blobs:
            trust.blobs[str(what.digest)] = blob
            package.blobs[str(what.digest)] = blob
        trust.manifests[str(Digest.of(manifest))] = manifest
        trust.tags[attestation_tag(Digest.of(data))] = str(Digest.of(manifest))
        referrer = manifest_bytes(
            artifact_type=ATTESTATION,
            layers=[Layer(blobs[1][0])],
            subject=made.artifact,
        )
        package.manifests[str(Digest.of(referrer))] = referrer
    assert plant.verify() == "1.0.0"
    assert vendor.at_registry().check(clock=vendor.clock).violations == ()
    # Nor is anything of it taken for the vendor's own.
    assert len(plant.envelopes("1.0.0")) == 3
    with vendor.at_registry().edit([key("ci")], clock=vendor.clock) as edit:
        edit.refresh()
    assert plant.verify() == "1.0.0"


def test_summary_that_poses_as_the_verifiers(tmp_path: Path) -> None:
    """Somebody gives the pipeline a newer summary of his own, and names as its signer
    what only the publisher's verifier can sign as, in every spelling. The true one
    stays listed: devices that take summaries alone go on."""
    vendor = make_demanding(Vendor(tmp_path))
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        allow_summaries(edit, "verifier")
    publish_proven(vendor, "1.0.0")
    good = summary(vendor, "1.0.0")
    publish_proven(vendor, "1.0.0", [good])
    small = Policy.from_toml(PROVEN_BY_SUMMARY)
    assert str(device_of(vendor, small).verify(PUMP, ANY).version) == "1.0.0"
    public = world_key("verifier").public_key
    for claimed in (threshold.material(public), public.keyid, ""):
        vendor.clock.advance(minutes=1)
        raw = json.loads(summary(vendor, "1.0.0", "mallory"))
        raw["signatures"] = [{**raw["signatures"][0], "keyid": claimed}]
        forged = json.dumps(raw).encode()
        done = publish_proven(vendor, "1.0.0", [forged])
        assert any("no key that the publisher policy" in one for one in done.warnings)
        with vendor.repository.edit((), clock=vendor.clock) as edit:
            entry = edit.releases(PUMP)[Version.parse("1.0.0")]
        digests = {one.digest for one in entry.summaries}
        assert digests >= {Digest.of(good), Digest.of(forged)}
        device = device_of(vendor, small)
        assert str(device.verify(PUMP, ANY).version) == "1.0.0"
    newer = summary(vendor, "1.0.0")
    done = publish_proven(vendor, "1.0.0", [newer])
    replaced = f"takes the place of {Digest.of(good).short}: the same verifier's"
    assert any(replaced in one for one in done.warnings)
    assert str(device_of(vendor, small).verify(PUMP, ANY).version) == "1.0.0"
