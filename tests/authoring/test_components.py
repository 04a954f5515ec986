"""Charts and layouts as component sources: what is refused, what is warned of."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring.charts import read_chart
from margo_supplychain.authoring.components import Built, Wanted, build_component
from margo_supplychain.authoring.contents import Contents
from margo_supplychain.errors import ApplicationFormatError
from margo_supplychain.formats import oci
from margo_supplychain.formats.archives import build_compose_archive
from margo_supplychain.formats.digests import Descriptor
from tests.fixtures import image_index_layout, wasm_layout, write_layout

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.formats.application import ProfileType


def pack(text: str, top: str = "line") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        info = tarfile.TarInfo(f"{top}/Chart.yaml")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text.encode()))
    return gzip.compress(target.getvalue(), mtime=0)


def build(
    place: Path, family: ProfileType, *, revision: str = "1.0.0"
) -> tuple[Built, Contents]:
    contents = Contents()
    wanted = Wanted("line", family, "oci://registry.example/acme/line", revision)
    return build_component(place, wanted, contents, shown="components/line"), contents


def test_chart_metadata_is_text_and_booleans() -> None:
    text = (
        "apiVersion: v2\nname: line\nversion: 1.0.0\nappVersion: 1.20\n"
        "deprecated: true\nicon:\nkeywords: [a, 2]\n"
    )
    chart = read_chart(pack(text), shown="line.tgz")
    assert chart.metadata == {
        "apiVersion": "v2",
        "name": "line",
        "version": "1.0.0",
        "appVersion": "1.20",
        "deprecated": True,
        "keywords": ["a", "2"],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", r"line\.tgz:line/Chart\.yaml is a list, expected a mapping"),
        ("name: line\n", r"Chart\.yaml has no version"),
        ("version: 1.0.0\n", r"Chart\.yaml has no name"),
        ("name: [line]\nversion: 1.0.0\n", r"Chart\.yaml has no name"),
        ("name: other\nversion: 1.0.0\n", "has name 'other', expected the directory's"),
        ("name: line\nname: line\n", r"Chart\.yaml:2:1: key .* already"),
        ("name: {{ x }}\n", r"line\.tgz:line/Chart\.yaml:1:"),
    ],
)
def test_chart_is_refused(text: str, message: str) -> None:
    with pytest.raises(ApplicationFormatError, match=message):
        read_chart(pack(text), shown="line.tgz")


def test_old_chart_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "line.tgz").write_bytes(
        pack("apiVersion: v1\nname: line\nversion: 1.0.0+a\n")
    )
    built, _ = build(tmp_path, "helm", revision="1.0.0_a")
    assert built.opaque
    assert built.warnings == (
        "components/line/line.tgz has apiVersion v1, Margo asks for v2",
    )


def test_two_charts_are_refused(tmp_path: Path) -> None:
    for name in ("a.tgz", "b.tgz"):
        (tmp_path / name).write_bytes(pack("name: line\nversion: 1.0.0\n"))
    with pytest.raises(ApplicationFormatError, match=r"holds a\.tgz, b\.tgz, expected"):
        build(tmp_path, "helm")


def test_build_metadata_of_a_revision_is_written_as_semver(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {image: registry.example/a}}")
    built, contents = build(tmp_path, "compose", revision="1.0.0_a")
    with contents.open(built.content.digest) as stream:
        manifest = oci.parse_manifest(stream.read())
    assert isinstance(manifest, oci.Manifest)
    assert manifest.layers[0].annotations[oci.COMPONENT_VERSION] == "1.0.0+a"
    # The older generation has tags that are no version at all.
    again, _ = build(tmp_path, "compose", revision="latest")
    assert again.content != built.content


def test_custom_component_may_be_anything(tmp_path: Path) -> None:
    what = wasm_layout(tmp_path / "wasm")
    built, contents = build(tmp_path / "wasm", "custom")
    assert built.content == what
    assert built.opaque
    assert what.digest in contents.digests()
    image = image_index_layout(tmp_path / "image")
    built, _ = build(tmp_path / "image", "custom")
    assert (built.content, built.opaque) == (image, False)


def test_image_is_no_compose_component(tmp_path: Path) -> None:
    image_index_layout(tmp_path)
    with pytest.raises(ApplicationFormatError, match="line holds a container image"):
        build(tmp_path, "compose")


def test_layout_that_says_another_version_is_warned_of(tmp_path: Path) -> None:
    archive = build_compose_archive(
        {"compose.yaml": b"services: {a: {image: registry.example/a}}"}, "line"
    )
    layer = oci.Layer(
        descriptor=Descriptor.of(archive, oci.COMPOSE_LAYER),
        annotations={oci.COMPONENT_VERSION: "2.0.0"},
    )
    manifest = oci.manifest_bytes(artifact_type=oci.COMPOSE_COMPONENT, layers=[layer])
    what = Descriptor.of(manifest, oci.MANIFEST)
    blobs = [archive, manifest, oci.EMPTY_BYTES]
    write_layout(tmp_path, blobs, [oci.Entry(descriptor=what)])
    built, _ = build(tmp_path, "compose")
    assert [one.reference for one in built.images] == ["registry.example/a"]
    (warning,) = built.warnings
    assert warning.startswith("components/line calls itself 2.0.0, and margo.yaml's")
    with pytest.raises(ApplicationFormatError, match="is a compose component, and mar"):
        build(tmp_path, "helm")
