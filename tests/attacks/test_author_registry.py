"""A registry is hostile to the author who publishes into it: it lies to the one who
holds the keys, so that a signature is made that harms devices, or none that counts."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Snapshot, Targets

from margo_supplychain.authoring.plan import RootPlan
from margo_supplychain.authoring.release import Release
from margo_supplychain.authoring.repository import Repository
from margo_supplychain.authoring.role_signing import meta_of
from margo_supplychain.errors import (
    ConflictError,
    DigestMismatchError,
    ExpiredError,
    FetchError,
    MixAndMatchError,
    RefusedError,
    RollbackError,
    ThresholdError,
)
from margo_supplychain.formats.registry_form import (
    TUF_METADATA,
    unwrapped,
    wrapped,
)
from margo_supplychain.formats.versions import Version
from tests.authoring.tagged import HOST, TRUST, MemoryRepository, TaggedVendor
from tests.authoring.trust import OPEN, PUMP, key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.authoring.tagged import MemoryRegistry


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaggedVendor:
    found = TaggedVendor.moved(tmp_path, monkeypatch, release="1.0.0")
    assert found.newest_there() == "1.0.0"  # sane
    return found


def roll_back(vendor: TaggedVendor, old: MemoryRegistry) -> None:
    """Let the registry show an old copy of the trust repository."""
    vendor.registry.repositories[TRUST] = old.at(TRUST).copy()


def plant(vendor: TaggedVendor, tag: str, data: bytes) -> None:
    """Put metadata under a tag, as the registry's operator can."""
    manifest, blobs = wrapped(data, media_type=TUF_METADATA, title=f"{tag}.json")
    repository = MemoryRepository(TRUST, vendor.registry, lambda _: None)
    trust = vendor.registry.at(TRUST)
    for what, content in blobs:
        trust.blobs[str(what.digest)] = content
    repository.put_manifest(manifest, "", tag=tag)


def read(vendor: TaggedVendor, tag: str) -> bytes:
    """Return the metadata under a tag."""
    trust = vendor.registry.at(TRUST)
    found = unwrapped(trust.manifests[trust.tags[tag]])
    return trust.blobs[str(found.layer.digest)]


def newest(vendor: TaggedVendor, role: str) -> int:
    """Return the highest version of a role that has a tag."""
    tags = vendor.registry.at(TRUST).tags
    return max(int(tag.partition(".")[0]) for tag in tags if tag.endswith(f".{role}"))


# --- T-60: an old copy to sign on top of ---------------------------------------------


def test_old_copy_to_sign_on_top_of(vendor: TaggedVendor) -> None:
    """Mallory shows the author last week's copy; what he signs on top of it would take
    back a withdrawal. His memory knows better, and nothing is pushed."""
    store = vendor.store()
    old = vendor.registry.copy()
    with vendor.at_registry().edit(
        [key("ci")], clock=vendor.clock, state=store
    ) as edit:
        edit.withdraw(PUMP, Version.parse("1.0.0"), reason="leaks")
    roll_back(vendor, old)
    before = vendor.registry.copy()
    remembered = store.load()
    with pytest.raises(RollbackError, match="is older than trusted"):
        vendor.publish_there(vendor.release("1.1.0"), state=store)
    assert vendor.registry == before
    assert store.load() == remembered


def test_expired_copy_for_an_author_without_a_memory(vendor: TaggedVendor) -> None:
    """A build machine has no memory; Mallory kept a copy until it expired, and now
    wants a fresh timestamp for it."""
    vendor.clock.when += timedelta(days=5)
    before = vendor.registry.copy()
    with (
        pytest.raises(ExpiredError, match="timestamp"),
        vendor.at_registry().edit([key("ci")], clock=vendor.clock) as edit,
    ):
        edit.refresh()
    assert vendor.registry == before


