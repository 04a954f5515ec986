"""A layout as a file that people review: TOML or YAML, in in-toto's own words.

    readme = "How pump-monitor is made."
    expires = "730d"                        # or 2031-01-01
    supported-until = "2030-12-31"          # of what is released by it; may be left out

    [functionaries]
    builder = "keys/builder.pub"            # a file beside this one, or the key itself
    packer = "keys/packer.pub"

    [[steps]]
    name = "build"
    by = ["builder"]
    materials = ["REQUIRE git/commit", "DISALLOW git/dirty", "ALLOW *"]
    products = ["CREATE *", "DISALLOW *"]

    [[steps]]
    name = "package"
    by = ["packer"]
    materials = ["MATCH * WITH PRODUCTS FROM build", "DISALLOW *"]
    products = ["REQUIRE release/manifest", "ALLOW release/*", "DISALLOW *"]

A rule is one text whose words are divided by spaces, or a list of its words where one
of them has a space. Every mistake is said with its place: line and column in YAML, the
field in TOML. Fields that nobody knows are refused; nothing is taken for granted that
decides who may do what.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from margo_supplychain.errors import FormatError, MetadataFormatError
from margo_supplychain.formats import toml
from margo_supplychain.formats.times import format_time, parse_span, parse_time
from margo_supplychain.formats.yaml_positions import Node, parse_yaml, quoted
from margo_supplychain.provenance.in_toto_models import PlannedStep
from margo_supplychain.provenance.layouts import (
    MAX_COMMAND,
    MAX_KEYS,
    MAX_RULES,
    MAX_STEPS,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from securesystemslib.signer import Key

Form = Literal["toml", "yaml"]

LIMIT: Final = 256 * 1024  # bytes
MAX_DEPTH: Final = 8
_FIELDS: Final = ("readme", "expires", "supported-until", "functionaries", "steps")
_STEP_FIELDS: Final = ("name", "by", "threshold", "materials", "products", "command")
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutPlan:
    """What a layout shall say.

    Args:
        readme: for people.
        expires: when it ends.
        supported_until: until when releases made by it are supported, if that is known.
        functionaries: name → public key.
        steps: in the order of the file; they name keys by their ids.
    """

    readme: str
    expires: datetime
    supported_until: datetime | None
    functionaries: Mapping[str, Key]
    steps: tuple[PlannedStep, ...]


def parse_plan(
    data: bytes,
    keys: Callable[[str], Key],
    *,
    what: str,
    form: Form,
    now: datetime,
) -> LayoutPlan:
    """Parse a reviewed file.

    Args:
        data: the file.
        keys: returns the key that a text of the file names or holds.
        what: names the file in errors.
        form: its language.
        now: what periods are counted from.

    Raises:
        FormatError: too large, neither TOML nor YAML, an unknown field, a wrong type or
            value, a step by nobody; it says where.
    """
    if form == "yaml":
        root = parse_yaml(data, what=what, limit=LIMIT, error=MetadataFormatError)
    else:
        parsed = toml.parse(data, what=what, limit=LIMIT, error=MetadataFormatError)
        root = _node(parsed, what)
    return _Reader(keys, what, now).read(_Field(root, what, ""))


def parse_moment(text: str, *, what: str, now: datetime | None = None) -> datetime:
    """Parse `2031-01-01`, `2031-01-01T00:00:00Z` or, with `now`, a period like `730d`.

    Raises:
        FormatError: none of them.
    """
    if _DATE.fullmatch(text) is not None:
        return parse_time(f"{text}T00:00:00Z", what=what)
    if "T" in text:
        return parse_time(text, what=what)
    if now is None:
        raise MetadataFormatError(
            f"{what} is {text!r:.60}, expected a date: 2031-01-01"
        )
    try:
        return now.replace(microsecond=0) + parse_span(text, what=what)
    except FormatError as why:
        raise MetadataFormatError(
            f"{what} is {text!r:.60}, expected a date (2031-01-01) or a period (730d)"
        ) from why


class _Field:
    """A value with its place: in YAML a line, in TOML the field's name."""

    def __init__(self, node: Node, what: str, path: str) -> None:
        self.node = node
        self._what = what
        self._path = path

    @property
    def place(self) -> str:
        if self.node.line:
            return f"{self._what}:{self.node.line}:{self.node.column}"
        return self._what

    def fail(self, problem: str) -> NoReturn:
        """Refuse the value.

        Raises:
            MetadataFormatError: always.
        """
        said = f"{self._path} {problem}" if self._path else problem
        raise MetadataFormatError(f"{self.place}: {said}", where=self.place)

    def expect(self, kind: str, wanted: str) -> Node:
        if self.node.kind != kind:
            self.fail(f"is {self.node.shown}, expected {wanted}")
        return self.node

    def text(self, *, limit: int = 65_536) -> str:
        found = self.expect("text", "a text").text
        if not 0 < len(found) <= limit:
            self.fail(f"has {len(found)} characters, expected 1 to {limit}")
        return found

    def members(self, known: tuple[str, ...] | None = None) -> dict[str, _Field]:
        node = self.expect("mapping", "fields")
        found = {}
        for name, value in node.members.items():
            path = f"{self._path}.{name}" if self._path else name
            key = node.keys.get(name)
            if known is not None and name not in known:
                at = _Field(key or value, self._what, "")
                at.fail(
                    f"{quoted(path)[1:-1]} is no field of a layout, expected one of "
                    f"{', '.join(known)}"
                )
            found[name] = _Field(value, self._what, path)
        return found

    def items(self, *, limit: int) -> Iterator[_Field]:
        node = self.expect("list", "a list")
        if len(node.items) > limit:
            self.fail(f"has {len(node.items)} entries, more than {limit}")
        for number, value in enumerate(node.items):
            yield _Field(value, self._what, f"{self._path}[{number}]")


