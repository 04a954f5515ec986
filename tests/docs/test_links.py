"""Links resolve, README.md leads to every page, and words keep to the house."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import DOCS, README, anchors, links, name_of, pages
from tests.house.tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)}: {link}"


def test_every_page_is_reachable_from_the_readme() -> None:
    seen = {README}
    pending = [README]
    while pending:
        page = pending.pop()
        for link in links(page):
            path = link.partition("#")[0]
            target = (page.parent / path).resolve()
            if path and target.suffix == ".md" and target not in seen:
                seen.add(target)
                pending.append(target)
    wanted = {page for page in DOCS.rglob("*.md") if page.parent.name != "adr"}
    assert sorted(name_of(page) for page in wanted - seen) == []


def test_every_how_to_is_linked_by_the_readme_itself() -> None:
    linked = set(links(README))
    wanted = {name_of(page) for page in (DOCS / "how-to").glob("*.md")}
    assert len(wanted) >= 5
    assert wanted - linked == set()


def test_paths_that_the_product_prints_exist() -> None:
    printed = set()
    for path in (ROOT / "margo_supplychain").rglob("*.py"):
        printed |= set(re.findall(r"docs/[\w/-]+\.md", path.read_text("utf-8")))
    assert printed
    assert [one for one in sorted(printed) if not (ROOT / one).is_file()] == []


# Words of brochures; none is needed to say what a thing does.
BROCHURE = re.compile(
    r"\b(seamless|robust|powerful|effortless|cutting-edge|world-class|blazing|"
    r"leverag\w+|easily|simply|enterprise-grade|next-generation)\b",
    re.IGNORECASE,
)
EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_pages_speak_plainly(page: Path) -> None:
    text = page.read_text("utf-8")
    assert BROCHURE.findall(text) == []
    assert EMOJI.findall(text) == []


def test_the_glossary_has_one_row_for_a_word() -> None:
    text = (DOCS / "reference" / "glossary.md").read_text("utf-8")
    words = re.findall(r"^\| (.+?) \|", text, re.MULTILINE)[1:]
    words = [word for word in words if not word.startswith("--")]
    assert len(words) > 40
    assert len(words) == len({word.lower() for word in words})
    assert words == sorted(words, key=str.lower)
