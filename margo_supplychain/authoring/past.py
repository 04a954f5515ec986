"""What the operator's snapshots have listed, newest first: what was published, when.

A file with a version's name may be what a killed run left, so its being there does not
say that it was published; that an older snapshot lists it does. Only those count that
the present keys of `snapshot` signed. What was cleared away is not known any more: then
nothing is claimed of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from margo_supplychain.authoring.roles import signers_of
from margo_supplychain.authoring.signatures import signed_by
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import FetchError
from margo_supplychain.formats.tuf_metadata import file_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tuf.api.metadata import MetaFile

    from margo_supplychain.authoring.state import State
    from margo_supplychain.transport.protocols import Source

MOST_READ: Final = 1_000  # snapshots; who asks for older ones is told that nobody knows
MOST_MISSING: Final = 10  # versions in a row that are not there

_Listed = tuple[str, int, str]  # role, version, sha256


@final
class Past:
    """The snapshots before a verified one; each is read once, when it is asked for.

    Args:
        source: where the repository lies.
        state: its verified state.
    """

    def __init__(self, source: Source, state: State) -> None:
        self._source = source
        self._who = signers_of(state.root.signed, "snapshot")
        self._version = state.snapshot.version
        self._meta: Mapping[str, MetaFile] = state.snapshot.signed.meta
        self._read = 0
        self._is_over = False
        # The oldest snapshot, as far as was read, that lists each file.
        self._since: dict[_Listed, int] = {}
        self._note()

    def has_listed(self, role: str, entry: MetaFile) -> bool:
        """Say whether a snapshot lists, or has listed, exactly this file of a role.

        Raises:
            FetchError: nobody answers who could know.
        """
        wanted = _listed(role, entry)
        while wanted not in self._since:
            now = self._meta.get(f"{role}.json")
            if now is None or now.version < entry.version or not self._go_back():
                return False
        return True

    def beside(self, role: str, entry: MetaFile) -> Mapping[str, MetaFile] | None:
        """Return the oldest list with this file of a role: that of its publication.

        Raises:
            FetchError: nobody answers who could know.
        """
        wanted = _listed(role, entry)
        if not self.has_listed(role, entry):
            return None
        while (now := self._meta.get(f"{role}.json")) and _listed(role, now) == wanted:
            if not self._go_back():
                break
        return self._snapshot(self._since[wanted])

    def _go_back(self) -> bool:
        """Read the snapshot before the last one that was read; say if there is one."""
        missing = 0
        while not self._is_over:
            self._version -= 1
            found = None
            if self._version >= 1 and self._read < MOST_READ:
                found = self._snapshot(self._version)
            if found is not None:
                self._read += 1
                self._meta = found
                self._note()
                return True
            missing += 1
            self._is_over = (
                self._version < 1 or self._read >= MOST_READ or missing >= MOST_MISSING
            )
        return False

    def _note(self) -> None:
        for name, entry in self._meta.items():
            self._since[_listed(name.removesuffix(".json"), entry)] = self._version

    def _snapshot(self, version: int) -> Mapping[str, MetaFile] | None:
        if self._who is None:
            return None
        try:
            data = self._source.metadata(
                file_name("snapshot", version), limit=LIMITS.snapshot
            )
        except FetchError as why:
            if why.unreachable:
                raise
            return None
        file = signed_by(data, self._who)
        if file is None or file.version != version:
            return None
        found: Mapping[str, MetaFile] = file.signed.meta
        return found


def _listed(role: str, entry: MetaFile) -> _Listed:
    return role, entry.version, (entry.hashes or {}).get("sha256", "")
