"""What a whole repository needs besides what one device reads: every root, every tag.

A device that was off long follows the roots one by one from the one that it holds, so
none may be missing. A registry clears away what no tagged manifest names, so each
target file needs its tag, although devices find it by its digest; so does content that
lies in no repository of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from margo_supplychain.authoring.content_targets import ContentTargets
from margo_supplychain.authoring.healing import compared
from margo_supplychain.authoring.strays import strays
from margo_supplychain.authoring.survey import descriptor_of, read_roots
from margo_supplychain.authoring.tagged_place import TaggedPlace
from margo_supplychain.errors import (
    FetchError,
    FormatError,
    MixAndMatchError,
    RollbackError,
    SupplyChainError,
)
from margo_supplychain.formats.registry_form import target_tag
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.transport.tagged_sink import TaggedSink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from margo_supplychain.authoring.state import AuthorWalk, State
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.transport.protocols import Shelf, Sink

_MANY: Final = 100  # roots that are missing; more say nothing new


def root_version(filename: str) -> int:
    """Return the version of a root's file; 0 of any other."""
    version, dot, rest = filename.partition(".")
    is_root = bool(dot) and rest == "root.json" and version.isdecimal()
    return int(version) if is_root else 0


def root_problems(
    shelf: Shelf, root: bytes, newest: int | None
) -> Iterator[SupplyChainError]:
    """Yield what is wrong with the roots of a place.

    Args:
        shelf: the place.
        root: exact bytes of a root that is trusted.
        newest: the last root that a device follows there; None if none does.
    """
    try:
        known = {root_version(name) for name in shelf.metadata_files()}
    except SupplyChainError as why:
        yield why
        return
    gone = set(range(1, max(known | {newest or 1}) + 1)) - known
    for version in sorted(gone)[:_MANY]:
        name = file_name("root", version)
        yield FetchError(
            f"{name} does not exist: devices that begin before it can't follow",
            url=shelf.url,
            missing=True,
        )
    if not gone and newest is not None:
        try:
            read_roots(shelf, root, newest)
        except SupplyChainError as why:
            yield why


def tag_problems(shelf: Shelf, walk: AuthorWalk) -> Iterator[SupplyChainError]:
    """Yield target files that lie in a registry or layout without their tag."""
    if not isinstance(shelf, TaggedSink):
        return
    for role in walk.workflow.roles.values():
        for path, file in role.signed.targets.items():
            try:
                what = descriptor_of(path, file)
                if not has_tag(shelf, target_tag(what.digest), what):
                    yield no_tag(shelf, path)
            except (FetchError, FormatError) as why:
                yield why


def list_problems(shelf: Shelf, state: State) -> Iterator[SupplyChainError]:
    """Yield what the snapshot lists of nobody, and what is published and not in it."""
    for why in strays(state.walk):
        yield MixAndMatchError(why, role="snapshot")
    if not isinstance(shelf, TaggedSink):
        return
    try:
        found = compared(TaggedPlace(shelf, ContentTargets(shelf)), state)
    except SupplyChainError as why:
        yield why
        return
    if found.apart or found.is_behind:
        shown = state.timestamp.version
        yield RollbackError(
            f"timestamp v{shown} does not have in it what was published as "
            f"v{found.version}",
            role="timestamp",
            trusted=found.version,
            offered=shown,
            hint="any edit brings it back: `margo-supplychain repo refresh`",
        )


def has_tag(place: Sink, tag: str, what: Descriptor) -> bool:
    """Say whether a tag by digest is right, where files have tags.

    Raises:
        FetchError: that can't be found out.
    """
    return not isinstance(place, TaggedSink) or place.keeps(tag, what)


def no_tag(shelf: Shelf, what: str) -> FetchError:
    """Return the problem of what would be removed, or is shown as something else."""
    return FetchError(
        f"{what} has no tag, or one that names something else: the next clean-up "
        "there removes it",
        url=shelf.url,
        missing=True,
    )
