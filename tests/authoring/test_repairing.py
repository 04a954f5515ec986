"""What a place lost is found by `check_place` and put back by `repair`."""

from __future__ import annotations

import io
import shutil
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring.checks import check_place
from margo_supplychain.authoring.content_look import AskedContent, HashedContent
from margo_supplychain.authoring.release import Release
from margo_supplychain.authoring.repairing import Repaired, repair
from margo_supplychain.authoring.shelves import open_shelf
from margo_supplychain.authoring.testing import tiny_repository
from margo_supplychain.errors import FetchError, ThresholdError, VerificationError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.oci import Index, parse_manifest
from margo_supplychain.formats.registry_form import (
    TUF_METADATA,
    content_tag,
    metadata_tag,
    target_tag,
    wrapped,
)
from margo_supplychain.formats.versions import Version
from margo_supplychain.transport.directory import DirectorySink, DirectorySource
from margo_supplychain.transport.layout_sink import LayoutSink
from margo_supplychain.transport.mirrors import MirroredContent, MirrorMap
from margo_supplychain.transport.opening import open_sink, open_source
from margo_supplychain.transport.tagged_sink import TaggedSink
from margo_supplychain.verify.trust_store import TrustStore
from tests.authoring.copies import KINDS, copy, fill, home, place
from tests.authoring.trust import PUMP, VALVE, Vendor, key
from tests.fixtures import image_index_layout
from tests.registries.servers import docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from margo_supplychain.formats.reports import Report
    from margo_supplychain.transport.oci_registry import RegistryRepository
    from tests.registries.servers import DockerRegistry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def filled(vendor: Vendor) -> Vendor:
    return fill(vendor)


def trust(vendor: Vendor) -> TrustStore:
    return TrustStore.unsafe_without_memory(root=vendor.repository.root)


def check(
    vendor: Vendor,
    at: str,
    registry: DockerRegistry,
    *,
    store: TrustStore | None = None,
) -> Report:
    network = registry.network()
    shelf = open_sink(at, network=network)
    content: AskedContent | HashedContent
    if isinstance(shelf, DirectorySink | LayoutSink):
        content = HashedContent(shelf.directory)
    else:
        content = AskedContent(
            shelf, open_repository=lambda url: open_sink(url, network=network)
        )
    return check_place(
        shelf,
        vendor.repository.root,
        content=content,
        store=store,
        now=vendor.clock.now(),
    )


def mend(
    vendor: Vendor,
    at: str,
    registry: DockerRegistry,
    others: Sequence[str] | None = None,
) -> Repaired:
    network = registry.network()
    named = [str(vendor.trust)] if others is None else others
    # Nobody asks the vendor.
    mirrors = MirrorMap({"oci://registry.example": [str(vendor.directory / "none")]})
    with open_shelf(at, network=network) as shelf:
        return repair(
            shelf,
            [open_source(one, network=network) for one in named],
            trust=trust(vendor),
            content=MirroredContent(mirrors, network=network),
            open_repository=lambda url: open_sink(url, network=network),
            clock=vendor.clock,
        )


def texts(report: Report) -> str:
    return "\n".join(one.text for one in report.violations)


def steps(report: Report) -> str:
    return "".join(one.outcome[0] for one in report.steps)


def layer(name: str) -> str:
    return Digest.of(name.encode()).hex


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_wrong(filled: Vendor, registry: DockerRegistry, kind: str) -> None:
    at = place(kind, filled, "copy", registry)
    copy(filled, str(filled.trust), at, registry)
    report = check(filled, at, registry, store=filled.store())
    assert texts(report) == ""
    assert steps(report) == "ppppp"
    facts = report.steps[4].facts
    assert facts["blobs"] == 7
    assert facts.get("looked at") == ("presence and size" if kind == "oci" else None)
    assert mend(filled, at, registry) == Repaired(restored=(), warnings=())


# --- files ---------------------------------------------------------------------------


