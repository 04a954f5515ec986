"""What an edit says of itself that was handed in, and not published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from margo_supplychain.authoring.edit import Written

if TYPE_CHECKING:
    from pathlib import Path


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
        warnings: of `hand_in`, which is no edit, one line each.
    """

    name: str
    inbox: str | None
    file: Path | None
    after: tuple[str, ...]
    blobs_along: int
    warnings: tuple[str, ...] = ()
