"""Following roots: of a place, from a memory, from files on a stick."""

from __future__ import annotations

from functools import cache

import pytest

from margo_supplychain.authoring.root_chain import RootChain, chain_in, follow
from margo_supplychain.errors import (
    FetchError,
    MetadataFormatError,
    RefusedError,
    ThresholdError,
)
from tests.authoring.roots import following, plan, resigned, trusted
from tests.world.sources import Files, MemorySource


@cache
def roots() -> tuple[bytes, ...]:
    """Return three roots, each after the one before."""
    found = [trusted().data]
    for names in (("b", "c", "d"), ("c", "d", "e")):
        proposal = following(plan(*names), "b", "c", "d", after=found[-1])
        found.append(proposal.finalize().data)
    return tuple(found)


def place(*versions: int) -> MemorySource:
    """Return a place that has these of the roots."""
    every = {f"{number}.root.json": data for number, data in enumerate(roots(), 1)}
    return MemorySource(
        Files(
            metadata={f"{one}.root.json": every[f"{one}.root.json"] for one in versions}
        )
    )


def versions(chain: RootChain) -> list[int]:
    return [one.version for one in chain.roots]


def test_files_on_a_stick() -> None:
    chain = follow(roots())
    assert versions(chain) == [1, 2, 3]
    assert chain.trusted.data == roots()[-1]
    assert [one.version for one in chain.signed] == [1, 2, 3]
    assert versions(follow(roots()[1:])) == [2, 3]


def test_files_that_do_not_follow() -> None:
    with pytest.raises(RefusedError, match="root v3 is given after root v1, expected"):
        follow([roots()[0], roots()[2]])
    with pytest.raises(RefusedError, match="root v1 is given after root v2, expected"):
        follow([roots()[1], roots()[0]])
    with pytest.raises(MetadataFormatError):
        follow([roots()[0], b"{}"])
    with pytest.raises(ThresholdError):
        follow([resigned(roots()[0], "a"), roots()[1]])


def test_a_place_from_its_first_root() -> None:
    assert versions(chain_in(place(1, 2, 3), first=roots()[0], known=None)) == [1, 2, 3]
    # What is believed need not lie there.
    assert versions(chain_in(place(2), first=roots()[0], known=None)) == [1, 2]


def test_a_place_from_a_memory() -> None:
    known = roots()[1]
    assert versions(chain_in(place(1, 2, 3), first=None, known=known)) == [2, 3]
    both = chain_in(place(1, 2, 3), first=roots()[0], known=known)
    assert versions(both) == [1, 2, 3]


def test_a_memory_is_believed_where_what_led_to_it_is_gone() -> None:
    chain = chain_in(place(1, 3), first=roots()[0], known=roots()[1])
    assert versions(chain) == [2, 3]


def test_a_planted_root_is_not_followed() -> None:
    source = place(1, 2)
    source.files.metadata["3.root.json"] = resigned(roots()[2], "d")
    assert versions(chain_in(source, first=roots()[0], known=None)) == [1, 2]


def test_a_place_that_does_not_answer() -> None:
    source = place(1, 2, 3)
    source.down = True
    with pytest.raises(FetchError, match="the wire is cut"):
        chain_in(source, first=roots()[0], known=None)


def test_nothing_is_believed_by_itself() -> None:
    with pytest.raises(ValueError, match="a root that somebody believes"):
        chain_in(place(1), first=None, known=None)
