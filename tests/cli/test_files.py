"""A file that is named is there, is one, and has a limit: one error for all options."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.cli.files import read_named
from margo_supplychain.errors import FormatError, StorageError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_named_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert read_named(path, limit=3, what="a key") == b"abc"
    with pytest.raises(FormatError, match="a has more than 2 bytes, expected a key"):
        read_named(path, limit=2, what="a key")
    with pytest.raises(FormatError, match="b: no such file, expected a key") as caught:
        read_named(tmp_path / "b", limit=3, what="a key")
    assert (caught.value.where, caught.value.exit_status) == (str(tmp_path / "b"), 2)
    with pytest.raises(StorageError, match="is not a regular file"):
        read_named(tmp_path, limit=3, what="a key")