class _Reader:
    def __init__(self, keys: Callable[[str], Key], what: str, now: datetime) -> None:
        self._keys = keys
        self._what = what
        self._now = now

    def read(self, root: _Field) -> LayoutPlan:
        fields = root.members(_FIELDS)
        for name in ("expires", "functionaries", "steps"):
            if name not in fields:
                root.fail(f"there is no field {name!r}")
        expires = self._moment(fields["expires"], now=self._now)
        if expires <= self._now:
            fields["expires"].fail(f"is {format_time(expires)}, which is past")
        until = fields.get("supported-until")
        functionaries = self._functionaries(fields["functionaries"])
        steps = self._steps(fields["steps"], functionaries)
        used = {keyid for step in steps for keyid in step.keyids}
        for name, key in functionaries.items():
            if key.keyid not in used:
                fields["functionaries"].fail(f"has {name!r}, who does no step")
        readme = fields.get("readme")
        return LayoutPlan(
            readme="" if readme is None else readme.text().strip(),
            expires=expires,
            supported_until=None if until is None else self._moment(until, now=None),
            functionaries=functionaries,
            steps=steps,
        )

    @staticmethod
    def _moment(field: _Field, *, now: datetime | None) -> datetime:
        try:
            return parse_moment(field.text(), what="it", now=now)
        except FormatError as why:
            if why.where is not None:
                raise
            field.fail(str(why).removeprefix("it "))

    def _functionaries(self, field: _Field) -> dict[str, Key]:
        found: dict[str, Key] = {}
        members = field.members()
        if not 0 < len(members) <= MAX_KEYS:
            field.fail(f"names {len(members)} functionaries, expected 1 to {MAX_KEYS}")
        for name, value in members.items():
            if _NAME.fullmatch(name) is None:
                value.fail("is no name of a functionary: 1 to 64 of A-Za-z0-9._-")
            try:
                key = self._keys(value.text())
            except FormatError as why:
                raise MetadataFormatError(
                    f"{value.place}: functionaries.{name}: {why}",
                    where=value.place,
                    hint=why.hint,
                ) from why
            for other, known in found.items():
                if known.keyid == key.keyid:
                    value.fail(f"is the same key as {other!r}: it counts once")
            found[name] = key
        return found

    def _steps(
        self, field: _Field, functionaries: Mapping[str, Key]
    ) -> tuple[PlannedStep, ...]:
        steps = []
        for one in field.items(limit=MAX_STEPS):
            fields = one.members(_STEP_FIELDS)
            for name in ("name", "by", "materials", "products"):
                if name not in fields:
                    one.fail(f"has no field {name!r}")
            by = self._by(fields["by"], functionaries)
            steps.append(
                PlannedStep(
                    name=fields["name"].text(limit=128),
                    keyids=by,
                    threshold=_threshold(one, fields.get("threshold"), len(by)),
                    materials=_rules(fields["materials"]),
                    products=_rules(fields["products"]),
                    command=_words(fields.get("command")),
                )
            )
        if not steps:
            field.fail("is empty: a layout without steps proves nothing")
        return tuple(steps)

    @staticmethod
    def _by(field: _Field, functionaries: Mapping[str, Key]) -> tuple[str, ...]:
        found: list[str] = []
        for one in field.items(limit=MAX_KEYS):
            name = one.text()
            if name not in functionaries:
                one.fail(
                    f"is {quoted(name)}, expected one of the functionaries "
                    f"{', '.join(functionaries)}"
                )
            if functionaries[name].keyid in found:
                one.fail(f"is {quoted(name)} a second time")
            found.append(functionaries[name].keyid)
        if not found:
            field.fail("is empty: who does this step?")
        return tuple(found)


