"""What holders of targets signed apart, as the adoption of their root takes it.

Whose signatures count and what a draft may say is said by `targets_draft`; here it is
compared with what lies in the place: what a run that was killed wrote of it, and what
was published meanwhile.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from margo_supplychain.authoring.evidence import require_who
from margo_supplychain.authoring.signatures import signed_by
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.authoring.targets_draft import AGAIN, TargetsDraft
from margo_supplychain.errors import FetchError, RefusedError
from margo_supplychain.formats.tuf_metadata import file_name

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
    """Return a draft as a run that was killed wrote it, if one did.

    That copy may have fewer signatures, or others: a name never gets other bytes.

    Raises:
        RefusedError: something else has its name.
    """
    if place.written("targets", draft.file.version) is None:
        return draft
    name = file_name("targets", draft.file.version)
    try:
        there = place.source.metadata(name, limit=LIMITS.targets)
    except FetchError as why:
        if why.unreachable:
            raise
        there = b""
    found = signed_by(there, require_who(draft.proposed.signed, "targets"))
    if found is not None and found.payload == draft.file.payload:
        return replace(draft, file=found)
    raise RefusedError(
        f"{place.url} has something else under the name of {draft.file.label}",
        hint=AGAIN,
    )


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
        # It was drafted from what the place shows, if that is good.
        standing.append(before.walk.workflow.roles["targets"].file)
    fits = [one for one in standing if not draft.changes(one)]
    draft.require_follows((*fits, *standing)[0])
    return as_written(place, draft).data, recovered._replace(lacking=TOP)
