"""JSON from outside: bounded, without duplicate keys, and written deterministically.

`json.loads` accepts NaN, duplicate keys (the last wins), numbers of any size and
nesting until the interpreter gives up. Here each of these is a `FormatError`.

Example:
    >>> parse(b'{"a": 1}', what="example", limit=100)
    {'a': 1}
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NoReturn

from margo_supplychain.errors import FormatError, MetadataFormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DEPTH: Final = 64
_FREE_VALUES: Final = 1024
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_NEITHER: Final = bytes(set(range(256)) - set(b'[]{}"'))
MAX_INTEGER: Final = 2**53 - 1  # what every JSON reader can hold exactly (RFC 8259 §6)


def parse(
    data: bytes,
    *,
    what: str,
    limit: int,
    error: type[FormatError] = MetadataFormatError,
    spread: int | None = None,
) -> dict[str, Any]:
    """Parse unverified bytes as one JSON object.

    Args:
        data: unverified UTF-8, without byte order mark.
        what: names the document in errors.
        limit: most bytes that are looked at.
        error: the class to raise.
        spread: fewest bytes for each value, beyond the first thousand: what is parsed
            may else need 30 times the memory of its text.

    Raises:
        FormatError: above `limit`, not UTF-8, not one object, duplicate keys, NaN,
            fractions, integers beyond ±(2^53 - 1), deeper than 64, half of a
            surrogate pair; more values than `spread` allows.
    """
    if len(data) > limit:
        raise error(f"{what} has {len(data)} bytes, more than the limit of {limit}")
    if spread is not None:
        most = _FREE_VALUES + len(data) // spread
        if data.count(b",") + data.count(b"[") + data.count(b"{") > most:
            raise error(f"{what} holds more than {most} values in {len(data)} bytes")
    value = _load(data, what, error)
    if not isinstance(value, dict):
        raise error(f"{what} is not a JSON object")
    if _SURROGATE.search(data) is not None:
        _check_text(value, what, error)
    return value


def _load(data: bytes, what: str, error: type[FormatError]) -> Any:
    def refuse(text: str) -> NoReturn:
        raise error(f"{what} holds {text[:40]!r}, which is not a whole number")

    def integer(text: str) -> int:
        if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
            raise error(f"{what} holds the number {text[:40]}, beyond 2^53 - 1")
        return int(text)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            seen: set[str] = set()
            for key, _ in items:
                if key in seen:
                    raise error(f"{what} names {key[:80]!r} twice")
                seen.add(key)
        return found

    try:
        text = data.decode("utf-8")
        _check_depth(data, what, error)
        return json.loads(
            text,
            object_pairs_hook=pairs,
            parse_float=refuse,
            parse_int=integer,
            parse_constant=refuse,
        )
    except UnicodeDecodeError as why:
        raise error(f"{what} is not UTF-8 at byte {why.start}") from why
    except json.JSONDecodeError as why:
        raise error(
            f"{what} is not JSON: {why.msg} at line {why.lineno}, column {why.colno}"
        ) from why


def _check_depth(data: bytes, what: str, error: type[FormatError]) -> None:
    # The C scanner and everything after it recurse: bound the nesting beforehand.
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return
    # Without escapes a quote opens or closes a string: every second piece is outside.
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = b"".join(plain.translate(None, _NEITHER).split(b'"')[::2])
    rest = brackets
    for _ in range(MAX_DEPTH // 2):  # each round takes one level or two away
        rest = rest.replace(b"{}", b"").replace(b"[]", b"")
        if not rest:
            return
    steps = (1 if one in b"[{" else -1 for one in brackets)
    if max(accumulate(steps), default=0) > MAX_DEPTH:
        raise error(f"{what} is nested deeper than {MAX_DEPTH}")


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
