"""docs/reference/errors.md lists every reason of a refused provenance, and no other."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final

from tests.docs.pages import DOCS
from tests.house.tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = DOCS / "reference" / "errors.md"
# What takes a reason: as a keyword, or first of all.
MAKERS: Final = ("ProvenanceError", "AttestationError", "Finding", "problem")


def listed() -> set[str]:
    """Return the reasons in the tables of the two errors."""
    text = PAGE.read_text("utf-8")
    found: list[str] = []
    for slug in ("provenance", "attestation"):
        section = text.partition(f"\n## {slug}\n")[2].partition("\n## ")[0]
        found += re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)
    return set(found)


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)


def given() -> set[str]:
    """Return the reasons that the code gives."""
    found: set[str] = set()
    for package in ("provenance", "verify", "authoring"):
        for file in (ROOT / "margo_supplychain" / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name not in MAKERS:
                    continue
                keywords = [one.value for one in node.keywords if one.arg == "reason"]
                first = node.args[:1] if name in ("Finding", "problem") else []
                for one in (*keywords, *first):
                    found |= set(_texts(one))
    return found


def test_every_reason_is_listed_and_given() -> None:
    assert len(given()) > 25
    assert sorted(given() - listed()) == []
    # A reason that reaches an error through a variable stands in the code, too.
    code = "".join(
        file.read_text("utf-8")
        for package in ("provenance", "verify")
        for file in (ROOT / "margo_supplychain" / package).rglob("*.py")
    )
    assert [one for one in sorted(listed()) if f'"{one}"' not in code] == []


def test_each_reason_is_explained_in_one_place_of_an_error() -> None:
    text = PAGE.read_text("utf-8")
    for slug in ("provenance", "attestation"):
        section = text.partition(f"\n## {slug}\n")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)
        assert len(rows) == len(set(rows))
