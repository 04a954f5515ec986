"""The roots from one that is trusted to the newest: each verified by the one before.

Signing a change needs no repository: whoever has the root that they trust, and each
root after it on a stick, knows what a proposal is measured by.

Example:
    >>> chain = follow([Path("1.root.json").read_bytes()])  # doctest: +SKIP
    >>> RootProposal.parse(data, trusted=chain.trusted.data)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from margo_supplychain.authoring.state import LIMITS, read_roots
from margo_supplychain.errors import RefusedError
from margo_supplychain.formats.tuf_metadata import parse_root
from margo_supplychain.verify.memory import Memory
from margo_supplychain.verify.workflow import Demand, Workflow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
        MetadataFormatError, MalformedError: one is no root.
        RefusedError: they are not in order, or one between them is not given.
        VerificationError: one does not follow the one before it.
    """
    first = Memory(root=files[0], publishers=None)
    workflow = Workflow(first, demand=Demand.MARGO, limits=LIMITS)
    roots = [workflow.root.file]
    for data in files[1:]:
        _require_next(data, roots[-1].version)
        workflow.update_root(data)
        roots.append(workflow.root.file)
    return RootChain(tuple(roots))


def _require_next(data: bytes, version: int) -> None:
    """Refuse a file that is not in its turn: nobody served it, somebody typed it."""
    found = parse_root(data, limit=LIMITS.root).version
    if found != version + 1:
        raise RefusedError(
            f"root v{found} is given after root v{version}, expected root "
            f"v{version + 1}",
            hint="name the root that you trust, then each root after it, in order "
            "(`--root` once for each); nothing was changed",
        )


def chain_in(source: Source, *, first: bytes | None, known: bytes | None) -> RootChain:
    """Return the roots of a place, up to the newest that follows what is believed.

    Nothing but roots is looked at: a place whose timestamp a thief signed, or nobody
    renewed, is one that a new root shall bring back.

    Args:
        source: the repository, unverified.
        first: where a fresh client starts; None if nobody said.
        known: a newer root that is believed already, such as a memory's; or None.

    Raises:
        FetchError: the place can't be reached.
        ValueError: neither `first` nor `known` is given.
    """
    start = known or first
    if start is None:
        raise ValueError("a chain starts at a root that somebody believes")
    newest = read_roots(source, start).chain
    if first is None or known is None:
        return RootChain(newest)
    # Where what led to a memory's root is gone, that root is believed all the same.
    earlier = read_roots(source, first).chain
    for at, root in enumerate(earlier):
        if root.sha256 == newest[0].sha256:
            return RootChain((*earlier[:at], *newest))
    return RootChain(newest)
