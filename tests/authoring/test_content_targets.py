"""Where the content of releases goes in registries and layouts, and what is refused."""

from __future__ import annotations

import gc
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.content_targets import ContentTargets
from margo_supplychain.authoring.contents import read_checked
from margo_supplychain.authoring.fetched import FetchedContent
from margo_supplychain.authoring.publish import publish
from margo_supplychain.authoring.release import Release
from margo_supplychain.authoring.repository import Repository
from margo_supplychain.authoring.tagged_place import TaggedPlace
from margo_supplychain.errors import (
    DeploymentError,
    FetchError,
    RefusedError,
    StorageError,
    TooSlowError,
    VerificationError,
)
from margo_supplychain.formats.closure import walk
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.locks import ComponentKey, ComponentLock
from margo_supplychain.formats.names import ReleaseName, target_path
from margo_supplychain.formats.oci import INDEX, Entry, index_bytes
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.versions import Version
from margo_supplychain.storage.lock import DirectoryLock
from margo_supplychain.transport.mirrors import MirrorMap
from margo_supplychain.transport.opening import FixedContent, open_sink, open_source
from margo_supplychain.transport.tagged_sink import TaggedSink
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.authoring.tagged import HOST, TRUST, TaggedVendor
from tests.authoring.trust import DEVICE_POLICY, OPEN, PUMP, key
from tests.fixtures import copy_package, wasm_layout

if TYPE_CHECKING:
    from margo_supplychain.formats.record import Component

OWN = f"{HOST}/acme"


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaggedVendor:
    return TaggedVendor.moved(tmp_path, monkeypatch)


def built(
    vendor: TaggedVendor, *changes: tuple[str, str], lock: ComponentLock | None = None
) -> Release:
    """Build pump-monitor with changes to margo.yaml."""
    package = vendor.directory / "pump-monitor"
    if not package.exists():
        copy_package("pump-monitor", vendor.directory)
    file = package / "margo.yaml"
    text = file.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    file.write_text(text)
    if lock is not None:
        (package / "components.lock").write_bytes(lock.to_bytes())
    return Release.from_package(
        package, publisher="acme", output=vendor.directory / "dist"
    )


def component(release: Release, name: str) -> Component:
    return next(one for one in release.components if one.name == name)


def push(vendor: TaggedVendor, release: Release, one: Component, to: str) -> None:
    """Put a component where it says that it lies, as somebody else does."""
    sink = TaggedSink(vendor.registry.repository(to))
    for part in release.parts_of(one.content):
        if part.role != "manifest":
            with release.open(part.descriptor) as stream:
                sink.put_blob(part.descriptor, stream)
    data = read_checked(release.source, one.content)
    sink.put_manifest(one.content, data, tag=one.revision)


def test_package_and_components(vendor: TaggedVendor) -> None:
    told: list[tuple[str, int, int]] = []
    release = built(vendor)
    done = vendor.publish_there(
        release, progress=lambda what, at, of: told.append((what, at, of))
    )
    tags = {url: one.tags for url, one in vendor.registry.repositories.items()}
    del tags[TRUST]
    assert {url: set(one) for url, one in tags.items()} == {
        f"{OWN}/pump-monitor": {"1.2.0"},
        f"{OWN}/web-stack": {"1.2.0"},
        f"{OWN}/historian": {"1.1.0"},
    }
    parts = list(release.parts())
    # Each place has an empty config of its own.
    assert done.blobs_new == len(parts) + 2
    assert {what for what, _, _ in told} == {
        str(one.descriptor.digest) for one in parts
    }
    last = {what: (at, of) for what, at, of in told}
    assert all(at == of for at, of in last.values())
    assert vendor.newest_there() == "1.2.0"
    assert not vendor.publish_there(release).changed


