"""What a build leaves behind, opened again: intact, or refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.release import Release
from margo_supplychain.errors import (
    DigestMismatchError,
    LengthMismatchError,
    MetadataFormatError,
    OciFormatError,
    StorageError,
)
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.oci import COMPOSE_COMPONENT
from tests.fixtures import copy_package

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def write_draft(dist: Path, value: dict[str, Any]) -> None:
    """Write a draft with the checksum that it should have."""
    rest = {name: one for name, one in value.items() if name != "checksum"}
    checksum = str(Digest.of(strict_json.canonical(rest)))
    (dist / "release.json").write_text(json.dumps(rest | {"checksum": checksum}))


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    package = copy_package("pump-monitor", tmp_path)
    Release.from_package(package, publisher="acme", output=tmp_path / "dist")
    return tmp_path / "dist"


def test_build_is_opened_as_it_was_made(tmp_path: Path) -> None:
    package = copy_package("line-analytics", tmp_path)
    made = Release.from_package(package, publisher="acme", output=tmp_path / "dist")
    found = Release.from_build(tmp_path / "dist")
    for field in (
        "name",
        "version",
        "artifact",
        "artifact_type",
        "application_version",
        "locations",
        "components",
        "images",
        "closure",
        "warnings",
        "elsewhere",
    ):
        assert getattr(found, field) == getattr(made, field)
    assert found.warnings


def test_draft_holds_no_time(dist: Path) -> None:
    value = json.loads((dist / "release.json").read_text())
    assert sorted(value) == ["checksum", "elsewhere", "format", "release", "warnings"]
    assert "created" not in value["release"]


def test_directory_without_a_draft_is_no_build(dist: Path) -> None:
    (dist / "release.json").unlink()
    with pytest.raises(MetadataFormatError, match=r"holds no release\.json") as caught:
        Release.from_build(dist)
    assert "release build DIR --output" in str(caught.value.hint)


def test_build_without_its_layout_is_refused(dist: Path) -> None:
    (dist / "oci-layout").unlink()
    with pytest.raises(OciFormatError, match="is not an OCI image layout"):
        Release.from_build(dist)


def every_blob(dist: Path) -> list[Path]:
    return sorted((dist / "blobs/sha256").iterdir())


def test_every_changed_blob_is_noticed(dist: Path) -> None:
    for blob in every_blob(dist):
        data = blob.read_bytes()
        blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(DigestMismatchError, match="has digest sha256:") as caught:
            Release.from_build(dist)
        assert "was changed since it was built" in str(caught.value.hint)
        blob.write_bytes(data + b" ")
        with pytest.raises(LengthMismatchError):
            Release.from_build(dist)
        blob.write_bytes(data)
    assert str(Release.from_build(dist).name) == "acme/pump-monitor"


def test_every_missing_blob_is_noticed(dist: Path) -> None:
    for blob in every_blob(dist):
        data = blob.read_bytes()
        blob.unlink()
        with pytest.raises(StorageError, match=r"is not complete|does not hold"):
            Release.from_build(dist)
        blob.write_bytes(data)


def draft_is_newer(value: dict[str, Any]) -> None:
    value["format"] = 2


def draft_has_more(value: dict[str, Any]) -> None:
    value["signed"] = True


def draft_has_a_time(value: dict[str, Any]) -> None:
    value["release"]["created"] = "2026-11-21T10:00:00Z"


def draft_names_nothing_elsewhere(value: dict[str, Any]) -> None:
    value["elsewhere"] = [f"sha256:{'0' * 64}"]


def record_has_more(value: dict[str, Any]) -> None:
    value["release"]["force"] = True


def warning_is_no_line(value: dict[str, Any]) -> None:
    value["warnings"] = ["a\u001bb"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (draft_is_newer, "has format 2, newer than 1"),
        (draft_has_more, r"release\.json has unknown field 'signed'"),
        (draft_has_a_time, "has a time, and a draft has none"),
        (draft_names_nothing_elsewhere, "lies elsewhere, and names no such component"),
        (record_has_more, "release record has unknown field 'force'"),
        (warning_is_no_line, r"warnings\[0\]: .*not one printable line"),
    ],
)
def test_changed_draft_is_refused(
    change: Callable[[dict[str, Any]], None], message: str, dist: Path
) -> None:
    value = json.loads((dist / "release.json").read_text())
    change(value)
    write_draft(dist, value)
    with pytest.raises(MetadataFormatError, match=message):
        Release.from_build(dist)


def test_a_draft_edited_by_hand_is_refused(dist: Path) -> None:
    path = dist / "release.json"
    value = json.loads(path.read_text())
    value["release"]["images"][0]["digest"] = f"sha256:{'0' * 64}"
    path.write_text(json.dumps(value))
    with pytest.raises(MetadataFormatError, match="was changed since it was built"):
        Release.from_build(dist)


def another_name(value: dict[str, Any]) -> None:
    value["release"]["name"] = "other"


def another_version(value: dict[str, Any]) -> None:
    value["release"]["version"] = "2.0.0"


def another_application_version(value: dict[str, Any]) -> None:
    value["release"]["applicationVersion"] = "9.9"


def no_components(value: dict[str, Any]) -> None:
    value["release"] |= {"components": [], "images": [], "closure": "partial"}


def no_images(value: dict[str, Any]) -> None:
    value["release"]["images"] = []


def images_without_digests(value: dict[str, Any]) -> None:
    for one in value["release"]["images"]:
        one.pop("digest", None)


def partial(value: dict[str, Any]) -> None:
    value["release"]["closure"] = "partial"


def an_image_pinned_twice(value: dict[str, Any]) -> None:
    first = value["release"]["images"][0]
    other = f"sha256:{'0' * 64}"
    value["release"]["images"].append(first | {"component": "z", "digest": other})


def another_image(value: dict[str, Any]) -> None:
    value["release"]["images"][0]["reference"] = "evil.example/x:1"


def everything_elsewhere(value: dict[str, Any]) -> None:
    value["elsewhere"] = sorted(
        {one["digest"] for one in value["release"]["components"]}
    )


def no_artifact_type(value: dict[str, Any]) -> None:
    del value["release"]["artifact"]["artifactType"]


def another_artifact(value: dict[str, Any]) -> None:
    component = value["release"]["components"][0]
    names = ("mediaType", "digest", "size")
    value["release"]["artifact"] = {name: component[name] for name in names} | {
        "artifactType": COMPOSE_COMPONENT
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_name, "has other name than its bytes"),
        (another_version, "metadata.version is 1.2.0, and --version says 2.0.0"),
        (another_application_version, "has other applicationVersion than its bytes"),
        (no_components, "has other components than its bytes"),
        (no_images, "has other images than its bytes"),
        (images_without_digests, "closure is complete, but image .* has no digest"),
        (partial, "has other closure than its bytes"),
        (an_image_pinned_twice, "twice and not alike"),
        (another_image, "has other images than its bytes"),
        (everything_elsewhere, "has other elsewhere than its bytes"),
        (no_artifact_type, "has other artifactType than its bytes"),
        (another_artifact, "which is no package with a margo.yaml"),
    ],
)
def test_a_draft_that_says_other_than_its_bytes_is_refused(
    change: Callable[[dict[str, Any]], None], message: str, dist: Path
) -> None:
    value = json.loads((dist / "release.json").read_text())
    change(value)
    write_draft(dist, value)
    with pytest.raises(MetadataFormatError, match=message):
        Release.from_build(dist)
