"""Spans such as `14d`; moments are tested with the metadata that holds them."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import FormatError, MetadataFormatError
from margo_supplychain.formats.times import LONGEST_SPAN, format_span, parse_span


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("0d", timedelta()),
        ("30s", timedelta(seconds=30)),
        ("90m", timedelta(minutes=90)),
        ("36h", timedelta(hours=36)),
        ("3650d", LONGEST_SPAN),
        ("315360000s", LONGEST_SPAN),
    ],
)
def test_spans(text: str, span: timedelta) -> None:
    assert parse_span(text, what="x") == span


@pytest.mark.parametrize(
    "text",
    [
        "",
        "d",
        "14",
        "014d",
        "1.5d",
        "-1d",
        "+1d",
        "1w",
        "1D",
        "1d\n",
        " 1d",
        "\u0667d",
        7,
    ],
)
def test_what_is_no_span(text: object) -> None:
    with pytest.raises(FormatError, match=r"x is .*, expected a time such as 14d"):
        parse_span(text, what="x")


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (timedelta(), "0 seconds"),
        (timedelta(days=30), "30 days"),
        (timedelta(hours=36, microseconds=5), "1 day 12 hours"),
        (timedelta(minutes=61, seconds=1), "1 hour 1 minute 1 second"),
    ],
)
def test_spans_are_said(span: timedelta, said: str) -> None:
    assert format_span(span) == said


@pytest.mark.parametrize("text", ["3651d", "315360001s", "999999999d"])
def test_spans_are_bounded(text: str) -> None:
    wanted = f"x is {text}, expected a time up to 3650d"
    with pytest.raises(MetadataFormatError, match=wanted):
        parse_span(text, what="x", error=MetadataFormatError)


@given(st.text() | st.from_regex(r"[0-9]{1,12}[smhd]", fullmatch=True))
def test_nothing_else_is_raised(text: str) -> None:
    with contextlib.suppress(FormatError):
        assert timedelta() <= parse_span(text, what="x") <= LONGEST_SPAN
