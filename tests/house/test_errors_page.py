"""Each error class: a slug of its own, an exit status, a paragraph, a tested text."""

from __future__ import annotations

import ast
import inspect
import re

import pytest

from margo_supplychain import errors
from margo_supplychain.errors import SupplyChainError
from tests.house.tree import ROOT

MEMBERS: list[tuple[str, type]] = inspect.getmembers(errors, inspect.isclass)
CLASSES = [one for _, one in MEMBERS if issubclass(one, SupplyChainError)]
LEAVES = [one for one in CLASSES if not one.__subclasses__()]
PAGE = ROOT / "docs" / "reference" / "errors.md"


def paragraphs() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    headings = parts[1::2]
    assert len(headings) == len(set(headings))
    return dict(zip(headings, parts[2::2], strict=True))


def names_in(path: str) -> dict[str, tuple[set[str], bool]]:
    """Return for each file the names it uses, and whether it compares a text."""
    found = {}
    for file in (ROOT / path).rglob("*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        used |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        compares = any(
            isinstance(node, ast.keyword) and node.arg == "match"
            for node in ast.walk(tree)
        )
        found[str(file.relative_to(ROOT))] = (used, compares)
    return found


def test_slugs_are_unique_and_well_formed() -> None:
    slugs = [one.code for one in CLASSES]
    assert len(slugs) == len(set(slugs))
    for one in CLASSES:
        assert "code" in vars(one), one
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", one.code), one


@pytest.mark.parametrize("one", CLASSES)
def test_exit_status_follows_from_the_branch(one: type[SupplyChainError]) -> None:
    branches: dict[type, int] = {
        errors.VerificationError: 3,
        errors.InconclusiveError: 4,
        errors.IncompleteError: 5,
        errors.SignerError: 6,
        errors.FormatError: 2,
        errors.RefusedError: 2,
        SupplyChainError: 1,
    }
    wanted = next(code for base, code in branches.items() if issubclass(one, base))
    assert one.exit_status == wanted


@pytest.mark.parametrize("one", CLASSES)
def test_the_page_has_a_paragraph(one: type[SupplyChainError]) -> None:
    opening = f"`{one.__name__}` · exit status {one.exit_status}. "
    paragraph = paragraphs()[one.code].strip()
    assert paragraph.startswith(opening)
    assert len(paragraph) > len(opening) + 40


def test_the_page_has_no_paragraph_of_an_unknown_error() -> None:
    assert set(paragraphs()) == {one.code for one in CLASSES}


@pytest.mark.parametrize("one", CLASSES)
def test_the_drawn_tree_names_it(one: type[SupplyChainError]) -> None:
    assert errors.__doc__ is not None
    assert re.search(rf"\b{one.__name__}\b", errors.__doc__)


def test_every_error_that_is_raised_has_a_test_of_its_text() -> None:
    raised: set[str] = set()
    for name, (used, _) in names_in("margo_supplychain").items():
        if name != "margo_supplychain/errors.py":
            raised |= used
    tested: set[str] = set()
    for name, (used, compares) in names_in("tests").items():
        if compares and not name.startswith("tests/house/"):
            tested |= used
    leaves = {one.__name__ for one in LEAVES}
    assert sorted((leaves & raised) - tested) == []
