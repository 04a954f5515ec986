"""The documentation as files: its pages, their links and the blocks that are executed.

A comment that a reader never sees tells the tests what the page takes for granted:

    <!-- test: package pump-monitor -->     copies a package of tests/fixtures
    <!-- test: artifact DIRECTORY -->       makes an OCI layout with a Wasm module
    <!-- test: registry NAME [WORDS] -->    runs a registry that the page calls NAME:
                                            `basic` asks for a login, `tls` and `mutual`
                                            leave certificates in the directory
    <!-- test: token NAME … -->             makes SoftHSM tokens, with PINs in NAME.pin
    <!-- test: run COMMAND -->              runs a command (also several, one a line)
    <!-- test: write FILE -->               the next block is this file
    <!-- test: append FILE -->              the next block goes to its end
    <!-- test: skip REASON -->              the next block is not executed

Blocks are fenced by three backticks. ```console holds commands behind `$ ` and what
they print, ```python holds a program; others do nothing unless a comment says so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.house.tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path

DOCS: Final = ROOT / "docs"
README: Final = ROOT / "README.md"
VERBS: Final = (
    *("package", "artifact", "registry", "token"),
    *("run", "write", "append", "skip"),
)
_COMMENT: Final = re.compile(r"<!-- test: ([a-z]+) ?(.*?)-->", re.DOTALL)
_FENCE: Final = re.compile(r"```([a-z]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_EITHER: Final = re.compile(
    rf"{_COMMENT.pattern}|^{_FENCE.pattern}", re.DOTALL | re.MULTILINE
)
_LINK: Final = re.compile(r"(?<!!)\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)")


class Item(NamedTuple):
    """A comment for the tests (`kind` is its verb) or a block (`kind` is `block`)."""

    kind: str
    language: str
    text: str
    line: int


def pages() -> list[Path]:
    """Return every page of the documentation."""
    top = [ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING")]
    top += [ROOT / "SECURITY.md", ROOT / "keys" / "README.md"]
    return [*top, *sorted(DOCS.rglob("*.md"))]


def name_of(page: Path) -> str:
    """Return a page's path from the top of the tree."""
    return page.relative_to(ROOT).as_posix()


def items(page: Path) -> list[Item]:
    """Return the comments for tests and the blocks of a page, in order.

    Raises:
        ValueError: a comment with an unknown verb.
    """
    text = page.read_text("utf-8")
    found = []
    for hit in _EITHER.finditer(text):
        line = text.count("\n", 0, hit.start()) + 1
        verb, argument, language, block = hit.groups()
        if verb is None:
            found.append(Item("block", language, block, line))
        elif verb in VERBS:
            found.append(Item(verb, "", argument.strip(), line))
        else:
            raise ValueError(f"{name_of(page)}:{line}: unknown verb {verb!r}")
    return found


def links(page: Path) -> list[str]:
    """Return the targets of a page's links, blocks left out."""
    text = _FENCE.sub("", page.read_text("utf-8"))
    return _LINK.findall(re.sub(r"`[^`\n]*`", "", text))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    text = _FENCE.sub("", page.read_text("utf-8"))
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        found.add(kept.replace(" ", "-"))
    return found
