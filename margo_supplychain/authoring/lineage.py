"""Which snapshot was made from which: what is in one of them already, and what is not.

A snapshot of a registry says in `x-after` which snapshots it was made from, by version
and sha256: whose work is in it. So two of them can be compared without trust in the
place that shows them, as long as the ones between them can still be read.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, final

from tuf.api.metadata import MetaFile

from margo_supplychain.authoring.role_signing import AFTER
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import FetchError, FormatError
from margo_supplychain.formats.tuf_metadata import parse_snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuf.api.metadata import Snapshot

    from margo_supplychain.authoring.witnesses import Reader
    from margo_supplychain.formats.tuf_metadata import RoleFile

MOST_READ: Final = 64  # snapshots, to know what others were made from


@final
class Lineage:
    """Compares verified snapshots of one place.

    Args:
        place: where those between them are read; each by its sha256.
        known: snapshots that need not be read.
    """

    def __init__(self, place: Reader, known: Sequence[RoleFile[Snapshot]] = ()) -> None:
        self._place = place
        self._files: dict[str, RoleFile[Snapshot] | None] = {}
        self._answers: dict[tuple[str, str], bool] = {}
        self._left = MOST_READ
        for one in known:
            self.learn(one)

    def learn(self, one: RoleFile[Snapshot]) -> None:
        """Take note of a snapshot that need not be read."""
        self._files[one.sha256] = one

    def contains(
        self,
        whole: RoleFile[Snapshot],
        part: RoleFile[Snapshot],
        *,
        strictly: bool = False,
    ) -> bool:
        """Say whether the work of one snapshot is in another.

        Args:
            whole: the later one.
            part: the earlier one.
            strictly: only if it was made from it. Else one that was made in a
                directory, where a lock keeps publishers in a row, has in it what it
                goes beyond.
        """
        if whole.sha256 == part.sha256:
            return True
        if whole.version <= part.version:
            return False
        after = made_from(whole)
        if after is None:
            return not strictly and _goes_beyond(whole.signed.meta, part.signed.meta)
        key = (whole.sha256, part.sha256)
        found = self._answers.get(key)
        if found is None:
            found = any(
                _sha256(entry) == part.sha256
                or (
                    whole.version > entry.version > part.version
                    and (parent := self._read(entry)) is not None
                    and self.contains(parent, part, strictly=strictly)
                )
                for entry in after
            )
            self._answers[key] = found
        return found

    def base(
        self, ours: RoleFile[Snapshot], theirs: RoleFile[Snapshot]
    ) -> RoleFile[Snapshot] | None:
        """Return the newest snapshot whose work is in both; None if it is not found."""
        waiting = {ours.sha256: ours}
        while waiting:
            one = max(waiting.values(), key=lambda file: file.version)
            del waiting[one.sha256]
            if self.contains(theirs, one):
                return one
            for entry in made_from(one) or ():
                parent = self._read(entry)
                if parent is not None and parent.version < one.version:
                    waiting[parent.sha256] = parent
        return None

    def _read(self, entry: MetaFile) -> RoleFile[Snapshot] | None:
        sha256 = _sha256(entry)
        if sha256 not in self._files:
            if not self._left:
                return None
            self._left -= 1
            self._files[sha256] = None
            with suppress(FetchError, FormatError):
                data = self._place.named("snapshot", entry)
                self._files[sha256] = parse_snapshot(data, limit=LIMITS.snapshot)
        return self._files[sha256]


def made_from(one: RoleFile[Snapshot]) -> list[MetaFile] | None:
    """Return the snapshots that one says it was made from; None if it says nothing."""
    value = one.signed.unrecognized_fields.get(AFTER)
    if not isinstance(value, list):
        return None
    with suppress(TypeError, ValueError, KeyError, AttributeError):
        return [MetaFile.from_dict(dict(entry)) for entry in value[:MOST_READ]]
    return []


def goes_back(known: Mapping[str, MetaFile], offered: Mapping[str, MetaFile]) -> bool:
    """Say whether a snapshot lists anything older than what is known."""
    return not _goes_beyond(offered, known)


def _goes_beyond(newer: Mapping[str, MetaFile], older: Mapping[str, MetaFile]) -> bool:
    return all(
        (entry := newer.get(name)) is not None
        and (entry == known or entry.version > known.version)
        for name, known in older.items()
    )


def _sha256(entry: MetaFile) -> str:
    return (entry.hashes or {}).get("sha256", "")
