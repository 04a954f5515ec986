"""docs/reference/errors.md lists every reason of a refused provenance, and no other."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.docs.pages import DOCS
from tests.house.tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = DOCS / "reference" / "errors.md"
# What takes a reason, as a keyword or first of all, and whose error it becomes.
MAKERS: Final = {
    "ProvenanceError": "provenance",
    "Finding": "provenance",
    "AttestationError": "attestation",
    "problem": "attestation",
}
SLUGS: Final = ("provenance", "attestation")


def rows(slug: str) -> list[str]:
    """Return the reasons in the table of one error."""
    text = PAGE.read_text("utf-8")
    section = text.partition(f"\n## {slug}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)


def given(slug: str) -> set[str]:
    """Return the reasons that the code gives for one error."""
    found: set[str] = set()
    for package in ("provenance", "verify", "authoring"):
        for file in (ROOT / "margo_supplychain" / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if MAKERS.get(name) != slug:
                    continue
                keywords = [one.value for one in node.keywords if one.arg == "reason"]
                first = node.args[:1] if name in ("Finding", "problem") else []
                for one in (*keywords, *first):
                    found |= set(_texts(one))
    return found


@pytest.mark.parametrize("slug", SLUGS)
def test_every_reason_is_listed_and_given(slug: str) -> None:
    assert len(given(slug)) > 10
    assert sorted(given(slug) - set(rows(slug))) == []
    # A reason that reaches an error through a variable stands in the code, too.
    code = "".join(
        file.read_text("utf-8")
        for package in ("provenance", "verify")
        for file in (ROOT / "margo_supplychain" / package).rglob("*.py")
    )
    assert [one for one in rows(slug) if f'"{one}"' not in code] == []


@pytest.mark.parametrize("slug", SLUGS)
def test_each_reason_is_explained_once(slug: str) -> None:
    assert len(rows(slug)) == len(set(rows(slug)))
