"""Step 6: every byte of a release, streamed, checked and kept by digest.

Content goes into an OCI image layout; a blob has a name there only when its size and
digest were right, hashed on its way by this fetch or on disk before it. Manifests are
read one after the other, as the walk needs them; then everything else is fetched,
several blobs at once. What content must be besides is in `content_checks`. Memory does
not grow with a blob.
"""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, BinaryIO, Final, final

from margo_supplychain.errors import (
    BudgetError,
    FetchError,
    MalformedError,
    SupplyChainError,
    TooSlowError,
    VerificationError,
)
from margo_supplychain.formats.closure import is_manifest
from margo_supplychain.storage.content_store import ContentStore
from margo_supplychain.storage.lock import DirectoryLock
from margo_supplychain.verify.artifact import first_of
from margo_supplychain.verify.content_checks import (
    ContentChecks,
    parts_of,
    tops_of,
)
from margo_supplychain.verify.parallel import for_each
from margo_supplychain.verify.turns import turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.transport.protocols import ContentSources, Source
    from margo_supplychain.verify.limits import Budget, Limits
    from margo_supplychain.verify.turns import Turn

LOCK_TIMEOUT: Final = 30.0  # seconds to wait for another fetch into one directory
_REGISTRY: Final = "oci://"


class Fetch:
    """One fetch: a record, where its content may lie, and where it goes.

    Args:
        record: verified.
        content: tells where to try, best first.
        to: directory of the layout to fill; made if need be.
        copies: returns small files that the device keeps, by the hex of their digest.
        platforms: of an index that names platforms, these alone; None for all.
    """

    def __init__(
        self,
        record: ReleaseRecord,
        content: ContentSources,
        to: Path,
        *,
        limits: Limits,
        budget: Budget,
        copies: Callable[[str], bytes | None],
        platforms: frozenset[str] | None = None,
    ) -> None:
        self._record = record
        self._sources = content
        self._limits = limits
        self._budget = budget
        self._copies = copies
        self._platforms = platforms
        self._total = 0
        self._last: set[int] = set()
        self.content = ContentStore.create(to, mode=0o700)
        self.digests: dict[Digest, Descriptor] = {}

    def run(self) -> None:
        """Fetch and check the whole closure; list it only when all of it is right.

        One fetch at a time works in a directory: what a killed one left is removed, and
        would else fill a small device. Parts of what this one wants are gone on with.
        """
        with DirectoryLock(self.content.directory, timeout=LOCK_TIMEOUT):
            self.content.clean()
            self._run()

    def _run(self) -> None:
        checks = ContentChecks(
            self._record, self.content, tick=self._look, platforms=self._platforms
        )
        wanted: list[tuple[Descriptor, _Places]] = []
        for top in tops_of(self._record):
            locations = locations_of(self._record, top)
            places = _Places(self._sources, locations, self._last)

            def read(what: Descriptor, places: _Places = places) -> bytes:
                self._count(what)
                self._get(what, places, self._budget.check)
                return checks.read(what)

            for part in parts_of(top, read, platforms=self._platforms):
                checks.add(part)
                if self._count(part.descriptor):
                    wanted.append((part.descriptor, places))
        self.content.remove_parts(but=self.digests)
        for_each(
            wanted,
            lambda one, go_on: self._get(*one, go_on),
            at_once=self._limits.parallel,
            look=self._budget.check,
        )
        self.content.remove_parts()
        checks.run()
        self._list()

    def _look(self, size: int) -> None:
        """Ask the budget while what is here is hashed; that costs no bytes."""
        del size
        self._budget.check()

    def _count(self, what: Descriptor) -> bool:
        """Take note of a part of the release; say whether it is new."""
        known = self.digests.get(what.digest)
        if known is not None:
            # check 6.4: the same bytes have one size
            if known.size != what.size:
                raise MalformedError(
                    f"{what.digest} has the sizes {known.size} and {what.size} at once"
                )
            return False
        # check 6.1: bounded number of blobs
        if len(self.digests) >= self._limits.blobs:
            raise BudgetError(f"the release has more than {self._limits.blobs} blobs")
        self._total += what.size
        # check 6.2: bounded size in all
        if self._total > self._limits.content:
            raise BudgetError(f"the release has more than {self._limits.content} bytes")
        self.digests[what.digest] = what
        return True

    def _get(
        self, what: Descriptor, places: _Places, go_on: Callable[[], None]
    ) -> None:
        """See that content is there and right; any thread, one for each digest."""

        def look(size: int) -> None:
            go_on()
            self._look(size)

        look(0)
        # check 6.3 (instead: here = self.content.has(what)): what is here is hashed
        here = self.content.keep_intact(what, tick=look)
        if not here:
            self._fetch(what, places, look)

    def _fetch(
        self, what: Descriptor, places: _Places, look: Callable[[int], None]
    ) -> None:
        if is_manifest(what) and self._copied(what):
            return
        problems: dict[int, SupplyChainError] = {}
        for (number, source), turn in turns(places.in_order(), self._budget):
            look(0)
            try:
                self._receive(what, source, look, turn)
            except (FetchError, VerificationError) as why:
                problems[number] = why
                places.lacked(source, why)
            else:
                places.had(number)
                return
        # In the order of the places, whoever was asked first.
        raise first_of([problems[number] for number in sorted(problems)], what)

    def _copied(self, what: Descriptor) -> bool:
        """Take what this device keeps already, if it is right: that asks nobody."""
        copy = self._copies(what.digest.hex)
        if copy is None:
            return False
        try:
            self.content.put(what, io.BytesIO(copy))
        except VerificationError:
            return False
        return True

    def _receive(
        self,
        what: Descriptor,
        source: Source,
        look: Callable[[int], None],
        turn: Turn,
    ) -> None:
        done = 0

        def open_at(start: int) -> AbstractContextManager[BinaryIO]:
            nonlocal done
            done = start
            return source.blob(what, start=start, tick=tick)

        def tick(size: int) -> None:
            nonlocal done
            done += size
            look(size)
            self._budget.spend(size)
            self._budget.report(str(what.digest), done, what.size)
            # check 6.6: nobody uses up the time of those who are asked after it
            turn.check(source.url)

        self.content.put_resumable(
            what, open_at, source=source.url, look=look, tick=tick
        )

    def _list(self) -> None:
        record = self._record
        self.content.add_reference(
            record.artifact,
            name=f"{record.name}:{record.version.tag}",
            artifact_type=record.artifact_type,
        )


