"""Whose signatures a root proposal still lacks, and who gives the next one.

A key that leaves root may be lost or stolen. It signs this change if it can, and is
asked for last; it is called by its token or its id, because whoever held it may hold
the one in its place, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain import threshold
from margo_supplychain.authoring.holders import NOBODY, named

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from margo_supplychain.authoring.holders import Holder
    from margo_supplychain.authoring.proposals import RootProposal

_NO_NAMES: Final[Mapping[str, str]] = {}


class Lack(NamedTuple):
    """What one root's threshold lacks.

    Args:
        root: `old root`, `new root`; `root` if it is the first one.
        needed: how many signatures more.
        staying: key ids that could give them, and are in the new root.
        leaving: key ids that could, too, and leave with it.
    """

    root: str
    needed: int
    staying: tuple[str, ...]
    leaving: tuple[str, ...]


def lacks(proposal: RootProposal) -> Iterator[Lack]:
    """Yield what each threshold lacks that is not met."""
    gone = leaving(proposal)
    for root, status in (("old root", proposal.old), ("new root", proposal.new)):
        if status is None or status.met:
            continue
        yield Lack(
            root if proposal.trusted else "root",
            status.needed - len(status.signers),
            tuple(one for one in status.missing if one not in gone),
            tuple(one for one in status.missing if one in gone),
        )


def lacking(
    proposal: RootProposal, names: Mapping[str, str] = _NO_NAMES
) -> tuple[str, ...]:
    """Return what is missing, for people: `new root needs 1 more of holder B`.

    Args:
        proposal: as it is now.
        names: key id → how to call its holder, where not by what the roots say.
    """
    return tuple(_text(one, proposal, names) for one in lacks(proposal))


def next_key(proposal: RootProposal) -> str | None:
    """Return the id of the key that is best asked for next; None if none is needed.

    First who counts for both roots, then who stays or comes, at last who leaves.
    """
    found = list(lacks(proposal))
    staying = [set(one.staying) for one in found]
    both = staying[0].intersection(*staying) if staying else set()
    for wanted in (
        [keyid for one in found for keyid in one.staying if keyid in both],
        [keyid for one in found for keyid in one.staying],
        [keyid for one in found for keyid in one.leaving],
    ):
        if wanted:
            return wanted[0]
    return None


def leaving(proposal: RootProposal) -> frozenset[str]:
    """Return the ids of the root keys that the new root has no more."""
    if proposal.trusted is None:
        return frozenset()
    role = proposal.root.signed.roles["root"]
    kept = {threshold.material(proposal.keys[keyid]) for keyid in role.keyids}
    return frozenset(
        keyid
        for keyid, key in proposal.keys.items()
        if threshold.material(key) not in kept
    )


def called(proposal: RootProposal, keyid: str) -> str:
    """Return how to call who holds a key; of one that leaves, which key it is, too."""
    known = proposal.holders
    if keyid not in leaving(proposal):
        return named(keyid, known)
    return _which(keyid, known, proposal.keys)


def _which(keyid: str, known: Mapping[str, Holder], keys: Collection[str]) -> str:
    """Return `Ben (token root-b)`; the id in place of what is no token's own name."""
    holder = known.get(keyid, NOBODY)
    places = [known.get(one, NOBODY).place for one in keys]
    is_own = str(holder.place).startswith("token ") and places.count(holder.place) == 1
    if holder.name is None:
        return f"{keyid[:12]} ({holder.place})" if is_own else keyid[:12]
    return f"{holder.name} ({holder.place if is_own else keyid[:12]})"


def _text(one: Lack, proposal: RootProposal, names: Mapping[str, str]) -> str:
    known = proposal.holders
    parts = []
    if one.staying:
        found = (names.get(keyid) or named(keyid, known) for keyid in one.staying)
        parts.append(", ".join(dict.fromkeys(found)))
    if one.leaving:
        # With fewer that stay than are needed there is no choice.
        link = "" if not parts else "and " if len(one.staying) < one.needed else "or "
        link += "of " if link else ""
        found = (
            names.get(keyid) or _which(keyid, known, proposal.keys)
            for keyid in one.leaving
        )
        parts.append(f"{link}keys that leave: {', '.join(found)}")
    return f"{one.root} needs {one.needed} more of {', '.join(parts)}"
