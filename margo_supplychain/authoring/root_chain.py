"""The roots from one that is trusted to the newest: each verified by the one before.

Signing a change needs no repository: whoever has the root that they trust, and each
root after it on a stick, knows what a proposal is measured by.

Example:
    >>> chain = follow([Path("1.root.json").read_bytes()])  # doctest: +SKIP
    >>> RootProposal.parse(data, trusted=chain.trusted.data)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import FetchError, VerificationError
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.verify.memory import Memory
from margo_supplychain.verify.workflow import Demand, Workflow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tuf.api.metadata import Root

    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.transport.protocols import Source


class RootChain(NamedTuple):
    """Verified roots, from the oldest that is known to the trusted one."""

    roots: tuple[RoleFile[Root], ...]

    @property
    def trusted(self) -> RoleFile[Root]:
        """The newest."""
        return self.roots[-1]

    @property
    def signed(self) -> Iterable[Root]:
        """What they say, from the oldest on."""
        return [one.signed for one in self.roots]


def follow(files: Sequence[bytes]) -> RootChain:
    """Verify a first root, which is trusted, and each next one after it.

    Args:
        files: at least one.

    Raises:
        MalformedError: one is no root.
        VerificationError: one does not follow the one before it.
    """
    workflow = _begin(files[0])
    roots = [workflow.root.file]
    for data in files[1:]:
        workflow.update_root(data)
        roots.append(workflow.root.file)
    return RootChain(tuple(roots))


def chain_in(source: Source, *, first: bytes | None, known: bytes | None) -> RootChain:
    """Return the roots of a place, up to the newest that follows what is believed.

    Nothing but roots is looked at: a place whose timestamp a thief signed, or nobody
    renewed, is one that a new root shall bring back.

    Args:
        source: the repository, unverified.
        first: where a fresh client starts; None if nobody said.
        known: a newer root that is believed already, such as a memory's; or None.

    Raises:
        VerificationError: a root does not follow the one before it.
        FetchError: the place can't be reached.
        ValueError: neither `first` nor `known` is given.
    """
    start = known or first
    if start is None:
        raise ValueError("a chain starts at a root that somebody believes")
    newest = [*_from(start, source)]
    earlier: list[RoleFile[Root]] = []
    if first is not None and known is not None:
        try:
            earlier = list(_from(first, source, until=newest[0].version))
        except (FetchError, VerificationError):
            earlier = []  # what led here is gone; that it is believed is known apart
    if earlier and earlier[-1].sha256 == newest[0].sha256:
        newest = [*earlier[:-1], *newest]
    return RootChain(tuple(newest))


def _from(
    start: bytes, source: Source, *, until: int | None = None
) -> Iterator[RoleFile[Root]]:
    workflow = _begin(start)
    yield workflow.root.file
    while until is None or workflow.root.version < until:
        name = file_name("root", workflow.root.version + 1)
        try:
            data = source.metadata(name, limit=LIMITS.root)
        except FetchError as why:
            if why.missing:
                return
            raise
        workflow.update_root(data)
        yield workflow.root.file


def _begin(root: bytes) -> Workflow:
    memory = Memory(root=root, publishers=None)
    return Workflow(memory, demand=Demand.MARGO, limits=LIMITS)