def locations_of(record: ReleaseRecord, top: Descriptor) -> list[str]:
    """Return where the content below a top may lie, best first; each is a hint.

    A component lies in its own repository, and the package where the record says;
    whoever published may as well have put everything in one place.
    """
    own = [
        one.repository
        for one in record.components
        if one.content == top and one.repository.startswith(_REGISTRY)
    ]
    return list(dict.fromkeys([*own, *record.locations]))


@final
class _Places:
    """Where the content below one top is looked for.

    Who had something of it is asked first for the rest, so what lies together costs
    one round trip for each blob, wherever it lies. Who can't be reached is asked last,
    since finding that out again takes long; and so is who was too slow, or wrong.

    Args:
        content: tells where.
        locations: the record's hints.
        last: ids of the sources to ask last; shared by all tops.
    """

    def __init__(
        self, content: ContentSources, locations: Sequence[str], last: set[int]
    ) -> None:
        self._content = content
        self._locations = locations
        self._last = last
        self._sources: tuple[Source, ...] | None = None
        self._first = 0
        self._lock = threading.Lock()

    def in_order(self) -> list[tuple[int, Source]]:
        """Return each source with its place in the owner's order."""
        with self._lock:
            if self._sources is None:
                # Only now: what is here already needs no place at all.
                self._sources = tuple(self._content.sources(self._locations))
        first = self._first
        return sorted(
            enumerate(self._sources),
            key=lambda one: (id(one[1]) in self._last, one[0] != first),
        )

    def lacked(self, source: Source, why: SupplyChainError) -> None:
        """Ask this source last from now on, unless it only lacks something."""
        lacks_only = isinstance(why, FetchError) and not why.unreachable
        if not lacks_only or isinstance(why, TooSlowError):
            self._last.add(id(source))

    def had(self, number: int) -> None:
        """Ask this source first from now on."""
        self._first = number
