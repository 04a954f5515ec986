"""The fast encoder writes what the reference encoder writes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical

from margo_supplychain.formats.canonical_json import encode

# Escapes are where the two could differ: make them likely.
TEXT = st.text(
    st.one_of(st.sampled_from('\\"\n\r\t\b\f\0\x1f\x7fun/é😀'), st.characters())
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4)
    ),
    max_leaves=12,
)


def reference(value: dict[str, Any]) -> bytes:
    text = encode_canonical(value)
    assert isinstance(text, str)
    return text.encode()


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_as_the_reference(value: dict[str, Any]) -> None:
    if any(0xD800 <= ord(one) <= 0xDFFF for one in repr(value)):
        return
    try:
        expected = reference(value)
    except UnicodeEncodeError:
        with pytest.raises(UnicodeEncodeError):
            encode(value)
        return
    assert encode(value) == expected


@pytest.mark.parametrize(
    "text",
    ["\n", "\\n", "\\\n", "\\\\n", '"\n"', "\\u000a", "\x0b", "\\", "\\\\", "n\\"],
)
def test_escapes(text: str) -> None:
    assert encode({text: [text, {text: text}]}) == reference(
        {text: [text, {text: text}]}
    )


def test_a_lone_surrogate() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode({"a": "\ud800"})
