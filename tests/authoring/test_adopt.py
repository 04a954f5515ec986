"""`release adopt`: any artifact by digest, with no byte changed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.adopt import parse_reference
from margo_supplychain.authoring.release import Release
from margo_supplychain.errors import (
    ApplicationFormatError,
    DigestMismatchError,
    FetchError,
    FormatError,
    LengthMismatchError,
    OciFormatError,
)
from margo_supplychain.formats import oci
from margo_supplychain.formats.archives import build_compose_archive
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.locks import (
    ComponentKey,
    ComponentLock,
    ImageLock,
    LockedImage,
)
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.versions import Version
from margo_supplychain.transport.directory import DirectorySource
from tests.fixtures import (
    CHARTS,
    PACKAGES,
    WASM_TYPE,
    copy_package,
    image_index_layout,
    nonconforming_layout,
    pack_chart,
    wasm_layout,
    wasm_module,
    write_layout,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NOW = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)


def adopt(directory: Path, what: Digest, name: str = "acme/thing", **more: Any) -> Any:
    return Release.from_artifact(
        DirectorySource(directory),
        more.pop("reference", str(what)),
        name=ReleaseName.parse(name),
        version=Version.parse(more.pop("version", "1.0.0")),
        **more,
    )


def layout(
    directory: Path, blobs: Iterable[tuple[bytes, str]], **manifest: Any
) -> Descriptor:
    """Write a layout with one manifest whose layers are `blobs`."""
    annotations = manifest.pop("layer_annotations", {})
    blobs = list(blobs)
    layers = [
        oci.Layer(descriptor=Descriptor.of(data, kind), annotations=annotations)
        for data, kind in blobs
    ]
    data = oci.manifest_bytes(layers=layers, **{"artifact_type": None, **manifest})
    what = Descriptor.of(data, oci.MANIFEST)
    stored = [*(one for one, _ in blobs), data, oci.EMPTY_BYTES]
    write_layout(directory, stored, [oci.Entry(descriptor=what)])
    return what


def test_wasm_module(tmp_path: Path) -> None:
    what = wasm_layout(tmp_path)
    release = adopt(tmp_path, what.digest)
    assert release.artifact == what
    assert release.artifact_type is None
    assert release.application_version is None
    assert (release.closure, release.warnings) == ("complete", ())
    assert [one.descriptor.media_type for one in release.parts()][1] == WASM_TYPE
    assert release.record(NOW).profiles() == ()


def test_image_index_with_its_children(tmp_path: Path) -> None:
    what = image_index_layout(tmp_path)
    release = adopt(tmp_path, what.digest)
    assert release.artifact == what
    assert release.artifact.media_type == oci.INDEX
    assert release.closure == "complete"
    parts = [one.descriptor.digest for one in release.parts()]
    assert {one.hex for one in parts} == {
        path.name for path in (tmp_path / "blobs/sha256").iterdir()
    }
    assert parts[-1] == what.digest


def test_package_that_does_not_conform_is_adopted_with_warnings(tmp_path: Path) -> None:
    what = nonconforming_layout(tmp_path)
    release = adopt(tmp_path, what.digest, "acme/hello-conveyor")
    assert release.artifact == what
    assert release.application_version == "1.0"
    assert release.closure == "partial"
    assert release.components == ()
    text = "\n".join(release.warnings)
    assert "margo.yaml has media type text/yaml" in text
    assert "component hello-conveyor (oci://registry.example/conveyors/" in text
    assert "metadata.version is 1.0, and will be released as 1.0.0" in text


def test_components_and_images_of_a_package_come_from_reviewed_locks(
    tmp_path: Path,
) -> None:
    what = nonconforming_layout(tmp_path)
    chart = Descriptor.of(b"chart", oci.MANIFEST)
    key = ComponentKey(
        "hello-conveyor",
        "oci://registry.example/conveyors/charts/hello-conveyor",
        "1.0.1",
    )
    image = LockedImage(Digest.of(b"image"), (), ("hello-conveyor",))
    release = adopt(
        tmp_path,
        what.digest,
        "acme/hello-conveyor",
        components=ComponentLock(components={key: chart}),
        images=ImageLock(images={"registry.example/hello:1": image}),
    )
    assert release.closure == "complete"
    assert [one.content for one in release.components] == [chart]
    assert release.elsewhere == {chart.digest}
    assert [one.digest for one in release.images] == [Digest.of(b"image")]


def test_package_of_another_id_is_refused(tmp_path: Path) -> None:
    what = nonconforming_layout(tmp_path)
    with pytest.raises(ApplicationFormatError, match="has id hello-conveyor") as caught:
        adopt(tmp_path, what.digest, "acme/conveyor")
    assert caught.value.hint == "adopt it as acme/hello-conveyor"


def test_package_without_margo_yaml_is_refused(tmp_path: Path) -> None:
    what = layout(tmp_path, [(b"x", "text/plain")], artifact_type=oci.MARGO_APPLICATION)
    with pytest.raises(ApplicationFormatError, match=r"has no file margo\.yaml"):
        adopt(tmp_path, what.digest)


def test_package_with_unreadable_margo_yaml_is_adopted_with_a_warning(
    tmp_path: Path,
) -> None:
    what = layout(
        tmp_path,
        [(b"{{ name }}: [", oci.MARGO_DESCRIPTION)],
        artifact_type=oci.MARGO_APPLICATION,
        layer_annotations={oci.TITLE: "margo.yaml"},
    )
    release = adopt(tmp_path, what.digest)
    assert release.closure == "partial"
    assert release.application_version is None
    assert any("margo.yaml can't be read" in one for one in release.warnings)


def test_package_built_here_is_adopted_without_warnings(tmp_path: Path) -> None:
    package = copy_package("pump-monitor", tmp_path)
    built = Release.from_package(package, publisher="acme", output=tmp_path / "dist")
    lock = ComponentLock(
        components={
            ComponentKey(one.name, one.repository, one.revision): one.content
            for one in built.components
        }
    )
    release = adopt(
        tmp_path / "dist",
        built.artifact.digest,
        "acme/pump-monitor",
        version="1.2.0",
        components=lock,
    )
    assert release.record(NOW).profiles() == built.record(NOW).profiles()
    assert release.application_version == "1.2.0"


COMPOSE = b"services: {web: {image: 'registry.example/web:1'}}"


def compose(tmp_path: Path, text: bytes = COMPOSE, **more: Any) -> Descriptor:
    archive = build_compose_archive({"compose.yaml": text}, "web")
    return layout(
        tmp_path,
        [(archive, oci.COMPOSE_LAYER)],
        artifact_type=oci.COMPOSE_COMPONENT,
        **more,
    )


def test_compose_archive_names_its_images(tmp_path: Path) -> None:
    what = compose(tmp_path, layer_annotations={oci.COMPONENT_VERSION: "1.0.0"})
    release = adopt(tmp_path, what.digest)
    assert release.closure == "partial"
    (image,) = release.images
    assert (image.component, image.digest) == ("thing", None)
    lock = ImageLock(
        images={"registry.example/web:1": LockedImage(Digest.of(b"i"), ())}
    )
    pinned = adopt(tmp_path, what.digest, images=lock)
    assert (pinned.closure, pinned.warnings) == ("complete", ())


def test_compose_archive_that_says_another_version_is_warned_of(tmp_path: Path) -> None:
    what = compose(tmp_path, annotations={oci.COMPONENT_VERSION: "3.0.0"})
    release = adopt(tmp_path, what.digest)
    assert any("calls itself 3.0.0" in one for one in release.warnings)
    assert any("has no org.margo.component.version" in one for one in release.warnings)


def test_compose_archive_that_margo_forbids_is_adopted_with_its_problems(
    tmp_path: Path,
) -> None:
    what = compose(tmp_path, b"services: {web: {build: .}}")
    release = adopt(tmp_path, what.digest)
    assert release.closure == "partial"
    assert any("built on the device" in one for one in release.warnings)


def test_compose_artifact_of_two_layers_is_adopted_with_a_warning(
    tmp_path: Path,
) -> None:
    archive = build_compose_archive({"compose.yaml": COMPOSE}, "web")
    what = layout(
        tmp_path,
        [(archive, oci.COMPOSE_LAYER), (b"x", "text/plain")],
        artifact_type=oci.COMPOSE_COMPONENT,
    )
    release = adopt(tmp_path, what.digest)
    assert any("is not one layer of type" in one for one in release.warnings)


@pytest.mark.parametrize("form", ["helm push", "margo"])
def test_charts_of_both_forms(form: str, tmp_path: Path) -> None:
    chart = pack_chart(CHARTS / "line-analytics")
    if form == "margo":
        kind = "application/vnd.cncf.helm.chart.content.layer.v1.tar+gzip"
        what = layout(tmp_path, [(chart, kind)], artifact_type=oci.HELM_CONFIG)
    else:
        config = Descriptor.of(oci.EMPTY_BYTES, oci.HELM_CONFIG)
        what = layout(tmp_path, [(chart, oci.HELM_LAYER)], config=config)
    release = adopt(tmp_path, what.digest)
    assert release.closure == "partial"
    assert any("images of thing can't be read" in one for one in release.warnings)
    image = LockedImage(Digest.of(b"i"), (), ("thing",))
    lock = ImageLock(images={"registry.example/line:2": image})
    assert adopt(tmp_path, what.digest, images=lock).closure == "complete"


def test_archives_that_every_device_refuses_are_refused(tmp_path: Path) -> None:
    chart = layout(
        tmp_path / "chart", [(b"x", oci.HELM_LAYER)], artifact_type=oci.HELM_CONFIG
    )
    with pytest.raises(ApplicationFormatError, match="is not gzip") as caught:
        adopt(tmp_path / "chart", chart.digest)
    assert "every device would refuse it" in str(caught.value.hint)
    archive = layout(
        tmp_path / "compose",
        [(b"x", oci.COMPOSE_LAYER)],
        artifact_type=oci.COMPOSE_COMPONENT,
    )
    with pytest.raises(ApplicationFormatError, match="is not gzip"):
        adopt(tmp_path / "compose", archive.digest)


def test_chart_without_a_chart_layer_is_adopted_with_a_warning(tmp_path: Path) -> None:
    what = layout(tmp_path, [(b"x", "text/plain")], artifact_type=oci.HELM_CONFIG)
    release = adopt(tmp_path, what.digest)
    assert any("has not exactly one chart layer" in one for one in release.warnings)


# --- references ----------------------------------------------------------------------

HEX = "0" * 64


@pytest.mark.parametrize(
    ("text", "location"),
    [
        (f"sha256:{HEX}", None),
        (f"oci://h.example/acme/web@sha256:{HEX}", "oci://h.example/acme/web"),
        (f"oci://h.example:5000/web:1.0@sha256:{HEX}", "oci://h.example:5000/web"),
    ],
)
def test_references(text: str, location: str | None) -> None:
    assert parse_reference(text) == (Digest("sha256", HEX), location)


@pytest.mark.parametrize(
    "text", ["1.0.0", "latest", "", "oci://h/web", "oci://h/web:1.0", "oci://h:5/w:1@"]
)
def test_tag_is_refused_with_a_hint(text: str, tmp_path: Path) -> None:
    what = wasm_layout(tmp_path)
    with pytest.raises(OciFormatError, match="names no digest") as caught:
        adopt(tmp_path, what.digest, reference=text)
    assert "a tag can move; name the digest that you reviewed" in str(caught.value.hint)


@pytest.mark.parametrize(
    "text", [f"h/web@sha256:{HEX}", f"oci://h@sha256:{HEX}", f"oci:///@sha256:{HEX}"]
)
def test_other_references_are_refused(text: str) -> None:
    with pytest.raises(FormatError, match="is neither sha256:… nor oci://host/path"):
        parse_reference(text)


def test_location_of_a_reference_is_a_hint_in_the_record(tmp_path: Path) -> None:
    what = wasm_layout(tmp_path)
    reference = f"oci://h.example/acme/thing@{what.digest}"
    more = ["oci://mirror.example/thing", "oci://h.example/acme/thing"]
    release = adopt(tmp_path, what.digest, reference=reference, locations=more)
    assert release.locations == (
        "oci://h.example/acme/thing",
        "oci://mirror.example/thing",
    )


# --- damage --------------------------------------------------------------------------


def test_every_damaged_blob_is_noticed(tmp_path: Path) -> None:
    what = image_index_layout(tmp_path)
    for blob in sorted((tmp_path / "blobs/sha256").iterdir()):
        data = blob.read_bytes()
        blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(DigestMismatchError):
            adopt(tmp_path, what.digest)
        blob.write_bytes(data[:-1])
        with pytest.raises((LengthMismatchError, DigestMismatchError)):
            adopt(tmp_path, what.digest)
        blob.unlink()
        with pytest.raises(FetchError, match="does not exist"):
            adopt(tmp_path, what.digest)
        blob.write_bytes(data)


def test_layer_is_no_release(tmp_path: Path) -> None:
    wasm_layout(tmp_path)
    with pytest.raises(OciFormatError, match=r"is not (UTF-8|JSON)"):
        adopt(tmp_path, Digest.of(wasm_module()))
    big = b"x" * (oci.MAX_MANIFEST + 2)
    blob = tmp_path / "blobs/sha256" / Digest.of(big).hex
    blob.write_bytes(big)
    with pytest.raises(OciFormatError, match="is larger than any manifest"):
        adopt(tmp_path, Digest.of(big))


def test_what_cannot_be_read_is_no_part_of_the_release(tmp_path: Path) -> None:
    data = (PACKAGES / "pump-monitor/margo.yaml").read_bytes()
    data = data.replace(
        b"- name: historian\n        prop", b"- name: [1]\n        prop"
    )
    what = layout(
        tmp_path,
        [(data, oci.MARGO_DESCRIPTION)],
        artifact_type=oci.MARGO_APPLICATION,
        layer_annotations={oci.TITLE: "margo.yaml"},
    )
    release = adopt(tmp_path, what.digest, "acme/pump-monitor", version="1.2.0")
    assert (release.closure, release.components) == ("partial", ())
    assert any(
        "profile pump-monitor-compose can't be read in full" in one
        for one in release.warnings
    )


def test_other_digests_than_sha256(tmp_path: Path) -> None:
    with pytest.raises(OciFormatError, match="a release is named by one"):
        adopt(tmp_path, Digest.parse(f"sha512:{'0' * 128}"))


def test_a_component_named_by_sha512(tmp_path: Path) -> None:
    package = copy_package("pump-monitor", tmp_path)
    built = Release.from_package(package, publisher="acme", output=tmp_path / "dist")
    other = Descriptor(
        media_type=oci.MANIFEST, digest=Digest.parse(f"sha512:{'0' * 128}"), size=2
    )
    lock = ComponentLock(
        components={
            ComponentKey(one.name, one.repository, one.revision): other
            for one in built.components
        }
    )
    with pytest.raises(ApplicationFormatError, match="names everything by sha256"):
        adopt(
            tmp_path / "dist",
            built.artifact.digest,
            "acme/pump-monitor",
            version="1.2.0",
            components=lock,
        )