def test_repository_of_somebody_else(vendor: TaggedVendor, tmp_path: Path) -> None:
    """Mallory serves a whole repository with keys of her own, root and all; the
    author's keys sign nothing in it."""
    other = TaggedVendor(tmp_path / "mallory")
    other.directory.mkdir()
    mallory = CryptoSigner.generate_ecdsa()
    plan = RootPlan.small(
        publisher="acme", offline=mallory.public_key, online=key("ci").public_key
    )
    Repository.create(
        other.trust, plan=plan, keys=[mallory, key("ci")], clock=other.clock
    )
    other.move()
    vendor.registry.repositories[TRUST] = other.registry.at(TRUST)
    before = vendor.registry.copy()
    with pytest.raises(ThresholdError, match="targets v1 has 0 of 1"):
        vendor.publish_there(vendor.release("1.1.0"))
    unrooted = vendor.registry.open(None)
    with (
        pytest.raises(RefusedError, match="nothing says which keys are its own"),
        unrooted.edit([key("ci")], clock=vendor.clock),
    ):
        raise AssertionError
    assert vendor.registry == before


# --- T-61: what has the next version's name ------------------------------------------


def test_metadata_of_another_signer_under_the_next_name(vendor: TaggedVendor) -> None:
    """Mallory puts a role of her own under the name that comes next: it is neither
    adopted nor overwritten."""
    mallory = CryptoSigner.generate_ecdsa()
    following = newest(vendor, PUMP.role) + 1
    forged = Metadata(Targets(version=following, expires=vendor.clock.when))
    forged.sign(mallory)
    tag = f"{following}.{PUMP.role}"
    plant(vendor, tag, forged.to_bytes())
    vendor.publish_there(vendor.release("1.1.0"))
    assert read(vendor, tag) == forged.to_bytes()
    assert newest(vendor, PUMP.role) == following + 1
    assert vendor.newest_there() == "1.1.0"


def test_bytes_that_are_no_metadata_under_the_next_name(vendor: TaggedVendor) -> None:
    """Whatever has the name, the author passes it over."""
    following = newest(vendor, "snapshot") + 1
    for number, data in enumerate(
        [b"", b"{}", b"[" * 5000, json.dumps({"signed": {}}).encode(), b"\xff" * 100]
    ):
        plant(vendor, f"{following + number}.snapshot", data)
    vendor.publish_there(vendor.release("1.1.0"))
    assert newest(vendor, "snapshot") == following + 5
    assert vendor.newest_there() == "1.1.0"


