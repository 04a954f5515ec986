"""What came of an edit: what it wrote, or handed in to be published by others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What an edit wrote.

    Args:
        roles: role → (version, expires), of the roles that were signed; empty when
            nothing changed.
        blobs_new, blobs_there: content that was copied, and that lay there already.
        blobs_restored: content of releases that were listed before, and that was
            damaged or missing.
        warnings: what the author should know where there was no edit (`adopt_root`,
            `hand_in`), one line each; an edit has its own (`Edit.warnings`).
        waiting: of a vendor to whom nothing changed: what he handed in before, and the
            operator has not taken yet; name → its new releases.
    """

    roles: Mapping[str, tuple[int, datetime]] = field(default_factory=dict)
    blobs_new: int = 0
    blobs_there: int = 0
    blobs_restored: int = 0
    warnings: tuple[str, ...] = ()
    waiting: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedIn(Written):
    """What an edit handed in; `roles` are as if they were written.

    Args:
        name: sha256 of the submission, by which the inbox knows it; empty while
            signatures are missing.
        inbox: where it waits; None if it is in a file.
        file: where it is, if it is not in an inbox.
        after: names of submissions that the operator must take first.
        blobs_along: blobs that are part of it.
        lacking: what is missing before it can be handed in, one line for each role.
    """

    name: str
    inbox: str | None
    file: Path | None
    after: tuple[str, ...]
    blobs_along: int
    lacking: tuple[str, ...] = ()
