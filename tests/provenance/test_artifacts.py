"""Names and digests: the quick look at all and the slow one at each say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import ProvenanceError
from margo_supplychain.provenance import artifacts
from margo_supplychain.provenance.artifacts import (
    Hashes,
    check_look_alikes,
    check_names,
    same,
)

A, B, C = "aa" * 32, "bb" * 64, "cc" * 48


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (A, A, True),
        (A, "ab" * 32, False),
        (A, (f"sha256:{A}", f"sha512:{B}"), True),  # pitfall 14
        (A, (f"sha512:{B}",), False),
        ((f"sha384:{C}",), (f"sha512:{B}",), False),
        ((f"sha384:{C}", f"sha512:{B}"), (f"sha256:{A}", f"sha512:{B}"), True),
        ((f"sha256:{A}", f"sha512:{B}"), (f"sha256:{A}", "sha512:" + "00" * 64), False),
        ((f"sha256:{A}", f"sha512:{B}"), (f"sha256:{A}", f"sha512:{B}"), True),
    ],
)
def test_same(one: Hashes, other: Hashes, expected: bool) -> None:
    assert same(one, other) is expected
    assert same(other, one) is expected


NAMES = st.text("a./\\\n\t\u00e9e\u0301\u200b\ufe0f\u212a", max_size=6)


@given(st.lists(NAMES, max_size=4))
def test_quick_and_slow_look_agree(names: list[str]) -> None:
    wrong = [name for name in names if artifacts._wrong(name) is not None]
    if wrong:
        with pytest.raises(ProvenanceError) as caught:
            check_names(names, what="products")
        assert caught.value.artifact == wrong[0]
    else:
        check_names(names, what="products")


@given(st.lists(st.text("aA\u00e9\u00c9\uff41\ufb01fiI\u0131\u0130", max_size=3)))
def test_look_alikes(names: list[str]) -> None:
    folded = [artifacts._folded(name) for name in names]
    alike = any(
        folded[i] == folded[j]
        and names[i] != names[j]
        and not (names[i].isascii() and names[j].isascii())
        for i in range(len(names))
        for j in range(i)
    )
    if alike:
        with pytest.raises(ProvenanceError, match="which looks like"):
            check_look_alikes(names, what="it")
    else:
        check_look_alikes(names, what="it")


def test_names_do_not_grow_when_they_are_compared() -> None:
    """One letter may stand for 18; links of such names would take 20 times theirs."""
    for fine in ("\ufdfa.txt", "\ufdfa" * 2, "\u2026" * 255, "\ufb01" * 255):
        check_look_alikes([fine, "plain"], what="it")
    with pytest.raises(ProvenanceError, match="has 54 characters in plain") as caught:
        check_look_alikes(["plain", "\ufdfa" * 3], what="it")
    assert caught.value.reason == "artifact-name"
    assert caught.value.artifact == "\ufdfa" * 3


def test_what_a_look_alike_looks_like_is_said() -> None:
    with pytest.raises(ProvenanceError, match=r"'\\uff41', which looks like 'A'"):
        check_look_alikes(["A", "b", "\uff41"], what="it")
    with pytest.raises(ProvenanceError, match=r"'\\xe9', which looks like '\\xc9'"):
        check_look_alikes(["\xc9", "b", "\xe9"], what="it")
