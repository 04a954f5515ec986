"""Reading one JSON object field by field: strict types, nothing left over.

Signed documents of this package refuse fields they don't know: a field that a newer
author wrote to restrict something must not be skipped by an older device. Knows types
only; what values mean is said by the classes that are made from them.

Example:
    >>> fields = Fields({"name": "web", "size": 2}, what="component")
    >>> fields.text("name"), fields.integer("size")
    ('web', 2)
    >>> fields.done()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from margo_supplychain.errors import FormatError, MetadataFormatError
from margo_supplychain.formats.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

T = TypeVar("T")


class Fields:
    """One JSON object of a document; each getter is an error if the type is another.

    Args:
        value: unverified parsed JSON.
        what: names the object in errors, such as `release record.components[3]`.

    Raises:
        MetadataFormatError: if `value` is not an object.
    """

    __slots__ = ("_read", "value", "what")

    def __init__(self, value: object, *, what: str) -> None:
        if not isinstance(value, dict):
            raise MetadataFormatError(f"{what} is {_kind(value)}, not an object")
        self.value: dict[str, Any] = value
        self._read: set[str] = set()
        self.what = what

    def _get(self, name: str, kind: type[T], expected: str) -> T:
        self._read.add(name)
        if name not in self.value:
            raise MetadataFormatError(f"{self.what} has no field {name!r}")
        value = self.value[name]
        # `type` and not `isinstance`: true is no integer.
        if type(value) is not kind:
            raise MetadataFormatError(
                f"{self.what}.{name} is {_kind(value)}, not {expected}"
            )
        return value

    def has(self, name: str) -> bool:
        """Say whether an optional field is there (null is there, and an error)."""
        self._read.add(name)
        return name in self.value

    def text(self, name: str) -> str:
        """Return a string."""
        return self._get(name, str, "a string")

    def integer(self, name: str) -> int:
        """Return an integer."""
        return self._get(name, int, "an integer")

    def parsed(self, name: str, parse: Callable[[str], T]) -> T:
        """Return a string through `parse`, whose errors get the field's place."""
        text = self.text(name)
        try:
            return parse(text)
        except FormatError as why:
            raise MetadataFormatError(f"{self.what}.{name}: {why}") from why

    def optional(self, name: str, parse: Callable[[str], T]) -> T | None:
        """Return a string through `parse`, or None if the field is absent."""
        return self.parsed(name, parse) if self.has(name) else None

    def time(self, name: str) -> datetime:
        """Return a time such as `2026-11-21T10:00:00Z`."""
        return parse_time(self.text(name), what=f"{self.what}.{name}")

    def optional_time(self, name: str) -> datetime | None:
        """Return a time, or None if the field is absent."""
        return self.time(name) if self.has(name) else None

    def items(self, name: str, *, limit: int) -> list[Any]:
        """Return a list of at most `limit` values of any type."""
        found: list[Any] = self._get(name, list, "a list")
        if len(found) > limit:
            raise MetadataFormatError(
                f"{self.what}.{name} has {len(found)} entries, more than {limit}"
            )
        return found

    def objects(self, name: str, *, limit: int) -> Iterator[Fields]:
        """Yield the objects of a list of at most `limit`."""
        for number, value in enumerate(self.items(name, limit=limit)):
            yield Fields(value, what=f"{self.what}.{name}[{number}]")

    def object(self, name: str) -> Fields:
        """Return a nested object."""
        return Fields(self._get(name, dict, "an object"), what=f"{self.what}.{name}")

    def list_of(
        self, name: str, parse: Callable[[str], T], *, limit: int
    ) -> tuple[T, ...]:
        """Return a list of at most `limit` strings, each through `parse`."""
        found: list[T] = []
        for number, value in enumerate(self.items(name, limit=limit)):
            place = f"{self.what}.{name}[{number}]"
            if type(value) is not str:
                raise MetadataFormatError(f"{place} is {_kind(value)}, not a string")
            try:
                found.append(parse(value))
            except FormatError as why:
                raise MetadataFormatError(f"{place}: {why}") from why
        return tuple(found)

    def done(self) -> None:
        """Refuse every field that nothing has asked for.

        Raises:
            MetadataFormatError: naming the unknown fields.
        """
        unknown = sorted(self.value.keys() - self._read)
        if unknown:
            names = ", ".join(repr(name[:80]) for name in unknown[:5])
            raise MetadataFormatError(
                f"{self.what} has unknown field{'s'[: len(unknown) > 1]} {names}"
            )


def check_format(fields: Fields, known: int) -> None:
    """Refuse a document of another format than `known`, a newer one by name.

    Raises:
        MetadataFormatError: if the field `format` is not `known`.
    """
    found = fields.integer("format")
    if found > known:
        raise MetadataFormatError(
            f"{fields.what} has format {found}, newer than {known}, which is the "
            "newest that this version reads",
            hint="update margo-supplychain on this machine",
        )
    if found != known:
        raise MetadataFormatError(f"{fields.what} has format {found}, expected {known}")


def line(text: str, *, what: str, limit: int) -> str:
    """Return `text` if it is one printable line of 1 to `limit` characters.

    Raises:
        MetadataFormatError: for an empty, too long or unprintable text, or one with
            white space at an end.
    """
    if not 0 < len(text) <= limit:
        raise MetadataFormatError(
            f"{what} has {len(text)} characters, expected 1 to {limit}"
        )
    if not text.isprintable() or text != text.strip():
        raise MetadataFormatError(
            f"{what} is {text[:80]!r}, not one printable line without outer spaces"
        )
    return text


def reference(text: str, *, what: str, limit: int) -> str:
    """Return `text` if it is printable ASCII without spaces: a URL or reference.

    Raises:
        MetadataFormatError: if it is not.
    """
    line(text, what=what, limit=limit)
    if not text.isascii() or " " in text:
        raise MetadataFormatError(
            f"{what} is {text[:80]!r}, not printable ASCII without spaces"
        )
    return text


def moment(when: datetime, *, what: str) -> datetime:
    """Return `when` if a document can hold it: aware and whole seconds.

    Raises:
        MetadataFormatError: if it is not.
    """
    if when.utcoffset() is None or when.microsecond:
        raise MetadataFormatError(
            f"{what} is {when.isoformat()}, expected whole seconds with a time zone"
        )
    return when


def unique(values: Iterable[object], *, what: str) -> None:
    """Refuse a value that is there twice.

    Raises:
        MetadataFormatError: naming it.
    """
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise MetadataFormatError(f"{what} names {value!s:.160} twice")
        seen.add(value)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", int: "an integer"}
    if value is None or isinstance(value, bool):
        return repr(value).lower().replace("none", "null")
    return names.get(type(value), type(value).__name__)
