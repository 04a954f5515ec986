"""Mallory holds the place that is copied, the place that is written, or one in between.

A copy is made by somebody who trusts a root and nothing else: neither the source's word
nor the target's, and no third place's when something is put back.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.copying import Copied, copy_releases
from margo_supplychain.authoring.housekeeping import prune
from margo_supplychain.authoring.repairing import repair
from margo_supplychain.authoring.shelves import open_shelf
from margo_supplychain.authoring.testing import tiny_repository
from margo_supplychain.errors import (
    ConflictError,
    FetchError,
    MixAndMatchError,
    RollbackError,
    SupplyChainError,
    ThresholdError,
    TooLargeError,
    VerificationError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.registry_form import content_tag, target_tag
from margo_supplychain.transport.directory import DirectorySink, DirectorySource
from margo_supplychain.transport.opening import FixedContent
from margo_supplychain.transport.tagged_sink import TaggedSink
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.authoring.tagged import HOST, MemoryRegistry
from tests.authoring.trust import DEVICE_POLICY, PUMP, Vendor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.verify.results import VerifiedRelease

NEWEST = Pin.range("*", grammar="npm")


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    vendor = Vendor(tmp_path)
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    return vendor


def trust(vendor: Vendor) -> TrustStore:
    return TrustStore.unsafe_without_memory(root=vendor.repository.root)


def copy(vendor: Vendor, source: Path | None = None, to: str = "mirror") -> Copied:
    with open_shelf(str(vendor.directory / to)) as shelf:
        return copy_releases(
            DirectorySource(source or vendor.trust),
            shelf,
            trust=trust(vendor),
            clock=vendor.clock,
        )


def install(vendor: Vendor, store: TrustStore, at: str = "mirror") -> VerifiedRelease:
    """Do what a device does with a copy, to the last byte."""
    source = DirectorySource(vendor.directory / at)
    verifier = Verifier(
        store=store,
        source=source,
        content=FixedContent([source]),
        policy=DEVICE_POLICY,
        clock=vendor.clock,
    )
    release = verifier.verify(PUMP, NEWEST)
    verifier.fetch(release, vendor.directory / "installed")
    return release


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def shown(vendor: Vendor, at: str = "mirror") -> bytes:
    return (vendor.directory / at / "metadata/timestamp.json").read_bytes()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def only(directory: Path, pattern: str) -> Path:
    (found,) = directory.glob(pattern)
    return found


# --- T-65: who is copied -------------------------------------------------------------


def _changed_role(vendor: Vendor, evil: Path) -> None:
    flip(only(evil, f"metadata/{vendor.version(PUMP.role)}.{PUMP.role}.json"))


def _changed_record(vendor: Vendor, evil: Path) -> None:
    flip(only(evil, "targets/acme/releases/pump-monitor/*.1.1.0"))


def _longer_record(vendor: Vendor, evil: Path) -> None:
    with only(evil, "targets/acme/releases/pump-monitor/*.1.1.0").open("ab") as file:
        file.write(b" ")


def _changed_content(vendor: Vendor, evil: Path) -> None:
    flip(evil / "blobs/sha256" / Digest.of(b"acme/pump-monitor 1.1.0").hex)


def _swapped_content(vendor: Vendor, evil: Path) -> None:
    blobs = evil / "blobs/sha256"
    shutil.copy(
        blobs / Digest.of(b"acme/pump-monitor 1.0.0").hex,
        blobs / Digest.of(b"acme/pump-monitor 1.1.0").hex,
    )


def _endless_timestamp(vendor: Vendor, evil: Path) -> None:
    (evil / "metadata/timestamp.json").write_bytes(b" " * 1_000_000)


def _own_keys(vendor: Vendor, evil: Path) -> None:
    tiny = tiny_repository(vendor.directory / "tiny", clock=vendor.clock)
    for name in ("metadata", "targets", "blobs"):
        shutil.copytree(tiny.directory / name, evil / name, dirs_exist_ok=True)


@pytest.mark.parametrize(
    ("attack", "error"),
    [
        (_changed_role, MixAndMatchError),
        (_endless_timestamp, TooLargeError),
        (_own_keys, ThresholdError),
    ],
)
def test_copy_of_what_somebody_changed(
    vendor: Vendor,
    attack: Callable[[Vendor, Path], None],
    error: type[SupplyChainError],
) -> None:
    """The source is wrong in one place: the copy stays at its whole, older state."""
    copy(vendor)
    store = trust(vendor)
    assert str(install(vendor, store).version) == "1.0.0"
    before = shown(vendor)
    vendor.publish("1.1.0")
    evil = vendor.directory / "evil"
    shutil.copytree(vendor.trust, evil)
    attack(vendor, evil)
    with pytest.raises(error):
        copy(vendor, evil)
    assert shown(vendor) == before
    install(vendor, store)
    copy(vendor)
    install(vendor, store)


@pytest.mark.parametrize(
    "attack", [_changed_record, _longer_record, _changed_content, _swapped_content]
)
def test_copy_of_a_release_that_somebody_changed(
    vendor: Vendor, attack: Callable[[Vendor, Path], None]
) -> None:
    """One release is wrong: it is left out and named, and the others go on."""
    copy(vendor)
    store = trust(vendor)
    vendor.publish("1.1.0")
    evil = vendor.directory / "evil"
    shutil.copytree(vendor.trust, evil)
    attack(vendor, evil)
    done = copy(vendor, evil)
    assert done.incomplete == ("acme/releases/pump-monitor/1.1.0",)
    assert len(done.warnings) == 1
    with pytest.raises((FetchError, VerificationError)):
        install(vendor, store)
    assert copy(vendor).incomplete == ()
    install(vendor, store)


def test_copy_of_an_old_state(vendor: Vendor) -> None:
    """What the mirror shows already is never put back."""
    shutil.copytree(vendor.trust, vendor.directory / "evil")
    vendor.publish("1.1.0")
    copy(vendor)
    before = files(vendor.directory / "mirror")
    with pytest.raises(RollbackError):
        copy(vendor, vendor.directory / "evil")
    assert files(vendor.directory / "mirror") == before


def test_copy_of_an_old_state_to_a_new_place(vendor: Vendor) -> None:
    """Mallory shows an old state to a new mirror: nothing there knows better, and each
    device that knows better refuses the mirror."""
    shutil.copytree(vendor.trust, vendor.directory / "evil")
    vendor.publish("1.1.0")
    store = trust(vendor)
    install(vendor, store, at="trust")
    copy(vendor, vendor.directory / "evil")
    with pytest.raises(RollbackError):
        install(vendor, store)
    with open_shelf(str(vendor.directory / "second")) as shelf:
        remembers = vendor.store("memory")
        copy_releases(
            DirectorySource(vendor.trust), shelf, trust=remembers, clock=vendor.clock
        )
        with pytest.raises(RollbackError):
            copy_releases(
                DirectorySource(vendor.directory / "evil"),
                shelf,
                trust=remembers,
                clock=vendor.clock,
            )


# --- T-66: who is written ------------------------------------------------------------


def test_target_prepared_with_other_bytes(vendor: Vendor) -> None:
    """A name that the copy needs is taken: nothing is overwritten, and no timestamp
    makes devices look at it."""
    names = [f"1.{PUMP.role}.json", "1.targets.json", "2.root.json"]
    for name in names:
        vendor_mirror = vendor.directory / name
        (vendor_mirror / "metadata").mkdir(parents=True)
        (vendor_mirror / "metadata" / name).write_bytes(b'{"signed": {}}')
    with pytest.raises(ConflictError):
        copy(vendor, to="1.targets.json")
    copy(vendor, to=f"1.{PUMP.role}.json")  # an old version is nobody's business
    with pytest.raises(VerificationError):
        install(vendor, trust(vendor), at="2.root.json")
    for name in names:
        data = (vendor.directory / name / "metadata" / name).read_bytes()
        assert data == b'{"signed": {}}'


def test_target_prepared_with_links(vendor: Vendor) -> None:
    """No byte goes through a link to where the copy has no business."""
    outside = vendor.directory / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"precious")
    mirror = vendor.directory / "mirror"
    (mirror / "metadata").mkdir(parents=True)
    links = ["metadata/timestamp.json", "metadata/1.targets.json"]
    for name in links:
        (mirror / name).symlink_to(outside / "file")
        with pytest.raises(SupplyChainError):
            copy(vendor)
        (mirror / name).unlink()
    copy(vendor)
    assert files(outside) == {"file": b"precious"}


def test_target_that_claims_to_be_newer(vendor: Vendor) -> None:
    """A forged state with a high version does not stop a mirror; what signed metadata
    calls newer does, and only with the right keys."""
    copy(vendor)
    path = vendor.directory / "mirror/metadata/timestamp.json"
    document: dict[str, Any] = json.loads(path.read_bytes())
    document["signed"]["version"] = 1_000_000
    path.write_text(json.dumps(document))
    vendor.publish("1.1.0")
    copy(vendor)
    assert str(install(vendor, trust(vendor)).version) == "1.1.0"


class Thief(DirectorySink):
    """Says that it stored, and stores nothing."""

    def put_metadata(self, filename: str, data: bytes) -> None:
        if filename != "timestamp.json":
            super().put_metadata(filename, data)


def test_target_that_swallows_the_timestamp(vendor: Vendor) -> None:
    (vendor.directory / "mirror" / "metadata").mkdir(parents=True)
    with pytest.raises(ConflictError, match="another timestamp than was written"):
        copy_releases(
            DirectorySource(vendor.trust),
            Thief(vendor.directory / "mirror"),
            trust=trust(vendor),
            clock=vendor.clock,
        )
    with pytest.raises(FetchError) as caught:
        install(vendor, trust(vendor))
    assert caught.value.exit_status == 4


@pytest.mark.parametrize("data", [b"{}", b"x" * 5_000_000])
def test_target_where_tags_by_digest_are_taken(vendor: Vendor, data: bytes) -> None:
    """Mallory may push, knows which records and packages come, and takes their tags:
    it costs her work again and again, and the publisher nothing."""
    (record,) = (vendor.trust / "targets/acme/releases/pump-monitor").iterdir()
    tags = {
        target_tag(Digest.of(record.read_bytes())),
        content_tag(vendor.release("1.0.0").artifact.digest),
    }
    origin, mirror = MemoryRegistry(), MemoryRegistry()
    trusts = [f"{HOST}/{name}/trust" for name in ("acme", "plant")]
    for registry, url in zip((origin, mirror), trusts, strict=True):
        taken = registry.at(url)
        taken.manifests[str(Digest.of(data))] = data
        taken.tags |= dict.fromkeys(tags, str(Digest.of(data)))
    sinks = [
        TaggedSink(registry.repository(url))
        for registry, url in zip((origin, mirror), trusts, strict=True)
    ]
    place = DirectorySource(vendor.trust)
    for source, sink in ((place, sinks[0]), (sinks[0], sinks[1])):
        copy_releases(source, sink, trust=trust(vendor), clock=vendor.clock)
    for sink in sinks:
        for tag in tags:
            assert Digest.of(sink._writer.manifest(tag)[0]) != Digest.of(data)
        verifier = Verifier(
            store=trust(vendor),
            source=sink,
            content=FixedContent([sink]),
            policy=DEVICE_POLICY,
            clock=vendor.clock,
        )
        release = verifier.verify(PUMP, NEWEST)
        verifier.fetch(release, vendor.directory / "installed")


# --- T-67: who helps, and who cleans up ----------------------------------------------


def damaged(vendor: Vendor) -> Path:
    """Return a mirror that lost a role, a record and content, at 1.0.0."""
    copy(vendor)
    mirror = vendor.directory / "mirror"
    only(mirror, f"metadata/*.{PUMP.role}.json").unlink()
    only(mirror, "targets/acme/releases/pump-monitor/*.1.0.0").unlink()
    (mirror / "blobs/sha256" / Digest.of(b"acme/pump-monitor 1.0.0").hex).unlink()
    return mirror


def test_help_from_a_liar(vendor: Vendor) -> None:
    """What is put back is what was signed, whoever offers something else."""
    mirror = damaged(vendor)
    liar = vendor.directory / "liar"
    shutil.copytree(vendor.trust, liar)
    flip(only(liar, f"metadata/{vendor.version(PUMP.role)}.{PUMP.role}.json"))
    flip(only(liar, "targets/acme/releases/pump-monitor/*.1.0.0"))
    flip(liar / "blobs/sha256" / Digest.of(b"acme/pump-monitor 1.0.0").hex)
    before = files(mirror)
    with open_shelf(str(mirror)) as shelf, pytest.raises(SupplyChainError):
        repair(shelf, [DirectorySource(liar)], trust=trust(vendor), clock=vendor.clock)
    assert files(mirror) == before
    both = [DirectorySource(liar), DirectorySource(vendor.trust)]
    with open_shelf(str(mirror)) as shelf:
        repair(shelf, both, trust=trust(vendor), clock=vendor.clock)
    assert str(install(vendor, trust(vendor)).version) == "1.0.0"


def test_help_that_would_be_an_update(vendor: Vendor) -> None:
    """A helper that is ahead, or has other roots, does not move the mirror's state."""
    mirror = damaged(vendor)
    before = shown(vendor)
    vendor.publish("1.1.0")
    ahead = vendor.directory / "ahead"
    shutil.copytree(vendor.trust, ahead)
    tiny = tiny_repository(vendor.directory / "tiny", clock=vendor.clock)
    (ahead / "metadata/2.root.json").write_bytes(tiny.root)
    with open_shelf(str(mirror)) as shelf:
        repair(shelf, [DirectorySource(ahead)], trust=trust(vendor), clock=vendor.clock)
    assert shown(vendor) == before
    assert not (mirror / "metadata/2.root.json").exists()
    assert str(install(vendor, trust(vendor)).version) == "1.0.0"


