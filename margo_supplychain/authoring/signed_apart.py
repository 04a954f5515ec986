"""What holders of targets signed apart, as the adoption of their root takes it.

Whose signatures count and what a draft may say is said by `targets_draft`; here it is
compared with what lies in the place: what a run that was killed wrote of it, and what
was published meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from margo_supplychain.authoring.evidence import require_who
from margo_supplychain.authoring.signatures import signed_by
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.authoring.targets_draft import AGAIN, TargetsDraft
from margo_supplychain.errors import FetchError, FormatError, RefusedError
from margo_supplychain.formats.tuf_metadata import file_name, parse_targets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuf.api.metadata import Root, Targets

    from margo_supplychain.authoring.healing import Beginning
    from margo_supplychain.authoring.place import Place
    from margo_supplychain.authoring.recovering import Recovered
    from margo_supplychain.authoring.state import State
    from margo_supplychain.formats.tuf_metadata import RoleFile

TOP: Final = frozenset(("targets", "snapshot", "timestamp"))
"""What is new with a draft: it is listed by a snapshot, and that by a timestamp."""


def read_draft(
    start: Beginning, chain: Sequence[RoleFile[Root]], data: bytes | None
) -> TargetsDraft | None:
    """Return the file of targets that was signed apart for the last root of a chain.

    Raises:
        IncompleteError: too few of that root's keys have signed it.
        RefusedError: it was changed, has expired, or is for another root.
        MetadataFormatError: it is none.
    """
    if data is None or len(chain) < 2:
        return None  # a place is opened with that root: it stands already
    found = TargetsDraft.parse(data, trusted=chain[-2], proposed=chain[-1])
    found.require_complete()
    found.require_lasting(start.now)
    return found


def unless_there(
    draft: TargetsDraft | None, standing: RoleFile[Targets]
) -> TargetsDraft | None:
    """Return a draft, unless it is what stands: a run before this one published it."""
    if draft is None or draft.file.payload != standing.payload:
        return draft
    who = require_who(draft.proposed.signed, "targets")
    return draft if signed_by(standing.data, who) is None else None


def as_written(place: Place, draft: TargetsDraft) -> TargetsDraft:
    """Return a draft with what a copy of it was signed with that has its name already.

    A killed run may have written that, or somebody who wants to stop or hurt the
    hand-over: with a signature that is none, or without those of the old keys. So the
    signatures that count are kept of both, and written over a copy that has not all of
    them. What is signed is the same, and nothing that devices believe leads there yet.

    Raises:
        RefusedError: something else has its name.
        StorageError, FetchError: it can't be read or written.
    """
    if place.written("targets", draft.file.version) is None:
        return draft
    name = file_name("targets", draft.file.version)
    try:
        there = place.source.metadata(name, limit=LIMITS.targets)
        found = parse_targets(there, role="targets", limit=LIMITS.targets)
    except FormatError:
        found = None
    except FetchError as why:
        if why.unreachable:
            raise
        found = None
    if found is None or found.payload != draft.file.payload:
        raise RefusedError(
            f"{place.url} has something else under the name of {draft.file.label}",
            hint=f"{AGAIN}; or find out who wrote {name}, and take it away",
        )
    draft = draft.with_signatures_of(found)
    if found.data != draft.data:
        place.shelf.restore_metadata(name, draft.data)
    return draft


def with_draft(
    place: Place,
    recovered: Recovered,
    draft: TargetsDraft | None,
    before: State | None,
) -> tuple[bytes | None, Recovered]:
    """Return the file of targets that was signed apart, if it is to be published.

    Raises:
        RefusedError: it does not say what stands, or something else has its name.
    """
    standing: list[RoleFile[Targets]] = [recovered.state.trusted("targets").file]
    draft = unless_there(draft, standing[0])
    if draft is None:
        return None, recovered
    if before is not None:
        # It was drafted from what the place shows, if that is good; but a place that
        # shows an older one than was found must not bring keys back that left.
        shown = before.walk.workflow.roles["targets"].file
        if shown.version >= standing[0].version:
            standing.append(shown)
    fits = [one for one in standing if not draft.changes(one)]
    draft.require_follows((*fits, *standing)[0])
    return as_written(place, draft).data, recovered._replace(lacking=TOP)
