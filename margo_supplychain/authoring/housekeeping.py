"""Clearing out old trust metadata, and nothing that anybody may need.

A device asks for the newest timestamp and what it names; one that asks just now may
still follow the timestamp before. So the last versions of each file stay, everything
that the current snapshot and the one before it name, every root, since a device that
was off long follows them one by one, the file from which a role goes on whose keys were
cut off, and every version above the current one: names of killed runs, which must not
be used again. Target files and content are never touched: old ones cost little, and
what still names them is not for this command to find out.

Example:
    >>> from margo_supplychain.authoring.shelves import open_shelf
    >>> with open_shelf(source.url) as shelf:
    ...     prune(shelf, trust=store, clock=clock, keep=1).removed
    ()
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from margo_supplychain.authoring.delegator_fields import needed_files
from margo_supplychain.authoring.state import LIMITS, load
from margo_supplychain.errors import FetchError, FormatError, VerificationError
from margo_supplychain.formats.tuf_metadata import file_name, parse_snapshot
from margo_supplychain.transport.tagged_sink import TaggedSink
from margo_supplychain.verify.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tuf.api.metadata import Snapshot

    from margo_supplychain.authoring.state import State
    from margo_supplychain.transport.protocols import Shelf
    from margo_supplychain.verify.clock import Clock
    from margo_supplychain.verify.trust_store import TrustStore

KEEP: Final = 10
_VERSIONED: Final = re.compile(r"([1-9][0-9]{0,15})\.(.+)\.json", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What `prune` did.

    Args:
        removed: file names, oldest first within a role.
        kept: how many metadata files are there now.
    """

    removed: tuple[str, ...]
    kept: int


def prune(
    shelf: Shelf, *, trust: TrustStore, clock: Clock | None = None, keep: int = KEEP
) -> Pruned:
    """Remove old versions of metadata; the caller holds the place's lock.

    Args:
        shelf: the repository, or a copy of it.
        trust: the root or memory by which its current state is verified first.
        clock: the machine's by default; what has expired is no reason to stop.
        keep: how many versions of each file stay, the current one included.

    Raises:
        VerificationError: the place does not verify: what it calls current is not
            what decides here.
        RefusedError: a registry whose settings forbid it.
        FetchError: it can't be reached.
        ValueError: `keep` is below 1.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}, expected at least 1")
    before = trust.load()
    state = load(
        shelf, first_root=before.root, store=trust, clock=clock or SystemClock()
    )
    snapshot = state.snapshot
    current = _named(snapshot.signed)
    current[_stem("snapshot")] = {snapshot.version}
    current[_stem("timestamp")] = {state.timestamp.version}  # its witnesses
    names = list(shelf.metadata_files())
    found = _versions(names)
    stay = {stem: set(versions) for stem, versions in current.items()}
    for stem, versions in _previous(shelf, found, snapshot.version).items():
        stay.setdefault(stem, set()).update(versions)
    for role, version in _gone_on_from(state):
        stay.setdefault(_stem(role), set()).add(version)
    removed = []
    with shelf.together():
        for stem in sorted(found.keys() & current.keys()):
            newest = max(current[stem])
            old = sorted(one for one in found[stem] if one <= newest)
            for version in old[:-keep]:
                name = f"{version}.{stem}.json"
                if version not in stay[stem] and not _is_foreign(shelf, name):
                    shelf.remove_metadata(name)
                    removed.append(name)
    return Pruned(removed=tuple(removed), kept=len(names) - len(removed))


def _gone_on_from(state: State) -> Iterator[tuple[str, int]]:
    """Yield the files from which roles go on whose keys were cut off."""
    targets = state.walk.workflow.roles["targets"].signed
    yield from needed_files(targets).items()
    roles = None if targets.delegations is None else targets.delegations.roles
    for publisher in roles or ():
        if not state.lists(publisher):
            continue
        try:
            signed = state.walk.role(publisher, "targets").signed
        except VerificationError:
            continue
        except FetchError as why:
            if not why.missing:
                raise
            continue
        yield from needed_files(signed).items()


def _is_foreign(shelf: Shelf, name: str) -> bool:
    """Say whether a name is taken by what is no metadata: not ours to remove."""
    return isinstance(shelf, TaggedSink) and shelf.is_damaged(name)


def _versions(names: Iterable[str]) -> dict[str, set[int]]:
    """Return the versions of each file that is there, without roots."""
    found: dict[str, set[int]] = {}
    for name in names:
        parts = _VERSIONED.fullmatch(name)
        if parts is not None and parts[2] != "root":
            found.setdefault(parts[2], set()).add(int(parts[1]))
    return found


def _previous(
    shelf: Shelf, found: Mapping[str, set[int]], current: int
) -> dict[str, set[int]]:
    """Return what the snapshot before the current one names, if there is one.

    It is not verified: whatever it says can only make more stay.
    """
    older = [one for one in found.get("snapshot", ()) if one < current]
    if not older:
        return {}
    version = max(older)
    try:
        data = shelf.metadata(file_name("snapshot", version), limit=LIMITS.snapshot)
        named = _named(parse_snapshot(data, limit=LIMITS.snapshot).signed)
    except (FetchError, FormatError):
        named = {}
    named[_stem("snapshot")] = {version}
    return named


def _named(snapshot: Snapshot) -> dict[str, set[int]]:
    return {
        _stem(name.removesuffix(".json")): {entry.version}
        for name, entry in snapshot.meta.items()
    }


def _stem(role: str) -> str:
    """Return a role as it stands in file names."""
    return file_name(role, None).removesuffix(".json")