def test_a_damaged_directory(filled: Vendor, registry: DockerRegistry) -> None:
    at = str(filled.directory / "copy")
    copy(filled, str(filled.trust), at, registry)
    there = filled.directory / "copy"
    before = {
        path: path.read_bytes() for path in sorted(there.rglob("*")) if path.is_file()
    }
    (there / "metadata/1.root.json").unlink()
    role = there / f"metadata/{filled.version(PUMP.role)}.{PUMP.role}.json"
    role.write_bytes(b"{}")
    for path in (there / "targets/acme/releases/valve").iterdir():
        path.write_bytes(b"{}")
    (there / "blobs/sha256" / layer("acme/valve 1.0.0")).unlink()
    blob = there / "blobs/sha256" / layer("acme/pump-monitor 1.1.0")
    blob.write_bytes(b"acme/pump-monitor 6.6.6")
    report = check(filled, at, registry)
    assert "1.root.json does not exist" in texts(report)
    assert "acme.pump-monitor is not the file" in texts(report)
    assert "acme/valve 1.0.0: " in texts(report)
    assert steps(report) == "fpffp"
    done = mend(filled, at, registry)
    assert set(done.restored) == {
        "1.root.json",
        role.name,
        "acme/releases/valve/1.0.0",
        f"sha256:{blob.name}",
        f"sha256:{layer('acme/valve 1.0.0')}",
    }
    assert check(filled, at, registry).verdict == "verified"
    after = {path: path.read_bytes() for path in before}
    assert after == before


@pytest.mark.parametrize("kind", ["oci-layout", "oci-archive"])
def test_a_damaged_layout(filled: Vendor, registry: DockerRegistry, kind: str) -> None:
    at = place(kind, filled, "copy", registry)
    copy(filled, str(filled.trust), at, registry)
    with open_shelf(at) as shelf:
        assert isinstance(shelf, TaggedSink)
        writer = shelf._writer
        digest = Digest.of(writer.manifest(f"{filled.version('acme')}.acme")[0])
        writer.delete_manifest(digest)
        writer.delete_manifest(filled.release("1.1.0").artifact.digest)
    report = check(filled, at, registry)
    assert report.verdict == "rejected"
    assert "acme" in texts(report)
    done = mend(filled, at, registry)
    assert f"{filled.version('acme')}.acme.json" in done.restored
    assert check(filled, at, registry).verdict == "verified"


# --- a registry ----------------------------------------------------------------------


def repository(at: str, registry: DockerRegistry) -> RegistryRepository:
    sink = open_sink(at, network=registry.network())
    assert isinstance(sink, TaggedSink)
    found: RegistryRepository = sink._writer  # type: ignore[assignment]  # of oci://
    return found


def lose(at: str, tag: str, registry: DockerRegistry) -> None:
    found = repository(at, registry)
    found.delete_manifest(Digest.of(found.manifest(tag)[0]))


def overwrite(at: str, filename: str, data: bytes, registry: DockerRegistry) -> None:
    """Do what a racing publisher, or anybody who may push, can do."""
    found = repository(at, registry)
    manifest, blobs = wrapped(data, media_type=TUF_METADATA, title=filename)
    for what, content in blobs:
        found.put_blob(what, io.BytesIO(content))
    found.put_manifest(
        manifest,
        "application/vnd.oci.image.manifest.v1+json",
        tag=metadata_tag(filename),
    )


def test_everything_that_is_lost_is_named_and_put_back(
    filled: Vendor, registry: DockerRegistry
) -> None:
    at = place("oci", filled, "copy", registry)
    copy(filled, str(filled.trust), at, registry)
    snapshot = f"{filled.version('snapshot')}.snapshot"
    (path,) = (filled.trust / "targets/acme/releases/valve").iterdir()
    record = Digest.of(path.read_bytes())
    manifest = filled.release("1.1.0").artifact.digest

    lose(at, snapshot, registry)
    report = check(filled, at, registry)
    assert steps(report)[0] == "f"
    assert snapshot in texts(report)
    assert mend(filled, at, registry).restored == (f"{snapshot}.json",)

    lose(at, "1.root", registry)
    lose(at, "1.targets", registry)
    lose(at, f"{filled.version(PUMP.role)}.{PUMP.role}", registry)
    lose(at, target_tag(record), registry)
    lose(home(at, PUMP), "1.1.0", registry)
    registry.collect_garbage()
    report = check(filled, at, registry)
    assert "1.root.json does not exist" in texts(report)
    assert "1.targets" in texts(report)
    assert steps(report)[2:] == "nnn"
    done = mend(filled, at, registry)
    assert {
        "1.root.json",
        "1.targets.json",
        f"{filled.version(PUMP.role)}.{PUMP.role}.json",
        "acme/releases/valve/1.0.0",
        str(manifest),
    } <= set(done.restored)
    assert texts(check(filled, at, registry)) == ""
    registry.collect_garbage()
    assert texts(check(filled, at, registry)) == ""


