"""Drafting the targets that goes with a proposed root, from what stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from margo_supplychain.authoring.evidence import needs_signing, read_chain
from margo_supplychain.authoring.lying import is_illegible
from margo_supplychain.authoring.recovering import recover
from margo_supplychain.authoring.role_signing import MOST_TAKEN
from margo_supplychain.authoring.rolled_back import newer_targets, taken_back
from margo_supplychain.authoring.targets_draft import ROLE, TargetsDraft
from margo_supplychain.errors import (
    ConflictError,
    FetchError,
    RefusedError,
    VerificationError,
)

if TYPE_CHECKING:
    from margo_supplychain.authoring.healing import Beginning
    from margo_supplychain.authoring.proposals import RootProposal
    from margo_supplychain.authoring.state import State
    from margo_supplychain.formats.tuf_metadata import RoleFile


def draft_targets(start: Beginning, proposal: RootProposal) -> TargetsDraft:
    """Return what stands as the next targets; see `Repository.draft_targets`."""
    state = _standing(start, proposal)
    standing: RoleFile[Any] = state.walk.workflow.roles[ROLE].file
    trusted, proposed = proposal.trusted, proposal.root
    if trusted is None:
        raise RefusedError("a first root goes with no targets that stands")
    if not needs_signing(standing, proposed.signed, start):
        raise RefusedError(
            f"{standing.label} is signed by the keys of {proposed.label} already",
            hint="there is nothing to draft: margo-supplychain root finalize needs no "
            "other file",
        )
    return TargetsDraft.following(
        standing,
        version=_free(start, standing.version),
        trusted=trusted,
        proposed=proposed,
        now=start.now,
    )


def _standing(start: Beginning, proposal: RootProposal) -> State:
    """Return what the proposed root goes on from, as `adopting` would see it.

    Raises:
        RefusedError: the proposal does not follow the newest root; or a newer targets
            lies there than what it would go on from, and says something else.
    """
    found = read_chain(start)
    newest, trusted = found.newest, proposal.trusted
    if trusted is None or newest.payload != trusted.payload:
        raise RefusedError(
            f"{proposal.root.label} does not follow {newest.label}, the newest at "
            f"{start.place.url}",
            hint="propose the next root from what stands now: margo-supplychain root "
            "propose; nothing was written",
        )
    if found.problem is None:
        try:
            state = start.load()
        except FetchError as why:
            if not is_illegible(start.place, why):
                raise
        except VerificationError:
            pass  # stolen or lost keys: what is left of what they signed
        else:
            if newer_targets(start, newest.signed, state.trusted(ROLE).file) is None:
                return state
    # With snapshot's keys gone, what they take back does not count.
    state = recover(start, (*found.chain, proposal.root), is_there=False).state
    standing = state.trusted(ROLE).file
    newer = newer_targets(start, newest.signed, standing)
    if newer is not None:
        raise taken_back(standing, newer)
    return state


def _free(start: Beginning, last: int) -> int:
    """Return the first version whose name nothing has.

    Raises:
        ConflictError: a hundred names are taken.
    """
    for version in range(last + 1, last + 1 + MOST_TAKEN):
        if start.place.written(ROLE, version) is None:
            return version
    raise ConflictError(
        f"{start.place.url} has something under each of {MOST_TAKEN} names of targets "
        f"from v{last + 1} on",
        hint="find out who takes the names before you, and remove those files",
    )