def test_every_name_is_taken(
    vendor: TaggedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An author does not count up for ever, where a registry lists none of the names
    that it has."""
    trust = vendor.registry.at(TRUST)
    for version in range(newest(vendor, "snapshot") + 1, 400):
        trust.tags[f"{version}.snapshot"] = trust.tags["1.snapshot"]
    monkeypatch.setattr(MemoryRepository, "tags", lambda *_, **__: iter(()))
    before = vendor.registry.copy()
    with pytest.raises(ConflictError, match="under each of 200 names") as caught:
        vendor.publish_there(vendor.release("1.1.0"))
    assert "the registry's own tools" in str(caught.value.hint)
    assert vendor.registry == before


# --- T-62: a registry that does not do what it says ----------------------------------


@pytest.mark.parametrize("what", ["timestamp", "snapshot", "role"])
def test_a_write_that_is_swallowed(
    vendor: TaggedVendor, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The registry answers 201 and keeps the old state: the author is not told that he
    has published."""
    names = {
        "timestamp": "timestamp",
        "snapshot": f"{newest(vendor, 'snapshot') + 1}.snapshot",
        "role": f"{newest(vendor, PUMP.role) + 1}.{PUMP.role}",
    }
    put = MemoryRepository.put_manifest

    def swallow(
        self: MemoryRepository, data: bytes, media_type: str, *, tag: Any = None
    ) -> Any:
        is_it = self.url == TRUST and tag == names[what]
        return put(self, data, media_type, tag=None if is_it else tag)

    monkeypatch.setattr(MemoryRepository, "put_manifest", swallow)
    store = vendor.store()
    remembered = store.load()
    with pytest.raises(ConflictError):
        vendor.publish_there(vendor.release("1.1.0"), state=store)
    assert store.load().snapshot == remembered.snapshot
    monkeypatch.setattr(MemoryRepository, "put_manifest", put)
    assert vendor.newest_there() == "1.0.0"
    vendor.publish_there(vendor.release("1.1.0"), state=store)
    assert vendor.newest_there() == "1.1.0"


# --- T-63: content that is not what was reviewed -------------------------------------


def test_tag_of_the_vendors_own_repository(vendor: TaggedVendor) -> None:
    """Mallory pushed something under the version that comes next: it is not published,
    and not overwritten."""
    package = vendor.registry.at(f"{HOST}/acme/pump-monitor")
    package.tags["1.1.0"] = package.tags["1.0.0"]
    before = vendor.registry.copy()
    with pytest.raises(RefusedError, match="tags are never moved"):
        vendor.publish_there(vendor.release("1.1.0"))
    assert vendor.registry == before


def test_bytes_that_change_after_the_review(vendor: TaggedVendor) -> None:
    """The registry shows the reviewed bytes to a person, and others to the author's
    machine: they are not signed."""
    url = f"{HOST}/acme/pump-monitor"
    package = vendor.registry.at(url)
    digest = package.tags["1.0.0"]
    manifest = package.manifests[digest]
    package.manifests[digest] = manifest.replace(b"layers", b"Layers")
    before = vendor.registry.copy()
    with pytest.raises(DigestMismatchError):
        Release.from_artifact(
            vendor.registry.source(url),
            f"{url}@{digest}",
            name=PUMP,
            version=Version.parse("2.0.0"),
        )
    package.manifests[digest] = manifest
    for name, data in list(package.blobs.items()):
        package.blobs[name] = data[::-1] if len(data) > 2 else data
    with pytest.raises(DigestMismatchError):
        Release.from_artifact(
            vendor.registry.source(url),
            f"{url}@{digest}",
            name=PUMP,
            version=Version.parse("2.0.0"),
        )
    assert vendor.registry.at(TRUST) == before.at(TRUST)


def test_a_blob_that_is_not_there_after_all(vendor: TaggedVendor) -> None:
    """The registry forgets content of a release that is listed; the next run of the
    same publication brings it back."""
    package = vendor.registry.at(f"{HOST}/acme/pump-monitor")
    package.blobs.popitem()
    with pytest.raises(FetchError):
        vendor.newest_there()
    done = vendor.publish_there(vendor.release("1.0.0"))
    assert done.blobs_restored == 1
    assert vendor.newest_there() == "1.0.0"


# --- T-64: somebody who seems to publish at the same time ----------------------------


def rival(
    vendor: TaggedVendor, signer: CryptoSigner, *, base: int = 0, **changes: Any
) -> tuple[str, bytes]:
    """Return a snapshot above the one that the author signs next, as if another
    publisher had begun from the same state and lost its release list on the way."""
    version = newest(vendor, "snapshot")
    data = read(vendor, f"{version - base}.snapshot")
    signed = Metadata[Snapshot].from_bytes(data).signed
    signed.version = version + 2
    signed.expires = vendor.clock.when + timedelta(days=14)
    after = meta_of(version - base, data).to_dict()
    signed.unrecognized_fields["x-after"] = [after]
    # What would be joined: a newer file of a role, which is not there.
    signed.meta["acme.json"].version += 5
    for name, value in changes.items():
        setattr(signed, name, value)
    forged = Metadata(signed)
    forged.sign(signer)
    return f"{version + 2}.snapshot", forged.to_bytes()


def test_publisher_with_other_keys(vendor: TaggedVendor) -> None:
    """Mallory writes a snapshot of her own beside the author's; it is not joined."""
    tag, data = rival(vendor, CryptoSigner.generate_ecdsa())
    plant(vendor, tag, data)
    done = vendor.publish_there(vendor.release("1.1.0"))
    assert done.snapshot == int(tag.partition(".")[0]) - 1
    assert done.warnings == ()
    assert vendor.newest_there() == "1.1.0"


def test_snapshot_of_long_ago(vendor: TaggedVendor) -> None:
    """Mallory kept what a run signed that was stopped weeks ago, and shows it as if it
    came at the same time: it is not published."""
    tag, data = rival(vendor, key("ci"), expires=vendor.clock.when + timedelta(days=2))
    plant(vendor, tag, data)
    done = vendor.publish_there(vendor.release("1.1.0"))
    assert done.snapshot == int(tag.partition(".")[0]) - 1
    assert done.warnings == ()
    assert vendor.newest_there() == "1.1.0"


def test_snapshot_made_from_an_older_state(vendor: TaggedVendor) -> None:
    """Mallory holds back what a slower publisher wrote from a state that is gone; it
    would take back what was published since."""
    vendor.publish_there(vendor.release("1.0.1"))
    tag, data = rival(vendor, key("ci"), base=1)
    plant(vendor, tag, data)
    done = vendor.publish_there(vendor.release("1.1.0"))
    assert done.snapshot == int(tag.partition(".")[0]) - 1
    assert done.warnings == ()
    with vendor.at_registry().edit((), clock=vendor.clock) as edit:
        assert {str(one) for one in edit.releases(PUMP)} == {"1.0.0", "1.0.1", "1.1.0"}


def test_snapshot_that_goes_back(vendor: TaggedVendor) -> None:
    """With the author's own key, but an older file of a role: it is not joined."""
    first = Metadata[Snapshot].from_bytes(read(vendor, "1.snapshot")).signed
    tag, data = rival(vendor, key("ci"), meta=first.meta)
    plant(vendor, tag, data)
    done = vendor.publish_there(vendor.release("1.1.0"))
    assert done.snapshot == int(tag.partition(".")[0]) - 1
    assert vendor.newest_there() == "1.1.0"


def test_snapshot_that_no_device_accepts(vendor: TaggedVendor) -> None:
    """With the author's own key, but files that are not there: what was published stays
    published, and is said aloud."""
    tag, data = rival(vendor, key("ci"))
    plant(vendor, tag, data)
    done = vendor.publish_there(vendor.release("1.1.0"))
    assert any("as if somebody published" in one for one in done.warnings)
    assert vendor.newest_there() == "1.1.0"


@pytest.mark.parametrize("ahead", [1, 2])
def test_role_by_the_thief_of_the_snapshot_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """Mallory has snapshot's key and seems to publish at the same time: a release list
    of her own, for the author to sign as if it came from a colleague."""
    vendor = TaggedVendor(tmp_path)
    with vendor.create().edit(vendor.keys, clock=vendor.clock) as edit:
        edit.add_application(PUMP, [key("application").public_key], policy=OPEN)
    vendor.move()
    vendor.registry.install(monkeypatch)
    keys = [key("application"), key("ci")]
    vendor.publish_there(vendor.release("1.0.0"), keys=keys)
    known = newest(vendor, PUMP.role)
    role = Metadata[Targets].from_bytes(read(vendor, f"{known}.{PUMP.role}"))
    role.signed.version = known + ahead
    role.signed.targets.clear()
    role.sign(key("ci"))
    forged = role.to_bytes()
    plant(vendor, f"{known + 50}.{PUMP.role}", forged)  # its bytes are there, by digest
    version = newest(vendor, "snapshot")
    signed = Metadata[Snapshot].from_bytes(read(vendor, f"{version}.snapshot")).signed
    signed.meta[f"{PUMP.role}.json"] = meta_of(known + ahead, forged)
    tag, data = rival(vendor, key("ci"), meta=signed.meta)
    plant(vendor, tag, data)
    done = vendor.publish_there(vendor.release("1.1.0"), keys=keys)
    assert any("does not verify" in one for one in done.warnings)
    assert vendor.newest_there() == "1.1.0"


def test_bytes_under_a_digest_that_are_others(vendor: TaggedVendor) -> None:
    """Where a name was overwritten, the registry offers other bytes under the digest,
    too: nothing is put back, and the author signs nothing."""
    version = newest(vendor, "snapshot")
    trust = vendor.registry.at(TRUST)
    found = unwrapped(trust.manifests[trust.tags[f"{version}.snapshot"]])
    trust.blobs[str(found.layer.digest)] = b"x" * found.layer.size
    trust.tags[f"{version}.snapshot"] = trust.tags["1.snapshot"]
    before = vendor.registry.copy()
    with pytest.raises(MixAndMatchError, match="not the file that timestamp"):
        vendor.publish_there(vendor.release("1.1.0"))
    assert vendor.registry == before