def test_a_lost_tag(filled: Vendor, registry: DockerRegistry) -> None:
    """Devices still find the record, and the next clean-up removes it."""
    at = place("oci", filled, "copy", registry)
    copy(filled, str(filled.trust), at, registry)
    (path,) = (filled.trust / "targets/acme/releases/valve").iterdir()
    lose(at, target_tag(Digest.of(path.read_bytes())), registry)
    report = check(filled, at, registry)
    assert "acme/releases/valve/1.0.0 has no tag" in texts(report)
    assert mend(filled, at, registry).restored == ("acme/releases/valve/1.0.0",)
    assert check(filled, at, registry).verdict == "verified"


def test_a_lost_blob(filled: Vendor, registry: DockerRegistry) -> None:
    at = place("oci", filled, "copy", registry)
    copy(filled, str(filled.trust), at, registry)
    digest = layer("acme/valve 1.0.0")
    path = at.split("/", 3)[3]
    status, _ = registry.ask(f"/v2/{path}/blobs/sha256:{digest}", method="DELETE")
    assert status == 202
    report = check(filled, at, registry)
    (problem,) = report.violations
    assert problem.text.startswith("acme/valve 1.0.0: oci://")
    assert digest in problem.text
    assert not problem.inconclusive
    assert mend(filled, at, registry).restored == (f"sha256:{digest}",)
    assert check(filled, at, registry).verdict == "verified"


def test_an_overwritten_name_comes_back_from_its_own_blob(
    filled: Vendor, registry: DockerRegistry
) -> None:
    """Nobody else is asked: the registry still has the bytes under their digest."""
    at = place("oci", filled, "copy", registry)
    copy(filled, str(filled.trust), at, registry)
    names = [
        f"{filled.version('snapshot')}.snapshot.json",
        f"{filled.version('acme')}.acme.json",
    ]
    for name in names:
        overwrite(at, name, b'{"signed": {}}', registry)
    report = check(filled, at, registry)
    assert report.code == "mix-and-match"
    done = mend(filled, at, registry, [])
    assert sorted(done.restored) == sorted(names)
    assert check(filled, at, registry).verdict == "verified"


def test_a_moved_version_tag_is_left_and_said(
    filled: Vendor, registry: DockerRegistry
) -> None:
    at = place("oci", filled, "copy", registry)
    copy(filled, str(filled.trust), at, registry)
    found = repository(home(at, PUMP), registry)
    other, kind = found.manifest("1.0.0")
    found.put_manifest(other, kind, tag="1.1.0")
    found.delete_manifest(filled.release("1.1.0").artifact.digest)
    assert check(filled, at, registry).verdict == "rejected"
    done = mend(filled, at, registry)
    assert str(filled.release("1.1.0").artifact.digest) in done.restored
    assert any("under the tag 1.1.0" in one for one in done.warnings)
    assert check(filled, at, registry).verdict == "verified"


def test_a_mirror_in_a_registry_has_it_where_copies_have_it(
    filled: Vendor, registry: DockerRegistry
) -> None:
    """Not only what lies in its trust repository."""
    at = place("oci", filled, "copy", registry)
    mirror = place("oci", filled, "other/mirror", registry)
    out = place("directory", filled, "out", registry)
    copy(filled, str(filled.trust), at, registry)
    copy(filled, at, mirror, registry)
    copy(filled, at, out, registry)
    pump, valve = (
        filled.release("1.1.0").artifact.digest,
        filled.release("1.0.0", name=VALVE).artifact.digest,
    )
    for hurt, helper in ((at, mirror), (mirror, at)):
        lose(home(hurt, PUMP), "1.1.0", registry)
        lose(hurt, content_tag(valve), registry)
        assert len(check(filled, hurt, registry).violations) == 2
        done = mend(filled, hurt, registry, [helper])
        assert set(done.restored) == {str(pump), str(valve)}
        assert texts(check(filled, hurt, registry)) == ""
    shutil.rmtree(filled.directory / "out/blobs")
    done = mend(filled, out, registry, [mirror])
    assert len(done.restored) == 7
    assert texts(check(filled, out, registry)) == ""