def test_a_component_of_somebody_else_must_be_there(vendor: TaggedVendor) -> None:
    place = f"{HOST}/other/historian"
    release = built(vendor, (f"{OWN}/historian", place))
    one = component(release, "historian")
    before = vendor.registry.copy()
    with pytest.raises(RefusedError, match="component historian is not in") as why:
        vendor.publish_there(release)
    assert place in str(why.value)
    assert "push it there yourself" in str(why.value.hint)
    assert vendor.registry.at(TRUST) == before.at(TRUST)
    assert vendor.registry.at(f"{OWN}/web-stack").tags == {}

    push(vendor, release, one, place)
    held = vendor.registry.at(place)
    layer = next(name for name, data in held.blobs.items() if len(data) > 2)
    kept = held.blobs.pop(layer)
    with pytest.raises(RefusedError, match="there is no sha256"):
        vendor.publish_there(release)
    held.blobs[layer] = kept
    vendor.publish_there(release)
    assert vendor.newest_there() == "1.2.0"


def test_a_component_may_lie_where_the_owner_s_map_says(vendor: TaggedVendor) -> None:
    release = built(vendor, (f"{OWN}/historian", f"{HOST}/other/historian"))
    one = component(release, "historian")
    stick = vendor.directory / "stick"
    mirrors = MirrorMap({f"{HOST}/other": [str(stick), "oci://mirror.example/x"]})
    repository = vendor.at_registry()
    assert isinstance(repository.place, TaggedPlace)
    shelf = repository.place.shelf
    repository.place.content = ContentTargets(shelf, mirrored=mirrors.places)
    keys = [key("ci")]
    with pytest.raises(FetchError, match="stick is not a directory"):
        publish(repository, [release], keys=keys, clock=vendor.clock)
    stick.mkdir()
    with pytest.raises(RefusedError, match="component historian is not in") as why:
        publish(repository, [release], keys=keys, clock=vendor.clock)
    assert f"it is not below {OWN}, this repository's parent" in str(why.value.hint)
    push(vendor, release, one, "oci://mirror.example/x/historian")
    # Nobody maps it for this one.
    with pytest.raises(RefusedError, match="component historian is not in"):
        vendor.publish_there(release)
    assert publish(repository, [release], keys=keys, clock=vendor.clock).changed


