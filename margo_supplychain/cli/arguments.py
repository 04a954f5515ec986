"""Types of arguments: what is typed is parsed once, and a mistake is one of usage.

Example:
    >>> @click.argument("name", type=RELEASE_NAME)
    ... @click.option("--within", type=SPAN, default="14d")
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, final

import click

from margo_supplychain.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.pins import Pin
    from margo_supplychain.formats.versions import Version


@final
class _Parsed(click.ParamType[Any]):
    """What a parser of `formats` takes."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Parse it, or say what is wrong with it."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except FormatError as why:
            self.fail(str(why), param, ctx)


@contextmanager
def typed(hint: str) -> Iterator[None]:
    """Give mistakes in what was typed a hint of their own: no file has to change."""
    try:
        yield
    except FormatError as why:
        if why.hint == FormatError.default_hint:
            why.hint = hint
        raise


def _release_name(text: str) -> ReleaseName:
    from margo_supplychain.formats.names import ReleaseName

    return ReleaseName.parse(text)


def _publisher(text: str) -> str:
    from margo_supplychain.formats.names import publisher_name

    return publisher_name(text)


def _delegated(text: str) -> str:
    """Return the role of a publisher, or of an application as PUBLISHER/NAME."""
    return _release_name(text).role if "/" in text else _publisher(text)


def _platform(text: str) -> str:
    from margo_supplychain.formats.closure import platform_name

    return platform_name(text)


def _version(text: str) -> Version:
    from margo_supplychain.formats.versions import Version

    return Version.parse(text)


def _version_or_none(text: str) -> Version | str:
    return NONE if text == NONE else _version(text)


def _artifact(text: str) -> Version | Digest:
    from margo_supplychain.formats.digests import Digest

    return Digest.parse(text) if ":" in text else _version(text)


def _artifact_or_none(text: str) -> Version | Digest | str:
    return NONE if text == NONE else _artifact(text)


def _range(text: str) -> Pin:
    from margo_supplychain.formats.pins import Pin

    return Pin.range(text, grammar="npm")


def _span(text: str) -> timedelta:
    from margo_supplychain.formats.times import parse_span

    return parse_span(text, what="it")


NONE: Final = "none"
NAME_HINT: Final = "name an application as PUBLISHER/NAME, such as acme/pump-monitor"
PIN_HINT: Final = (
    "a pin is a version (1.2.0), a version with its whole digest (1.2.0@sha256:…) or "
    "an npm range such as '^1.0'"
)
SLOT_HINT: Final = "a slot is a name from this device's configuration, such as line-2"
DIGEST_HINT: Final = "give the whole digest: sha256: and 64 hexadecimal digits"
RELEASE_NAME: Final = _Parsed("publisher/name", _release_name)
PUBLISHER: Final = _Parsed("publisher", _publisher)
DELEGATED: Final = _Parsed("name", _delegated)
VERSION: Final = _Parsed("version", _version)
VERSION_OR_NONE: Final = _Parsed("version|none", _version_or_none)
ARTIFACT: Final = _Parsed("version|digest", _artifact)
ARTIFACT_OR_NONE: Final = _Parsed("version|digest|none", _artifact_or_none)
PLATFORM: Final = _Parsed("platform", _platform)
VERSION_RANGE: Final = _Parsed("range", _range)
SPAN: Final = _Parsed("span", _span)