def test_content_beside_the_metadata_keeps_its_tags(
    filled: Vendor, registry: DockerRegistry
) -> None:
    """The tag is lost, or somebody took it; of all that an image index names, too."""
    what = image_index_layout(filled.directory / "images")
    adopted = Release.from_artifact(
        open_source(filled.directory / "images"),
        str(what.digest),
        name=VALVE,
        version=Version.parse("2.0.0"),
    )
    with filled.repository.edit([key("ci")], clock=filled.clock) as edit:
        edit.add_release(adopted)
    at = place("oci", filled, "copy", registry)
    copy(filled, str(filled.trust), at, registry)
    found = repository(at, registry)
    index = parse_manifest(found.manifest(content_tag(what.digest))[0])
    assert isinstance(index, Index)
    platforms = [one.descriptor.digest for one in index.manifests]
    other, kind = found.manifest("1.root")
    for digest in (what.digest, *platforms):
        found.put_manifest(other, kind, tag=content_tag(digest))
    report = check(filled, at, registry)
    assert len(report.violations) == 3
    assert f"{what.digest} has no tag, or one that names something else" in texts(
        report
    )
    done = mend(filled, at, registry, [])
    assert set(done.restored) == {str(one) for one in (what.digest, *platforms)}
    for _ in range(3):
        registry.collect_garbage()
    assert texts(check(filled, at, registry)) == ""
    assert mend(filled, at, registry, []).restored == ()


def test_what_nobody_has(filled: Vendor, registry: DockerRegistry) -> None:
    at = place("oci", filled, "copy", registry)
    copy(filled, str(filled.trust), at, registry)
    lose(home(at, PUMP), "1.1.0", registry)
    done = mend(filled, at, registry, [])
    assert done.restored == ()
    assert done.warnings
    assert check(filled, at, registry).verdict == "rejected"


def test_others_are_not_believed(filled: Vendor, registry: DockerRegistry) -> None:
    at = place("oci", filled, "copy", registry)
    copy(filled, str(filled.trust), at, registry)
    name = f"{filled.version(PUMP.role)}.{PUMP.role}"
    lose(at, name, registry)
    lose(at, content_tag(filled.release("1.0.0", name=VALVE).artifact.digest), registry)
    lying = filled.directory / "lying"
    copy(filled, str(filled.trust), str(lying), registry)
    (lying / "metadata" / f"{name}.json").write_bytes(b"{}")
    (lying / "blobs/sha256" / layer("acme/valve 1.0.0")).write_bytes(b"acme/valve 9")
    valve = filled.release("1.0.0", name=VALVE).artifact.digest.hex
    (lying / "blobs/sha256" / valve).write_bytes(b"{}")
    registry.collect_garbage()
    with pytest.raises(VerificationError):
        mend(filled, at, registry, [str(lying)])
    assert check(filled, at, registry).verdict == "rejected"
    # Whoever tells the truth is asked after the liar.
    mend(filled, at, registry, [str(lying), str(filled.trust)])
    assert texts(check(filled, at, registry)) == ""


def test_a_newer_repository_is_not_published_by_a_repair(
    filled: Vendor, registry: DockerRegistry
) -> None:
    at = place("oci", filled, "copy", registry)
    copy(filled, str(filled.trust), at, registry)
    lose(at, f"{filled.version(PUMP.role)}.{PUMP.role}", registry)
    before = filled.version("timestamp")
    filled.publish("1.2.0")
    assert len(mend(filled, at, registry).restored) == 1
    report = check(filled, at, registry)
    assert report.verdict == "verified"
    assert report.steps[0].facts["timestamp"] == before