def _threshold(step: _Field, field: _Field | None, keys: int) -> int:
    if field is None:
        if keys > 1:
            step.fail(
                f"has no field 'threshold': {keys} functionaries are named, and 1 to "
                f"{keys} of them may have to agree"
            )
        return 1
    text = field.expect("number", "a number").text
    if _NUMBER.fullmatch(text) is None or int(text) > keys:
        field.fail(f"is {text[:40]}, expected 1 to {keys}: as many are named")
    return int(text)


def _rules(field: _Field) -> tuple[list[str], ...]:
    """Return rules as lists of words, each one that the rule engine reads."""
    from margo_supplychain.provenance.rules import ArtifactRule

    found = []
    for one in field.items(limit=MAX_RULES):
        is_list = one.node.kind == "list"
        words = [*_words(one)] if is_list else one.text().split()
        try:
            found.append(ArtifactRule.parse(words).to_list())
        except FormatError as why:
            one.fail(f"is {quoted(' '.join(words))}: {why}")
    return tuple(found)


def _words(field: _Field | None) -> tuple[str, ...]:
    if field is None:
        return ()
    return tuple(one.text() for one in field.items(limit=MAX_COMMAND))


def _node(value: Any, what: str, depth: int = 0) -> Node:
    """Return what TOML says in the form that YAML is read in, without places."""
    if depth > MAX_DEPTH:
        raise MetadataFormatError(f"{what} is nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        members = {name: _node(one, what, depth + 1) for name, one in value.items()}
        return Node(kind="mapping", line=0, column=0, members=members)
    if isinstance(value, list):
        items = [_node(one, what, depth + 1) for one in value]
        return Node(kind="list", line=0, column=0, items=items)
    if isinstance(value, bool):
        return Node(kind="boolean", line=0, column=0, text=str(value).lower())
    if isinstance(value, int | float):
        return Node(kind="number", line=0, column=0, text=str(value))
    if isinstance(value, datetime):
        if value.utcoffset() is not None:
            try:
                value = value.astimezone(UTC)
            except OverflowError as why:  # of the years 1 and 9999
                raise MetadataFormatError(
                    f"{what} has the time {value.isoformat()}, which no clock shows"
                ) from why
        text = f"{value.replace(tzinfo=None).isoformat()}Z"
        return Node(kind="text", line=0, column=0, text=text)
    if isinstance(value, date):
        return Node(kind="text", line=0, column=0, text=value.isoformat())
    return Node(kind="text", line=0, column=0, text=str(value))
