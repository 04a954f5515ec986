"""Names of publishers, applications, roles and targets.

The grammar (docs/reference/formats.md) lets no name hold a path step, or collide with a
top-level TUF role or another role's file name. Nothing here says that a name exists.

Example:
    >>> name = ReleaseName.parse("acme/pump-monitor")
    >>> name.role, name.policy_path(1)
    ('acme.pump-monitor', 'acme/policies/pump-monitor/1.json')
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NewType, Self, final

from margo_supplychain.errors import FormatError

TargetPath = NewType("TargetPath", str)
"""A TUF target path that went through `target_path`: relative, normalised, bounded."""

_PUBLISHER: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)
_NAME: Final = re.compile(r"[a-z0-9-](?:[a-z0-9._-]{0,198}[a-z0-9-])?", re.ASCII)
_SLOT: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?", re.ASCII)
# tuf-js treats `constructor` specially; `mirrors` was a top-level TUF role once.
_RESERVED: Final = frozenset(
    {"root", "targets", "snapshot", "timestamp", "mirrors", "constructor"}
)
MAX_TARGET_PATH: Final = 512


def publisher_name(text: str) -> str:
    """Return `text` if it is a publisher's name.

    Raises:
        FormatError: if not `^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$` or a reserved word.
    """
    if _PUBLISHER.fullmatch(text) is None or text in _RESERVED:
        raise FormatError(
            f"publisher {text[:80]!r} is not a name: 1 to 32 of a-z, 0-9 and -, "
            "beginning with a letter, not ending with -, and no TUF role's name"
        )
    return text


def application_name(text: str) -> str:
    """Return `text` if it is an application's or artifact's name.

    Raises:
        FormatError: if not `^[a-z0-9-]([a-z0-9._-]{0,198}[a-z0-9-])?$`, or with `..`.
    """
    if _NAME.fullmatch(text) is None or ".." in text:
        raise FormatError(
            f"application {text[:240]!r} is not a name: 1 to 200 of a-z, 0-9, ., _ "
            "and -, with letters, digits or - at both ends and no '..'"
        )
    return text


def slot_name(text: str) -> str:
    """Return `text` if it is a deployment slot's name (1 to 64 of A-Za-z0-9._-).

    Raises:
        FormatError: if it is not.
    """
    if _SLOT.fullmatch(text) is None or ".." in text:
        raise FormatError(f"slot {text[:80]!r} is not a name: 1 to 64 of A-Za-z0-9._-")
    return text


def target_path(text: str) -> TargetPath:
    """Return `text` as a TUF target path that is safe to use as a file name.

    Raises:
        FormatError: if empty, absolute, above 512 characters, or with an empty step,
            `.`, `..`, a backslash or a control character.
    """
    steps = text.split("/")
    if (
        not 0 < len(text) <= MAX_TARGET_PATH
        or any(step in ("", ".", "..") for step in steps)
        or "\\" in text
        or not text.isprintable()
    ):
        raise FormatError(f"target path {text[:160]!r} is not relative and normalised")
    return TargetPath(text)


@final
@dataclass(frozen=True, slots=True)
class ReleaseName:
    """A publisher and one of its applications or artifacts: `acme/pump-monitor`.

    Raises:
        FormatError: if a part is not in the grammar.
    """

    publisher: str
    name: str

    def __post_init__(self) -> None:
        publisher_name(self.publisher)
        application_name(self.name)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `<publisher>/<name>`."""
        publisher, slash, name = text.partition("/")
        if not slash:
            raise FormatError(
                f"{text[:240]!r} is not a release name: expected <publisher>/<name>, "
                "as in acme/pump-monitor"
            )
        return cls(publisher, name)

    @property
    def role(self) -> str:
        """The TUF role that signs this application's releases."""
        return f"{self.publisher}.{self.name}"

    @property
    def releases(self) -> str:
        """The prefix of this application's release records, with the slash."""
        return f"{self.publisher}/releases/{self.name}/"

    def release_path(self, tag: str) -> TargetPath:
        """Return the target path of one release; `tag` is a version's `_` form."""
        return target_path(f"{self.releases}{tag}")

    def policy_path(self, form: int) -> TargetPath:
        """Return the target path of this application's publisher policy."""
        return target_path(f"{self.publisher}/policies/{self.name}/{form}.json")

    def layout_path(self, number: int) -> TargetPath:
        """Return the target path of in-toto layout `number`."""
        return target_path(f"{self.publisher}/layouts/{self.name}/{number}.json")

    def __str__(self) -> str:
        return f"{self.publisher}/{self.name}"


def publisher_patterns(publisher: str) -> tuple[str, ...]:
    """Return the path patterns that `targets` delegates to a publisher."""
    return tuple(
        f"{publisher}/{kind}/*/*" for kind in ("releases", "layouts", "policies")
    )


def application_patterns(name: ReleaseName) -> tuple[str, ...]:
    """Return the path patterns that a publisher delegates for one application."""
    return (f"{name.releases}*",)
