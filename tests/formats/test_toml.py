"""What is written as TOML is read back by `tomllib`."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import FormatError
from margo_supplychain.formats.toml import quoted


@given(st.text(min_size=1).filter(str.isprintable))
def test_printable_text_comes_back(text: str) -> None:
    assert tomllib.loads(f"a = {quoted(text)}") == {"a": text}


@pytest.mark.parametrize("text", ["", "a\nb", "a\x1b[2J", "\u202e", "\ud800"])
def test_what_nobody_sees_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="is not printable text for a TOML file"):
        quoted(text)
