"""JSON from outside: bounded, without duplicate keys, and written deterministically.

`json.loads` accepts NaN, duplicate keys (the last wins), numbers of any size and
nesting until the interpreter gives up. Here each of these is a `FormatError`.

Example:
    >>> parse(b'{"a": 1}', what="example", limit=100)
    {'a': 1}
"""

from __future__ import annotations

import json
import math
import re
from functools import partial
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, Final, NoReturn

from margo_supplychain.errors import FormatError, MetadataFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_DEPTH: Final = 64
_FREE_VALUES: Final = 1024
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_REST: Final = bytes(set(range(256)) - set(b',[]{}:"'))
_LONGEST_FRACTION: Final = 64  # characters
MAX_INTEGER: Final = 2**53 - 1  # what every JSON reader can hold exactly (RFC 8259 §6)


def parse(
    data: bytes,
    *,
    what: str,
    limit: int,
    error: type[FormatError] = MetadataFormatError,
    spread: int | None = None,
    fractions: bool = False,
) -> dict[str, Any]:
    """Parse unverified bytes as one JSON object.

    Args:
        data: unverified UTF-8, without byte order mark.
        what: names the document in errors.
        limit: most bytes that are looked at.
        error: the class to raise.
        spread: fewest bytes for each value, beyond the first thousand: what is parsed
            may else need 30 times the memory of its text.
        fractions: take them, too, as in documents of others; nothing of this
            package's own holds one.

    Raises:
        FormatError: above `limit`, not UTF-8, not one object, duplicate keys, NaN,
            fractions unless they are asked for, integers beyond ±(2^53 - 1), deeper
            than 64, half of a surrogate pair; more values than `spread` allows.
    """
    if len(data) > limit:
        raise error(f"{what} has {len(data)} bytes, more than the limit of {limit}")
    skeleton = _skeleton(data)
    if spread is not None:
        most = _FREE_VALUES + len(data) // spread
        if skeleton.count(b",") + skeleton.count(b"[") + skeleton.count(b"{") > most:
            raise error(f"{what} holds more than {most} values in {len(data)} bytes")
    _check_depth(skeleton, what, error)
    value = _load(data, skeleton.count(b":"), what, error, fractions=fractions)
    if not isinstance(value, dict):
        raise error(f"{what} is not a JSON object")
    if b"\\" in data and _SURROGATE.search(data) is not None:
        _check_text(value, what, error)
    return value


def _load(
    data: bytes, members: int, what: str, error: type[FormatError], *, fractions: bool
) -> Any:
    read = _reader(what, error, fractions=fractions)
    try:
        text = data.decode("utf-8")
        # Of two members with one name, one is lost. That counts faster than a hook
        # that is called for each object, and which is asked only to name them.
        value = read(text)
        if members == _count_members(value):
            return value
        del value
        return read(text, object_pairs_hook=partial(_members_once, what, error))
    except UnicodeDecodeError as why:
        raise error(f"{what} is not UTF-8 at byte {why.start}") from why
    except json.JSONDecodeError as why:
        raise error(
            f"{what} is not JSON: {why.msg} at line {why.lineno}, column {why.colno}"
        ) from why


def _reader(
    what: str, error: type[FormatError], *, fractions: bool
) -> Callable[..., Any]:
    """Return `json.loads` with numbers as they are taken here."""

    def refuse(text: str) -> NoReturn:
        raise error(f"{what} holds {text[:40]!r}, which is not a whole number")

    def fraction(text: str) -> float:
        found = float(text) if len(text) <= _LONGEST_FRACTION else math.inf
        if not math.isfinite(found):
            raise error(f"{what} holds the number {text[:40]}, which is too large")
        return found

    def integer(text: str) -> int:
        if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
            raise error(f"{what} holds the number {text[:40]}, beyond 2^53 - 1")
        return int(text)

    return partial(
        json.loads,
        parse_float=fraction if fractions else refuse,
        parse_int=integer,
        parse_constant=refuse,
    )


def _members_once(
    what: str, error: type[FormatError], items: list[tuple[str, Any]]
) -> dict[str, Any]:
    found = dict(items)
    if len(found) != len(items):
        seen: set[str] = set()
        for key, _ in items:
            if key in seen:
                raise error(f"{what} names {key[:80]!r} twice")
            seen.add(key)
    return found


def _skeleton(data: bytes) -> bytes:
    """Return what of brackets, colons and commas is outside strings.

    Of JSON that is broken somewhere, the part before that is right.
    """
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Without escapes a quote opens or closes a string: taking two neighbours out moves
    # nothing from inside to outside, and of the pieces between the rest, every second
    # is outside.
    marks = data.translate(None, _REST).replace(b'""', b"")
    pieces = marks.split(b'"')[::2]
    del marks  # what a stranger sends may be nothing but marks: no copy too many
    return b"".join(pieces)


def _check_depth(skeleton: bytes, what: str, error: type[FormatError]) -> None:
    # The C scanner and everything after it recurse: bound the nesting beforehand.
    brackets = skeleton.translate(None, b":,")
    rest = brackets
    for _ in range(MAX_DEPTH // 2):  # each round takes one level or two away
        rest = rest.replace(b"{}", b"").replace(b"[]", b"")
        if not rest:
            return
    steps = (1 if one in b"[{" else -1 for one in brackets)
    if max(accumulate(steps), default=0) > MAX_DEPTH:
        raise error(f"{what} is nested deeper than {MAX_DEPTH}")


def _count_members(value: Any) -> int:
    """Count the members of all objects, level by level."""
    found = 0
    level = [value]
    while level:
        kinds = set(map(type, level))
        objects = [one for one in level if type(one) is dict] if dict in kinds else []
        lists = [one for one in level if type(one) is list] if list in kinds else []
        found += sum(map(len, objects))
        level = [*chain.from_iterable(map(dict.values, objects))]
        level += chain.from_iterable(lists)
    return found


def _check_text(value: object, what: str, error: type[FormatError]) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as why:
        raise error(f"{what} holds half of a surrogate pair, which is no text") from why


def canonical(value: Mapping[str, Any]) -> bytes:
    """Return deterministic JSON bytes: sorted keys, no spaces, UTF-8, final newline."""
    text = json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )
    return text.encode("utf-8") + b"\n"
