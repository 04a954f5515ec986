"""YAML from outside: bounded, with a line and column for everything.

Built from PyYAML's events, never its constructors: no tag makes an object, duplicate
keys are refused, and a plain scalar's type is YAML 1.2's (`1.0` is a number, `yes` and
`2026-11-21` are text) while its text stays as written. Aliases share the anchored node
and are counted as if they were copies, so an "anchor bomb" is refused before anyone
walks it; merge keys (`<<`), which Compose files live on, are resolved.

Example:
    >>> node = parse_yaml(b"version: 1.0", what="margo.yaml")
    >>> version = node.members["version"]
    >>> version.kind, version.text, version.line, version.column
    ('number', '1.0', 1, 10)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from margo_supplychain.errors import ApplicationFormatError, FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SIZE: Final = 1 << 20
MAX_DEPTH: Final = 32
MAX_NODES: Final = 50_000  # after aliases are expanded
Kind = Literal["mapping", "list", "text", "number", "boolean", "empty"]

# YAML 1.2.2, 10.3.2 (core schema).
_EMPTY: Final = re.compile(r"~|null|Null|NULL|", re.ASCII)
_BOOLEAN: Final = re.compile(r"true|True|TRUE|false|False|FALSE", re.ASCII)
_NUMBER: Final = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|0o[0-7]+|0x[0-9a-fA-F]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    re.ASCII,
)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_CORE: Final = "tag:yaml.org,2002:"
_MERGE: Final = "<<"


@dataclass(slots=True, kw_only=True, eq=False)
class Node:
    """One value with its place; `text` of a scalar is exactly as written.

    Args:
        kind: what it is in YAML 1.2.
        line: first line is 1.
        column: first column is 1.
        text: a scalar's text, without quotes.
        members: a mapping's values by key, in order.
        keys: a mapping's keys as nodes, for their places.
        items: a list's values.
        weight: how many nodes it stands for, aliases expanded.
        height: how many levels it stands for.
    """

    kind: Kind
    line: int
    column: int
    text: str = ""
    members: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, Node] = field(default_factory=dict)
    items: list[Node] = field(default_factory=list)
    weight: int = 1
    height: int = 1

    @property
    def shown(self) -> str:
        """What it is, for messages: quoted text, a number, `a list` and so on."""
        if self.kind in ("mapping", "list"):
            return f"a {self.kind}"
        if self.kind == "empty":
            return "empty"
        return quoted(self.text) if self.kind == "text" else self.text[:80]


def quoted(text: str) -> str:
    """Return text in double quotes, cut to 80, with nothing a terminal would obey."""
    cut = text[:80].replace("\\", "\\\\").replace('"', '\\"')
    if not cut.isprintable():
        cut = cut.encode("unicode_escape").decode("ascii").replace("\\\\", "\\")
    return f'"{cut}"' + ("…" if len(text) > 80 else "")


def parse_yaml(
    data: bytes,
    *,
    what: str,
    limit: int = MAX_SIZE,
    error: type[FormatError] = ApplicationFormatError,
) -> Node:
    """Parse unverified bytes as one YAML document.

    Raises:
        FormatError: above `limit`, not UTF-8, not YAML, empty, several documents,
            a duplicate or structured key, a tag of its own, too deep or too much.
    """
    import yaml

    if len(data) > limit:
        raise error(f"{what} has {len(data)} bytes, more than the limit of {limit}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as why:
        raise error(f"{what} is not UTF-8 at byte {why.start}") from why
    try:
        return _Builder(what, error).build(yaml.parse(text, yaml.SafeLoader))
    except yaml.reader.ReaderError as why:
        line = text.count("\n", 0, why.position) + 1
        column = why.position - text.rfind("\n", 0, why.position)
        where = f"{what}:{line}:{column}"
        code = ord(text[why.position])
        raise error(
            f"{where}: character U+{code:04X} is not allowed", where=where
        ) from why
    except yaml.MarkedYAMLError as why:
        mark = why.problem_mark or why.context_mark
        where = f"{what}:{mark.line + 1}:{mark.column + 1}" if mark else what
        raise error(f"{where}: not YAML: {_reason(why)}", where=where) from why
    except (ValueError, OverflowError) as why:
        # PyYAML leaves escapes beyond Unicode and huge %YAML numbers to int and chr.
        raise error(f"{what}: not YAML: a number is out of range") from why


def _reason(why: Any) -> str:
    said = str(why.problem or why.context or "unreadable")
    if "<block end>" in said:
        said = "the indentation of this line fits nothing above it"
    if why.problem and why.context and why.context_mark:
        said += f" ({why.context} that begins in line {why.context_mark.line + 1})"
    return said


class _Builder:
    """Makes nodes of events, on a stack of its own: recursion can't run out."""

    def __init__(self, what: str, error: type[FormatError]) -> None:
        self._what = what
        self._error = error
        self._anchors: dict[str, Node] = {}
        self._open: list[tuple[Node, str | None]] = []  # with the anchor it will get
        self._pending: list[Node | None] = []  # per open mapping, the key seen last
        self._total = 0

    def build(self, events: Iterator[Any]) -> Node:
        root: Node | None = None
        for event in events:
            name = type(event).__name__
            if name == "DocumentStartEvent" and root is not None:
                self._fail(event, "a second document, expected one")
            node: Node | None = None
            if name == "AliasEvent":
                node = self._alias(event)
            elif name == "ScalarEvent":
                node = self._scalar(event)
            elif name in ("MappingStartEvent", "SequenceStartEvent"):
                self._start(event, "mapping" if name[0] == "M" else "list")
            elif name in ("MappingEndEvent", "SequenceEndEvent"):
                node = self._end(event)
            if node is not None:
                if not self._open:
                    root = node
                else:
                    self._attach(event, node)
        if root is None:
            raise self._error(f"{self._what} is empty")
        return root

    def _fail(self, event: Any, why: str) -> NoReturn:
        mark = event.start_mark
        where = f"{self._what}:{mark.line + 1}:{mark.column + 1}"
        raise self._error(f"{where}: {why}", where=where)

    def _alias(self, event: Any) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            self._fail(event, f"alias *{event.anchor[:80]} names nothing before it")
        self._count(event, node.weight)
        if len(self._open) + node.height > MAX_DEPTH:
            self._fail(event, f"nested deeper than {MAX_DEPTH}")
        return node

    def _scalar(self, event: Any) -> Node:
        self._check_tag(event, "str")
        self._count(event, 1)
        if not event.value.isascii() and _SURROGATE.search(event.value) is not None:
            self._fail(event, "half of a surrogate pair is not allowed")
        kind: Kind = "text"
        if event.implicit[0] and event.style is None:
            kind = _kind(event.value)
        node = self._node(event, kind)
        node.text = event.value
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _start(self, event: Any, kind: Kind) -> None:
        self._check_tag(event, "map" if kind == "mapping" else "seq")
        self._count(event, 1)
        if len(self._open) >= MAX_DEPTH:
            self._fail(event, f"nested deeper than {MAX_DEPTH}")
        inside = self._open[-1][0].kind if self._open else "list"
        if inside == "mapping" and self._pending[-1] is None:
            self._fail(event, f"a key is a {kind}: an unfilled placeholder?")
        self._open.append((self._node(event, kind), event.anchor))
        self._pending.append(None)

    def _end(self, event: Any) -> Node:
        node, anchor = self._open.pop()
        self._pending.pop()
        if _MERGE in node.members:
            self._merge(event, node)
        inner = [*node.members.values(), *node.items]
        node.weight = 1 + sum(one.weight for one in inner)
        node.height = 1 + max((one.height for one in inner), default=0)
        if anchor is not None:
            # Only now: a node can't hold an alias of itself.
            self._anchors[anchor] = node
        return node

    def _attach(self, event: Any, node: Node) -> None:
        parent = self._open[-1][0]
        if parent.kind == "list":
            parent.items.append(node)
            return
        key = self._pending[-1]
        if key is not None:
            parent.members[key.text] = node
            self._pending[-1] = None
            return
        if node.kind in ("mapping", "list"):
            self._fail(event, f"a key is a {node.kind}")
        if node.text in parent.keys:
            first = parent.keys[node.text].line
            self._fail(event, f"key {quoted(node.text)} stands in line {first} already")
        parent.keys[node.text] = node
        self._pending[-1] = node

    def _merge(self, event: Any, node: Node) -> None:
        value = node.members.pop(_MERGE)
        node.keys.pop(_MERGE)
        for source in value.items if value.kind == "list" else [value]:
            if source.kind != "mapping":
                self._fail(event, f"{_MERGE} merges {source.shown}, expected a mapping")
            for key, inner in source.members.items():
                # What the mapping says itself, and earlier sources, win.
                if key not in node.members:
                    self._count(event, inner.weight)
                    node.members[key] = inner
                    node.keys[key] = source.keys[key]

    def _check_tag(self, event: Any, core: str) -> None:
        if event.tag not in (None, "!", _CORE + core):
            self._fail(event, f"tag {quoted(event.tag)} is not allowed")

    def _count(self, event: Any, weight: int) -> None:
        self._total += weight
        if self._total > MAX_NODES:
            self._fail(event, f"more than {MAX_NODES} values, aliases expanded")

    @staticmethod
    def _node(event: Any, kind: Kind) -> Node:
        mark = event.start_mark
        return Node(kind=kind, line=mark.line + 1, column=mark.column + 1)


def _kind(text: str) -> Kind:
    if _EMPTY.fullmatch(text) is not None:
        return "empty"
    if _BOOLEAN.fullmatch(text) is not None:
        return "boolean"
    return "text" if _NUMBER.fullmatch(text) is None else "number"