def test_without_a_timestamp_there_is_nothing_to_go_by(
    filled: Vendor, registry: DockerRegistry
) -> None:
    at = place("oci", filled, "copy", registry)
    copy(filled, str(filled.trust), at, registry)
    lose(at, "timestamp", registry)
    with pytest.raises(Exception, match="timestamp") as caught:
        mend(filled, at, registry)
    assert not isinstance(caught.value, VerificationError)
    assert not copy(filled, str(filled.trust), at, registry).blobs_new
    assert check(filled, at, registry).verdict == "verified"


def test_what_has_expired_is_repaired(
    filled: Vendor, registry: DockerRegistry, tmp_path: Path
) -> None:
    at = place("oci", filled, "copy", registry)
    copy(filled, str(filled.trust), at, registry)
    lose(at, "1.targets", registry)
    filled.clock.advance(days=20)
    assert mend(filled, at, registry).restored == ("1.targets.json",)
    assert {one.rule for one in check(filled, at, registry).violations} == {"expired"}


def test_another_root(filled: Vendor, registry: DockerRegistry) -> None:
    at = str(filled.directory / "copy")
    copy(filled, str(filled.trust), at, registry)
    tiny = tiny_repository(filled.directory / "tiny", clock=filled.clock)
    with open_shelf(at) as shelf, pytest.raises(ThresholdError):
        repair(
            shelf,
            [DirectorySource(filled.trust)],
            trust=TrustStore.unsafe_without_memory(root=tiny.root),
            clock=filled.clock,
        )


def test_one_part_that_nobody_has_stops_no_other(
    filled: Vendor, registry: DockerRegistry
) -> None:
    at = str(filled.directory / "copy")
    copy(filled, str(filled.trust), at, registry)
    there = filled.directory / "copy" / "blobs/sha256"
    lost = [layer("acme/pump-monitor 1.0.0"), layer("acme/valve 1.0.0")]
    for name in lost:
        (there / name).unlink()
    (filled.trust / "blobs/sha256" / lost[0]).unlink()
    done = mend(filled, at, registry)
    assert done.restored == (f"sha256:{lost[1]}",)
    assert any(lost[0] in one for one in done.warnings)
    assert len(check(filled, at, registry).violations) == 1


def test_a_record_that_nobody_has(filled: Vendor, registry: DockerRegistry) -> None:
    at = str(filled.directory / "copy")
    copy(filled, str(filled.trust), at, registry)
    for place_ in (filled.trust, filled.directory / "copy"):
        for path in (place_ / "targets/acme/releases/valve").iterdir():
            path.unlink()
    done = mend(filled, at, registry)
    assert done.restored == ()
    assert "nobody has acme/releases/valve/1.0.0" in done.warnings


def test_a_tag_of_a_record_that_somebody_took(
    filled: Vendor, registry: DockerRegistry
) -> None:
    at = place("oci", filled, "copy", registry)
    copy(filled, str(filled.trust), at, registry)
    (path,) = (filled.trust / "targets/acme/releases/valve").iterdir()
    tag = target_tag(Digest.of(path.read_bytes()))
    found = repository(at, registry)
    other, kind = found.manifest("1.root")
    lose(at, tag, registry)
    found.put_manifest(other, kind, tag=tag)
    report = check(filled, at, registry)
    assert "acme/releases/valve/1.0.0 has no tag" in texts(report)
    assert mend(filled, at, registry).restored == ("acme/releases/valve/1.0.0",)
    assert check(filled, at, registry).verdict == "verified"


def test_a_registry_that_goes_away(filled: Vendor, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "own") as own:
        at = place("oci", filled, "copy", own)
        copy(filled, str(filled.trust), at, own)
        network = own.network(tries=1)
    shelf = open_sink(at, network=network)
    content = AskedContent(
        shelf, open_repository=lambda url: open_sink(url, network=network)
    )
    report = check_place(
        shelf,
        filled.repository.root,
        content=content,
        store=None,
        now=filled.clock.now(),
    )
    assert report.verdict == "inconclusive"
    with pytest.raises(FetchError):
        repair(shelf, [], trust=trust(filled), clock=filled.clock)
