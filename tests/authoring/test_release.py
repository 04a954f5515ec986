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
from tests.fixtures import copy_package

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
    assert sorted(value) == ["elsewhere", "format", "release", "warnings"]
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
    (dist / "release.json").write_text(json.dumps(value))
    with pytest.raises(MetadataFormatError, match=message):
        Release.from_build(dist)