@pytest.mark.parametrize("hint", [None, "run `docker login ghcr.example`"])
def test_a_component_that_can_t_be_looked_for(
    hint: str | None, vendor: TaggedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"{HOST}/other/historian"
    release = built(vendor, (f"{OWN}/historian", place))
    before = vendor.registry.copy()
    said = TooSlowError("it did not answer", url=place, unreachable=True, hint=hint)

    def silent(_: TaggedSink, what: Descriptor, **__: Any) -> None:
        assert what == component(release, "historian").content
        raise said

    with monkeypatch.context() as patch:
        patch.setattr(TaggedSink, "blob", silent)
        with pytest.raises(TooSlowError) as why:
            vendor.publish_there(release)
    assert str(why.value) == f"component historian can't be looked for: {said}"
    assert why.value.unreachable
    assert str(why.value.hint) == (
        f"{'' if hint is None else f'{hint}; '}it is not below {OWN}, this "
        f"repository's parent, and not pushed, so it must be in {place} already, or "
        "where [mirrors] in margo-supplychain.toml says instead; nothing was published"
    )
    assert vendor.registry.at(TRUST) == before.at(TRUST)


def test_a_component_that_is_not_at_hand_must_be_there(vendor: TaggedVendor) -> None:
    first = built(vendor)
    one = component(first, "historian")
    shutil.rmtree(vendor.directory / "pump-monitor" / "components" / "historian")
    found = ComponentKey(one.name, one.repository, one.revision)
    release = built(vendor, lock=ComponentLock(components={found: one.content}))
    shutil.rmtree(vendor.directory / "dist")
    release = built(vendor)
    assert one.content.digest in release.elsewhere
    with pytest.raises(RefusedError, match="component historian is not in"):
        vendor.publish_there(release)


@pytest.mark.parametrize(
    "change", [{"repository": "https://charts.example/historian"}, {"revision": ".1"}]
)
def test_a_component_that_no_registry_has(
    vendor: TaggedVendor, change: dict[str, str]
) -> None:
    """A build would not take it; a package that somebody else made may say it."""
    made = built(vendor)
    changed: dict[str, Any] = dict(change)
    components = [
        replace(one, **changed) if one.name == "historian" else one
        for one in made.components
    ]
    release = replace(made, components=tuple(components))
    start = vendor.registry.copy()
    with pytest.raises(VerificationError, match="historian"):
        vendor.publish_there(release)  # margo.yaml says otherwise
    targets = ContentTargets(vendor.registry.place().shelf)
    with pytest.raises(RefusedError, match="component historian lies where no"):
        list(targets.homes(targets.located(release)))
    assert vendor.registry.at(TRUST) == start.at(TRUST)


def test_tags_are_looked_at_before_anything_is_pushed(vendor: TaggedVendor) -> None:
    release = built(vendor)
    one = component(release, "web-stack")
    push(vendor, release, one, f"{OWN}/historian")
    held = vendor.registry.at(f"{OWN}/historian")
    held.tags["1.1.0"] = held.tags.pop("1.2.0")
    before = vendor.registry.copy()
    with pytest.raises(RefusedError, match="tags are never moved") as why:
        vendor.publish_there(release)
    assert f"{OWN}/historian:1.1.0" in str(why.value)
    assert vendor.registry.at(f"{OWN}/web-stack").blobs == {}
    assert vendor.registry.at(TRUST) == before.at(TRUST)


def test_what_got_lost_is_put_back(vendor: TaggedVendor) -> None:
    release = built(vendor)
    vendor.publish_there(release)
    start = vendor.registry.copy()
    package = vendor.registry.at(f"{OWN}/pump-monitor")
    package.tags.clear()
    web = vendor.registry.at(f"{OWN}/web-stack")
    web.blobs.clear()
    done = vendor.publish_there(release)
    assert (done.changed, done.blobs_restored) == (True, 3)
    assert vendor.registry == start


def test_a_name_that_is_no_repository(vendor: TaggedVendor) -> None:
    name = ReleaseName.parse("acme/-odd-")
    with vendor.at_registry().edit(vendor.keys, clock=vendor.clock) as edit:
        edit.add_application(name, [key("ci").public_key], policy=OPEN)
    release = vendor.release("1.0.0", name=name)
    with pytest.raises(RefusedError, match="can't be the name of a repo") as why:
        vendor.publish_there(release)
    assert "--location" in str(why.value.hint)
    located = Release.from_artifact(
        release.source,
        str(release.artifact.digest),
        name=name,
        version=Version.parse("1.0.0"),
        locations=[f"{OWN}/odd"],
    )
    vendor.publish_there(located)
    assert set(vendor.registry.at(f"{OWN}/odd").tags) == {"1.0.0"}


def test_content_that_no_device_takes_is_not_pushed(
    vendor: TaggedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DeploymentError("no device takes it", part="margo.yaml")

    monkeypatch.setattr(
        "margo_supplychain.authoring.stored_checks.check_stored", refuse
    )
    before = vendor.registry.copy()
    with pytest.raises(VerificationError, match="no device takes it") as why:
        vendor.publish_there(vendor.release("1.0.0"))
    assert "nothing was published" in str(why.value.hint)
    assert vendor.registry.at(TRUST) == before.at(TRUST)
    assert vendor.registry.at(f"{OWN}/pump-monitor").blobs == {}


# --- adopting ------------------------------------------------------------------------


def adopted(vendor: TaggedVendor, url: str, digest: object, **more: Any) -> Release:
    return Release.from_artifact(
        vendor.registry.source(url),
        f"{url}@{digest}",
        name=more.pop("name", PUMP),
        version=Version.parse(more.pop("version", "9.0.0")),
        **more,
    )


def test_adopted_content_stays_where_it_is(
    vendor: TaggedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = built(vendor)
    vendor.publish_there(release)
    del vendor.registry.repositories[TRUST]
    vendor.move()
    monkeypatch.setattr(
        "margo_supplychain.authoring.adopt.open_source",
        lambda url, network: vendor.registry.source(url),
    )
    start = vendor.registry.copy()
    url = f"{OWN}/pump-monitor"
    lock = ComponentLock(
        components={
            ComponentKey(one.name, one.repository, one.revision): one.content
            for one in release.components
        }
    )
    found = adopted(
        vendor, url, release.artifact.digest, version="1.2.0", components=lock
    )
    assert found.in_place == {
        release.artifact.digest,
        *(one.content.digest for one in release.components),
    }
    assert (found.elsewhere, found.locations) == (frozenset(), (url,))
    assert isinstance(found.source, FetchedContent)
    directory = found.source.directory
    assert directory.is_dir()
    done = vendor.publish_there(found)
    assert done.blobs_new == 0
    for place in (url, f"{OWN}/web-stack", f"{OWN}/historian"):
        assert vendor.registry.at(place) == start.at(place)
    assert vendor.newest_there() == "1.2.0"
    del found
    gc.collect()
    assert not directory.exists()


def test_an_index_that_is_adopted_where_it_lies(vendor: TaggedVendor) -> None:
    """Nothing there but its own tag keeps it: whoever adopts it is told."""
    place = TaggedSink(vendor.registry.repository(f"{OWN}/pump-monitor"))
    made = vendor.release("3.0.0")
    for part in made.parts():
        with made.open(part.descriptor) as stream:
            place.put_blob(part.descriptor, stream)
    data = index_bytes([Entry(descriptor=made.artifact)])
    what = Descriptor.of(data, INDEX)
    place.put_manifest(what, data, tag="3.0.0")
    found = adopted(vendor, place.url, what.digest)
    (warning,) = [one for one in found.warnings if "is an index" in one]
    assert "no tags for the 1 manifests" in warning
    assert "repo check --repair --from COPY" in warning
    single = adopted(vendor, place.url, made.artifact.digest)
    assert not any("is an index" in one for one in single.warnings)


def test_a_component_that_is_not_where_the_package_says(
    vendor: TaggedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = built(vendor)
    vendor.publish_there(release)
    one = component(release, "historian")
    monkeypatch.setattr(
        "margo_supplychain.authoring.adopt.open_source",
        lambda url, network: vendor.registry.source(url),
    )
    vendor.registry.at(one.repository).manifests.clear()
    lock = ComponentLock(
        components={ComponentKey(one.name, one.repository, one.revision): one.content}
    )
    with pytest.raises(FetchError, match=str(one.content.digest)):
        adopted(vendor, f"{OWN}/pump-monitor", release.artifact.digest, components=lock)


def test_what_is_adopted_from_a_layout_is_pushed(
    vendor: TaggedVendor, tmp_path: Path
) -> None:
    what = wasm_layout(tmp_path / "layout")
    release = Release.from_artifact(
        open_source(f"oci-layout:{tmp_path / 'layout'}"),
        str(what.digest),
        name=PUMP,
        version=Version.parse("1.0.0+b1"),
    )
    assert release.in_place == frozenset()
    done = vendor.publish_there(release)
    assert done.blobs_new == 3
    assert set(vendor.registry.at(f"{OWN}/pump-monitor").tags) == {"1.0.0_b1"}


def test_what_is_adopted_from_an_archive(vendor: TaggedVendor, tmp_path: Path) -> None:
    """Content that is no directory is fetched first, then judged, then pushed."""
    what = wasm_layout(tmp_path / "layout")
    source = open_source(f"oci-layout:{tmp_path / 'layout'}")
    sink = open_sink(f"oci-archive:{tmp_path / 'a.tar'}")
    release = vendor.release("0.9.0")
    for part in walk(what, lambda one: read_checked(source, one)):
        if part.role != "manifest":
            with source.blob(part.descriptor) as stream:
                sink.put_blob(part.descriptor, stream)
    sink.put_manifest(what, read_checked(source, what), tag="x")
    sink.close()
    release = Release.from_artifact(
        open_source(f"oci-archive:{tmp_path / 'a.tar'}"),
        str(what.digest),
        name=PUMP,
        version=Version.parse("1.0.0"),
    )
    vendor.publish_there(release)
    assert vendor.newest_there() == "1.0.0"


def test_a_layer_is_no_artifact(vendor: TaggedVendor) -> None:
    vendor.publish_there(vendor.release("1.0.0"))
    package = vendor.registry.at(f"{OWN}/pump-monitor")
    layer = next(iter(package.blobs))
    with pytest.raises(FetchError, match=layer):
        adopted(vendor, f"{OWN}/pump-monitor", layer)


# --- layouts -------------------------------------------------------------------------


def test_a_layout_is_edited_in_place(vendor: TaggedVendor, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    url = f"oci-layout:{layout}"
    copy(vendor, open_sink(url))
    release = built(vendor)

    def go() -> Any:
        return publish(
            Repository.open(url, root=vendor.root),
            [release],
            keys=[key("ci")],
            clock=vendor.clock,
        )

    done = go()
    # Trust metadata has the same empty config.
    assert (done.blobs_new, done.blobs_there) == (len(list(release.parts())) - 1, 1)
    assert seen(vendor, url) == "1.2.0"
    names = {"acme/pump-monitor:1.2.0", "registry.example/acme/web-stack:1.2.0"}
    assert names <= set(tags_of(url))
    assert not go().changed
    part = next(one for one in release.parts() if one.role == "layer")
    blob = layout / "blobs" / "sha256" / part.descriptor.digest.hex
    blob.write_bytes(b"damaged")
    again = go()
    assert again.blobs_restored == 1
    assert seen(vendor, url) == "1.2.0"
    report = Repository.open(url, root=vendor.root).check(clock=vendor.clock)
    assert report.violations == ()


def copy(vendor: TaggedVendor, sink: Any) -> None:
    """Copy the trust repository of the registry, without any content."""
    source = vendor.registry.source()
    trust = vendor.registry.at(TRUST)
    for tag in trust.tags:
        if tag.startswith("t."):
            continue
        name = f"{tag}.json"
        if tag != "timestamp":
            sink.put_metadata(name, source.metadata(name, limit=1 << 20))
    for path in (vendor.trust / "targets").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            what = Descriptor.of(data, "application/octet-stream")
            with path.open("rb") as stream:
                sink.put_target(target_path("x"), what, stream)
    timestamp = source.metadata("timestamp.json", limit=1 << 20)
    sink.put_metadata("timestamp.json", timestamp)


def seen(vendor: TaggedVendor, url: str) -> str:
    """Return what a fresh device would install from a layout alone."""
    source = open_source(url)
    device = Verifier(
        store=TrustStore.unsafe_without_memory(root=vendor.root, publishers=None),
        source=source,
        content=FixedContent([source]),
        policy=DEVICE_POLICY,
        clock=vendor.clock,
    )
    release = device.verify(PUMP, Pin.range("*", grammar="npm"))
    device.fetch(release, vendor.directory / "fetched")
    shutil.rmtree(vendor.directory / "fetched")
    return str(release.version)


def tags_of(url: str) -> list[str]:
    index = json.loads((Path(url.partition(":")[2]) / "index.json").read_bytes())
    return [
        one["annotations"]["org.opencontainers.image.ref.name"]
        for one in index["manifests"]
    ]


def test_a_layout_is_locked(
    vendor: TaggedVendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"oci-layout:{tmp_path / 'layout'}"
    copy(vendor, open_sink(url))
    monkeypatch.setattr("margo_supplychain.authoring.tagged_place.LOCK_TIMEOUT", 0.0)
    repository = Repository.open(url, root=vendor.root)
    with (
        DirectoryLock(tmp_path / "layout", timeout=0),
        pytest.raises(StorageError, match="is locked by another process"),
        repository.edit([key("ci")], clock=vendor.clock),
    ):
        raise AssertionError


def test_a_layout_that_is_not_there(vendor: TaggedVendor, tmp_path: Path) -> None:
    repository = Repository.open(f"oci-layout:{tmp_path / 'none'}", root=vendor.root)
    with (
        pytest.raises(FetchError),
        repository.edit([key("ci")], clock=vendor.clock),
    ):
        raise AssertionError
    assert not (tmp_path / "none").exists()
