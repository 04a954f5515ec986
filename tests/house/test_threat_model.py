"""The threat model and the attacks name each other, both ways."""

from __future__ import annotations

import ast
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from tests.house.tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "threat-model.md"


class Row(NamedTuple):
    identity: str
    threat: str
    tests: tuple[str, ...]


def rows() -> list[Row]:
    found = []
    for line in PAGE.read_text("utf-8").splitlines():
        if not line.startswith("| T-"):
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        assert len(cells) == len(Row._fields), line
        tests = tuple(re.split(r",\s*", cells[2].replace("`", "")))
        found.append(Row(cells[0], cells[1], tests))
    assert found, "the threat model names no threat"
    return found


def functions_of(path: Path) -> set[str]:
    """Return the tests of a file as pytest names them."""
    tree = ast.parse(path.read_text("utf-8"))
    name = path.relative_to(ROOT).as_posix()
    found = set()
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        for one in inner:
            if isinstance(one, ast.FunctionDef) and one.name.startswith("test_"):
                found.add(f"{name}::{prefix}{one.name}")
    return found


def test_every_row_has_its_own_id_and_says_something() -> None:
    counts = Counter(row.identity for row in rows())
    assert [name for name, count in counts.items() if count > 1] == []
    for row in rows():
        assert re.fullmatch(r"T-[0-9]{2,3}", row.identity), row
        assert row.threat, row


def test_every_named_test_exists() -> None:
    named = {test for row in rows() for test in row.tests}
    for test in sorted(named):
        path = ROOT / test.partition("::")[0]
        assert path.is_file(), test
        assert test in functions_of(path)


def test_every_attack_is_in_the_threat_model() -> None:
    named = {test for row in rows() for test in row.tests}
    attacks = {
        test
        for path in (ROOT / "tests" / "attacks").rglob("test_*.py")
        for test in functions_of(path)
    }
    assert attacks
    assert sorted(attacks - named) == []
