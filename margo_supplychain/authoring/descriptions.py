r"""What building, adopting and checking a package have in common.

Example:
    >>> one_line_each(("closure is partial", "closure is partial", "two\nlines"))
    ('closure is partial', 'two?lines')
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import ApplicationFormatError, FormatError
from margo_supplychain.formats.application import DESCRIPTION
from margo_supplychain.formats.versions import Version

if TYPE_CHECKING:
    from margo_supplychain.formats.application import ApplicationDescription

_NEARLY: Final = re.compile(r"v?([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:\.([0-9]{1,9}))?")


def signed_version(
    description: ApplicationDescription, given: Version | None
) -> Version:
    """Return the version that is signed: the description's own, or the one given.

    Raises:
        ApplicationFormatError: neither is a version, or they contradict each other.
    """
    text = description.version_text
    try:
        own = Version.parse(text)
    except FormatError as why:
        if given is not None:
            return given
        raise ApplicationFormatError(
            f"{DESCRIPTION}: metadata.version is {text!r}, and pins need SemVer: {why}",
            hint=f"name the version to sign beside it: --version {_suggestion(text)}",
        ) from why
    # `+build` can't be in a tag, so only the caller can add it.
    if given is not None and not given.same_precedence(own):
        raise ApplicationFormatError(
            f"{DESCRIPTION}: metadata.version is {text}, and --version says {given}",
            hint="leave --version out, or correct margo.yaml",
        )
    return given or own


def _suggestion(text: str) -> str:
    found = _NEARLY.fullmatch(text)
    if found is None:
        return "1.0.0"
    return ".".join(str(int(part or 0)) for part in found.groups())


def one_line_each(warnings: tuple[str, ...]) -> tuple[str, ...]:
    """Return each warning once, as one printable line that a draft can hold."""
    lines = (
        "".join(one if one.isprintable() else "?" for one in text)[:1_000].strip()
        for text in warnings
    )
    return tuple(dict.fromkeys(line for line in lines if line))[:1_000]
