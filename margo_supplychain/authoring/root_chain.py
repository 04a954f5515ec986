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
        MalformedError: one is no root.
        VerificationError: one does not follow the one before it.
    """
    workflow = _begin(files[0])
    roots = [workflow.root.file]
    for data in files[1:]:
        workflow.update_root(data)
        roots.append(workflow.root.file)
    return RootChain(tuple(roots))


def chain_to(
    trusted: RoleFile[Root], source: Source, first_root: bytes | None
) -> RootChain:
    """Return what a place still has of the roots before a trusted one.

    Args:
        trusted: the newest, verified.
        source: the repository, unverified.
        first_root: where a fresh client starts; None if nobody said.
    """
    if first_root is None:
        return RootChain((trusted,))
    try:
        workflow = _begin(first_root)
        roots = [workflow.root.file]
        while workflow.root.version < trusted.version:
            name = file_name("root", workflow.root.version + 1)
            workflow.update_root(source.metadata(name, limit=LIMITS.root))
            roots.append(workflow.root.file)
    except (FetchError, VerificationError):
        # What led to the trusted root is gone; that it is trusted is known apart.
        return RootChain((trusted,))
    if roots[-1].sha256 != trusted.sha256:
        return RootChain((trusted,))
    return RootChain(tuple(roots))


def _begin(root: bytes) -> Workflow:
    memory = Memory(root=root, publishers=None)
    return Workflow(memory, demand=Demand.MARGO, limits=LIMITS)
