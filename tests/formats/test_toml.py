"""What is written as TOML is read back by `tomllib`."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import FormatError
from margo_supplychain.formats.toml import MAX_PARTS, parse, quoted


@given(st.text(min_size=1).filter(str.isprintable))
def test_printable_text_comes_back(text: str) -> None:
    assert tomllib.loads(f"a = {quoted(text)}") == {"a": text}


@pytest.mark.parametrize("text", ["", "a\nb", "a\x1b[2J", "\u202e", "\ud800"])
def test_what_nobody_sees_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="is not printable text for a TOML file"):
        quoted(text)


@pytest.mark.parametrize("part", ["a", '"a"', "'a'", '"\\"\u00e9"', "a "])
@pytest.mark.parametrize("form", ["{} = 1", "[{}]", "[[{}]]", "x = {{ {} = 1 }}"])
def test_keys_have_few_parts(part: str, form: str) -> None:
    """Python's reader takes a minute for 120 kB of `a.a.a`."""
    deep = form.format(".".join([part] * MAX_PARTS)).encode()
    assert parse(deep, what="f", limit=1_000)
    for count in (MAX_PARTS + 1, 20_000):
        deep = form.format(".".join([part] * count)).encode()
        with pytest.raises(FormatError, match="f has a key of more than 32 parts"):
            parse(deep, what="f", limit=1_000_000)


def test_a_text_may_have_many_dots() -> None:
    said = "and so on" + "." * 100 + " 1.2.3 " * 50
    assert parse(f'a = "{said}"'.encode(), what="f", limit=10_000) == {"a": said}
    # Nor does it take long to find that there is no such key.
    for hostile in ('"\\' * 50_000, "'" * 100_000, "a" * 100_000, "a . " * 20 + "\n"):
        with pytest.raises(FormatError, match="is not TOML"):
            parse(hostile.encode(), what="f", limit=1_000_000)
