"""What is wrong with an application description: every finding, with its place.

Knows how to look at YAML nodes and how a finding reads, nothing of Margo's rules.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Final

from margo_supplychain.formats.yaml_positions import Node, quoted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

MAX_FINDINGS: Final = 100
_CLOSE: Final = 0.75  # of 1.0: `nome` is close to `name`, `id` not to `kind`
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,80}", re.ASCII)
_EXTENSION: Final = re.compile(r"x-[a-z][a-z0-9-]*-extensions", re.ASCII)
_PLACEHOLDER: Final = re.compile(r"\{\{.*?\}\}", re.DOTALL)


def join(path: str, key: str) -> str:
    """Return the path of a member, such as `metadata.catalog`."""
    shown = key if _PLAIN_KEY.fullmatch(key) else quoted(key)
    return f"{path}.{shown}" if path else shown


class Findings:
    """Collects errors and warnings; each reads `margo.yaml:14:7: path is …`."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._errors: list[tuple[int, int, str]] = []
        self._warnings: list[tuple[int, int, str]] = []
        self._unread: set[str] = set()

    @property
    def errors(self) -> tuple[str, ...]:
        """What the Margo specification forbids, in the order of the file."""
        return tuple(text for _, _, text in sorted(self._errors))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is only advised, in the order of the file."""
        return tuple(text for _, _, text in sorted(self._warnings))

    @property
    def unread(self) -> tuple[str, ...]:
        """Ids of profiles of which a part was lost; empty for one without an id."""
        return tuple(sorted(self._unread))

    def lose(self, profile: str) -> None:
        """Take note that a part of a profile can't be represented."""
        self._unread.add(profile)

    def error(self, node: Node, text: str) -> None:
        """Add an error; above 100, more change nothing for a reader."""
        self._add(self._errors, node, text)

    def warning(self, node: Node, text: str) -> None:
        """Add a warning."""
        self._add(self._warnings, node, text)

    def _add(self, to: list[tuple[int, int, str]], node: Node, text: str) -> None:
        if len(to) < MAX_FINDINGS:
            where = f"{self._what}:{node.line}:{node.column}"
            to.append((node.line, node.column, f"{where}: {text}"))

    def member(
        self, parent: Node, key: str, path: str, expected: str, *, required: bool
    ) -> Node | None:
        """Return a member that is there; an empty one counts as missing."""
        node = parent.members.get(key)
        if node is not None and node.kind != "empty":
            return node
        if required:
            state = "missing" if node is None else "empty"
            text = f"{join(path, key)} is {state}, expected {expected}"
            near = difflib.get_close_matches(key, parent.keys, 1, _CLOSE)
            for other in near if node is None else ():
                text += f"; line {parent.keys[other].line} has {quoted(other)}"
            self.error(node or parent, text)
        return None

    def text(
        self,
        parent: Node,
        key: str,
        path: str,
        *,
        expected: str = "text",
        pattern: re.Pattern[str] | None = None,
        required: bool = True,
    ) -> str | None:
        """Return a member's text; an error if it is blank or does not fit.

        Text that does not fit is returned all the same, for `inspect_description`.
        """
        node = self.member(parent, key, path, expected, required=required)
        if node is None:
            return None
        found = node.text if node.kind == "text" and node.text.strip() else None
        if found is None or (pattern is not None and not pattern.fullmatch(found)):
            self.wrong(node, join(path, key), expected)
        return found

    def wrong(self, node: Node, path: str, expected: str) -> None:
        """Add the usual error: what was found, what was expected."""
        self.error(node, f"{path} is {node.shown}, expected {expected}")

    def mapping(
        self, parent: Node, key: str, path: str, *, required: bool = True
    ) -> Node | None:
        """Return a member that is a mapping."""
        node = self.member(parent, key, path, "a mapping", required=required)
        return node if node is None or self.is_mapping(node, join(path, key)) else None

    def is_mapping(self, node: Node, path: str) -> bool:
        """Tell whether a node is a mapping; add an error if not."""
        if node.kind != "mapping":
            self.wrong(node, path, "a mapping")
        return node.kind == "mapping"

    def items(
        self, parent: Node, key: str, path: str, *, required: bool = True
    ) -> Iterator[tuple[Node, str]]:
        """Yield the items of a list member with their paths; empty is an error."""
        expected = "a list with at least one item"
        node = self.member(parent, key, path, expected, required=required)
        if node is None:
            return
        if node.kind != "list" or not node.items:
            found = "an empty list" if node.kind == "list" else node.shown
            self.error(node, f"{join(path, key)} is {found}, expected {expected}")
        for number, item in enumerate(node.items):
            yield item, f"{join(path, key)}[{number}]"

    def known(self, node: Node, path: str, keys: Collection[str]) -> None:
        """Warn of keys that nobody reads; they are often misspelt."""
        for key, place in node.keys.items():
            if key in keys or _EXTENSION.fullmatch(key) is not None:
                continue
            near = difflib.get_close_matches(key, keys, 1, _CLOSE)
            meant = f"; did you mean {near[0]}?" if near else ""
            self.warning(place, f"{join(path, key)} is not in the specification{meant}")

    def placeholders(self, root: Node, free: Collection[str]) -> None:
        """Find unfilled `{{…}}`; below the keys in `free` they are only advised."""
        seen: set[int] = set()
        waiting: list[tuple[Node, str, bool]] = [(root, "", False)]
        while waiting:
            node, path, is_free = waiting.pop()
            if id(node) in seen:  # an alias: reported once
                continue
            seen.add(id(node))
            found = _PLACEHOLDER.search(node.text)
            if found is not None:
                add = self.warning if is_free else self.error
                add(node, f"{path} holds {quoted(found[0])}, an unfilled placeholder")
            for key, inner in node.members.items():
                waiting.append((inner, join(path, key), is_free or key in free))
            for number, inner in enumerate(node.items):
                waiting.append((inner, f"{path}[{number}]", is_free))
