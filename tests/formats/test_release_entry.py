"""What an application role's list says of a release, and its summaries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.release_entry import AttestationPin, ReleaseEntry

ONE, TWO = Digest.of(b"one"), Digest.of(b"two")
ENTRY = ReleaseEntry(
    artifact=ONE,
    profiles=("ab" * 8,),
    summaries=(AttestationPin(TWO, 700), AttestationPin(ONE, 1 << 20)),
)


def test_entry_with_summaries_round_trip() -> None:
    custom = ENTRY.to_custom()
    assert custom == {
        "artifact": str(ONE),
        "profiles": ["ab" * 8],
        "summaries": [
            {"digest": str(TWO), "size": 700},
            {"digest": str(ONE), "size": 1 << 20},
        ],
    }
    assert ReleaseEntry.parse(custom, "a release") == ENTRY


def test_entry_without_summaries_is_as_it_was() -> None:
    """Lists that were signed before keep their bytes."""
    assert "summaries" not in replace(ENTRY, summaries=()).to_custom()


PIN = {"digest": str(TWO), "size": 700}


@pytest.mark.parametrize(
    ("summaries", "message"),
    [
        ({}, "summaries is an object, not a list"),
        ([PIN] * 9, "9 entries, more than 8"),
        ([PIN, PIN], "summaries names sha256:.* twice"),
        (["x"], r"summaries\[0\] is a string"),
        ([PIN | {"type": "x"}], r"summaries\[0\] has unknown field 'type'"),
        ([PIN | {"size": 0}], "has size 0, expected 1 to 1048576"),
        ([PIN | {"size": (1 << 20) + 1}], "has size 1048577"),
        ([PIN | {"size": True}], "size is true, not an integer"),
        ([PIN | {"digest": "md5:0"}], r"summaries\[0\]\.digest: digest"),
    ],
)
def test_entry_refuses_summaries(summaries: Any, message: str) -> None:
    custom = ENTRY.to_custom() | {"summaries": summaries}
    with pytest.raises(MetadataFormatError, match=message):
        ReleaseEntry.parse(custom, "a release")


def test_entry_limits_summaries_however_it_is_made() -> None:
    many = tuple(AttestationPin(Digest.of(bytes([n])), 1) for n in range(9))
    with pytest.raises(MetadataFormatError, match="has 9 summaries, more than 8"):
        replace(ENTRY, summaries=many)
