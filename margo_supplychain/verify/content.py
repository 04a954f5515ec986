"""Step 6: every byte of a release, streamed, checked and kept by digest.

Content goes into an OCI image layout; a blob has a name there only when its size and
digest were right, hashed on its way by this fetch or on disk before it. What the
content must be besides is in `content_checks`. Memory does not grow with a blob.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import (
    BudgetError,
    FetchError,
    MalformedError,
    SupplyChainError,
    VerificationError,
)
from margo_supplychain.storage.content_store import ContentStore
from margo_supplychain.storage.lock import DirectoryLock
from margo_supplychain.verify.artifact import first_of
from margo_supplychain.verify.content_checks import (
    ContentChecks,
    parts_of,
    tops_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.transport.protocols import Source
    from margo_supplychain.verify.limits import Budget, Limits

LOCK_TIMEOUT: Final = 30.0  # seconds to wait for another fetch into one directory


class Fetch:
    """One fetch: a record, where its content may lie, and where it goes.

    Args:
        record: verified.
        sources: where to try, best first.
        to: directory of the layout to fill; made if need be.
    """

    def __init__(
        self,
        record: ReleaseRecord,
        sources: Sequence[Source],
        to: Path,
        *,
        limits: Limits,
        budget: Budget,
    ) -> None:
        self._record = record
        self._sources = sources
        self._limits = limits
        self._budget = budget
        self._to = to
        self._total = 0
        self.content = ContentStore.create(to, mode=0o700)
        self.digests: dict[Digest, Descriptor] = {}

    def run(self) -> None:
        """Fetch and check the whole closure; list it only when all of it is right.

        One fetch at a time works in a directory: what a killed one left is removed, and
        would else fill a small device.
        """
        with DirectoryLock(self.content.directory, timeout=LOCK_TIMEOUT):
            self.content.clean()
            self._run()

    def _run(self) -> None:
        checks = ContentChecks(self._record, self.content, tick=self._look)

        def read(what: Descriptor) -> bytes:
            self._get(what)
            return checks.read(what)

        for top in tops_of(self._record):
            for part in parts_of(top, read):
                self._get(part.descriptor)
                checks.add(part)
        checks.run()
        self._list()

    def _look(self, size: int) -> None:
        """Ask the budget while what is here is hashed; that costs no bytes."""
        del size
        self._budget.check()

    def _get(self, what: Descriptor) -> None:
        self._budget.check()
        known = self.digests.get(what.digest)
        if known is not None:
            # check 6.4: the same bytes have one size
            if known.size != what.size:
                raise MalformedError(
                    f"{what.digest} has the sizes {known.size} and {what.size} at once"
                )
            return
        # check 6.1: bounded number of blobs
        if len(self.digests) >= self._limits.blobs:
            raise BudgetError(f"the release has more than {self._limits.blobs} blobs")
        self._total += what.size
        # check 6.2: bounded size in all
        if self._total > self._limits.content:
            raise BudgetError(f"the release has more than {self._limits.content} bytes")
        # check 6.3 (instead: self.content.has(what) or self._fetch(what)): what is here
        # already is hashed again
        if not self.content.keep_intact(what, tick=self._look):
            self._fetch(what)
        self.digests[what.digest] = what

    def _fetch(self, what: Descriptor) -> None:
        problems: list[SupplyChainError] = []
        done = 0

        def tick(size: int) -> None:
            nonlocal done
            done += size
            self._budget.check()
            self._budget.spend(size)
            self._budget.report(str(what.digest), done, what.size)

        for source in self._sources:
            self._budget.check()
            done = 0
            try:
                with source.blob(what, tick=tick) as stream:
                    self.content.put(what, stream, tick=tick)
            except (FetchError, VerificationError) as why:
                problems.append(why)
            else:
                return
        raise first_of(problems, what)

    def _list(self) -> None:
        record = self._record
        self.content.add_reference(
            record.artifact,
            name=f"{record.name}:{record.version.tag}",
            artifact_type=record.artifact_type,
        )
