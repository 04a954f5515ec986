"""Nesting is counted outside strings, exactly, whatever the strings hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.formats import strict_json

TRICKS = st.text(st.sampled_from('[]{}"\\n\né'), max_size=12)


def parse(data: bytes) -> dict[str, Any]:
    return strict_json.parse(data, what="it", limit=1 << 20)


def nested(levels: str, text: str) -> bytes:
    """Return an object of `levels` levels, [ or {, each with `text` before it."""
    value: Any = text
    for one in levels:
        value = [text, value, text] if one == "[" else {text or "k": value}
    return json.dumps({"a": value, text: text}).encode()


@given(st.text(st.sampled_from("[{"), min_size=1, max_size=90), TRICKS)
def test_depth(levels: str, text: str) -> None:
    data = nested(levels, text)
    if len(levels) + 1 > strict_json.MAX_DEPTH and text != "a":
        with pytest.raises(MetadataFormatError, match="nested deeper than 64"):
            parse(data)
    else:
        assert parse(data) == json.loads(data)


@pytest.mark.parametrize("levels", ["[" * 63, "{" * 63, "[{" * 31 + "["])
def test_boundary(levels: str) -> None:
    assert parse(nested(levels, ""))
    with pytest.raises(MetadataFormatError, match="nested deeper than 64"):
        parse(nested(levels + "[", ""))


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":"\\\\","b":' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"a":"\\\\\\"[","b":' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"a":"' + b"[" * 70 + b'","b":' + b"{" * 70,
    ],
)
def test_too_deep(data: bytes) -> None:
    with pytest.raises(MetadataFormatError, match="nested deeper than 64"):
        parse(data)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":"' + b"[" * 70 + b'"}',
        b'{"a":"\\"' + b"[" * 70 + b'"}',
        b'{"a":"\\\\\\"' + b"{" * 70 + b'"}',
        b'{"a":[' + b"[]," * 200 + b"{}]}",
    ],
)
def test_wide_or_quoted(data: bytes) -> None:
    assert parse(data) == json.loads(data)


def test_unbalanced_is_no_json() -> None:
    with pytest.raises(MetadataFormatError, match="is not JSON"):
        parse(b'{"a":' + b"[]," * 70 + b"]]]]")


@given(
    st.lists(
        st.tuples(TRICKS, st.sampled_from(['"x"', "1", "{}", '{"a":1,"a:":[]}'])),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)
def test_members_of_large_documents_are_counted(
    members: list[tuple[str, str]], large: bool
) -> None:
    """Large and small documents find the same names twice, though not in one way."""
    inner = ",".join(f"{json.dumps(key)} :{value}" for key, value in members)
    padding = ",".join(["{}"] * (100 if large else 1))
    data = f'{{"a":{{{inner}}},"b":[{padding}]}}'.encode()
    keys = [key for key, _ in members]
    if len({*keys}) < len(keys):
        with pytest.raises(MetadataFormatError, match=r"names .* twice"):
            parse(data)
    else:
        assert parse(data) == json.loads(data)


@pytest.mark.parametrize(
    "member", ['"a":1, "a":2', '"a":{"b":1,"b":2}', '"a":[[{"b":"::","b":1}]]']
)
def test_twice_in_a_large_document(member: str) -> None:
    data = f'{{"x:":"a:b", "p":[{",".join(["{}"] * 100)}],{member}}}'.encode()
    with pytest.raises(MetadataFormatError, match=r"names '[ab]' twice"):
        parse(data)


def test_values_are_counted_outside_strings() -> None:
    """Such as what a compiler printed, in a link."""
    text = json.dumps({"stdout": "[1,2,{\\" * 9999, "b": [1, 2]}).encode()
    assert strict_json.parse(text, what="it", limit=1 << 20, spread=1000)
    hidden = b'{"a":"' + b"x" * 100_000 + b'","b":[' + b"1," * 2000 + b"1]}"
    with pytest.raises(MetadataFormatError, match="holds more than 1128 values"):
        strict_json.parse(hidden, what="it", limit=1 << 20, spread=1000)
    # Also where what follows is no JSON, and would hide it.
    with pytest.raises(MetadataFormatError, match="holds more than"):
        strict_json.parse(hidden[:-1] + b'\\"', what="it", limit=1 << 20, spread=1000)


def test_fractions_on_demand() -> None:
    with pytest.raises(MetadataFormatError, match="which is not a whole number"):
        parse(b'{"a":1.5}')
    found = strict_json.parse(
        b'{"a":1.5,"b":-0.25e2,"c":3}', what="it", limit=100, fractions=True
    )
    assert found == {"a": 1.5, "b": -25.0, "c": 3}
