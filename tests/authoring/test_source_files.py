"""An author's own files: regular, bounded, portable, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring import source_files
from margo_supplychain.authoring.source_files import read_file, read_tree
from margo_supplychain.errors import ApplicationFormatError

if TYPE_CHECKING:
    from pathlib import Path


def test_tree_is_read_sorted_with_its_modes(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/run.sh").write_text("x")
    (tmp_path / "b/run.sh").chmod(0o755)
    (tmp_path / "a.txt").write_text("y")
    found = read_tree(tmp_path)
    assert list(found) == ["a.txt", "b/run.sh"]
    assert [file.executable for file in found.values()] == [False, True]
    assert list(read_tree(tmp_path, "b")) == ["b/run.sh"]
    assert read_tree(tmp_path, "nothing") == {}
    assert read_file(tmp_path / "nothing", limit=1) is None


def test_all_problems_of_a_tree_are_listed(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("/")
    (tmp_path / "two").symlink_to("gone")
    (tmp_path / "a:b").write_text("")
    with pytest.raises(ApplicationFormatError) as caught:
        read_tree(tmp_path)
    assert len(caught.value.problems) == 3


def test_tree_has_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (tmp_path / str(number)).write_bytes(b"xxx")
    monkeypatch.setattr(source_files, "MAX_FILES", 3)
    with pytest.raises(ApplicationFormatError, match="holds more than 3 files"):
        read_tree(tmp_path)
    monkeypatch.setattr(source_files, "MAX_FILES", 10)
    monkeypatch.setattr(source_files, "MAX_TREE", 11)
    with pytest.raises(ApplicationFormatError, match="3 has more than 2 bytes"):
        read_tree(tmp_path)
    monkeypatch.setattr(source_files, "MAX_FILE", 2)
    with pytest.raises(ApplicationFormatError, match="0 has more than 2 bytes"):
        read_tree(tmp_path)


def test_tree_has_a_depth(tmp_path: Path) -> None:
    place = tmp_path
    for _ in range(source_files.MAX_DEPTH + 2):
        place /= "d"
    place.mkdir(parents=True)
    (place / "file").write_text("")
    with pytest.raises(ApplicationFormatError, match="is deeper than 32"):
        read_tree(tmp_path)