def test_prune_of_what_does_not_verify(vendor: Vendor) -> None:
    """Mallory's timestamp would make the current files look old."""
    for version in ("1.1.0", "1.2.0"):
        vendor.publish(version)
    path = vendor.trust / "metadata/timestamp.json"
    document: dict[str, Any] = json.loads(path.read_bytes())
    document["signed"]["meta"]["snapshot.json"]["version"] = 1_000
    path.write_text(json.dumps(document))
    before = files(vendor.trust)
    with (
        open_shelf(str(vendor.trust)) as shelf,
        pytest.raises((VerificationError, FetchError)),
    ):
        prune(shelf, trust=trust(vendor), clock=vendor.clock, keep=1)
    assert files(vendor.trust) == before


def test_prune_misled_by_an_old_snapshot(vendor: Vendor) -> None:
    """What lies under the name of the snapshot before may make more stay, not less."""
    for version in ("1.1.0", "1.2.0"):
        vendor.publish(version)
    previous = f"metadata/{vendor.version('snapshot') - 1}.snapshot.json"
    (vendor.trust / previous).write_text('{"signed": {"_type": "snapshot"}}')
    with open_shelf(str(vendor.trust)) as shelf:
        prune(shelf, trust=trust(vendor), clock=vendor.clock, keep=1)
    assert str(install(vendor, trust(vendor), at="trust").version) == "1.2.0"
