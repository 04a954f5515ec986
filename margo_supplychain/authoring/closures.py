"""Copying what a signed manifest names: only what is missing, several blobs at once.

Every byte is checked against the digest that led to it while it goes from a source to a
sink, parts before what names them. What the sink says it has is believed here, as it is
only a matter of work: devices, and `repo check` where content lies in files, hash it.

Example:
    >>> with Copier(budget) as copier:
    ...     copier.copy(record.artifact, "1.0.0", shelf, lambda: [source])
    >>> copier.counts.new, copier.counts.there
    (3, 0)
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self, final

from margo_supplychain.authoring.attested import has_own_tag, put_envelope
from margo_supplychain.authoring.place_checks import has_tag
from margo_supplychain.errors import CancelledError, FetchError, VerificationError
from margo_supplychain.formats.references import SCHEME
from margo_supplychain.formats.registry_form import content_tag
from margo_supplychain.storage.receive import check_stream, read_exact
from margo_supplychain.transport.bounded import BoundedStream
from margo_supplychain.verify.artifact import first_of
from margo_supplychain.verify.content_checks import parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import BinaryIO

    from margo_supplychain.authoring.placement import Spot
    from margo_supplychain.errors import SupplyChainError
    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.transport.protocols import ContentSources, Sink, Source
    from margo_supplychain.verify.limits import Budget

    Sources = Callable[[], Iterable[Source]]
    """Where to try, best first; asked only when something is missing."""

AT_ONCE: Final = 4


@dataclass(slots=True)
class Counts:
    """What was copied so far.

    Args:
        new, there: blobs and manifests that were copied, and that lay there already.
        size: bytes of the new ones.
        names: digests of the new ones.
    """

    new: int = 0
    there: int = 0
    size: int = 0
    names: list[str] = field(default_factory=list)


@final
class Copier:
    """Copies closures; a context manager, since it owns threads.

    Args:
        budget: of the whole work.
        at_once: how many blobs travel at the same time.
        rehash: whether what lies in files is read again, and replaced if damaged.
    """

    def __init__(
        self, budget: Budget, *, at_once: int = AT_ONCE, rehash: bool = False
    ) -> None:
        self.counts = Counts()
        self._rehash = rehash
        self._budget = budget
        self._pool = ThreadPoolExecutor(max_workers=at_once)
        self._lock = threading.Lock()
        self._stopped = False
        # What one sink was found, or made, to hold in this run.
        self._held: set[tuple[str, Digest]] = set()
        # Registries that did not answer; nobody waits for one twice.
        self.silent: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped = True
        self._pool.shutdown(cancel_futures=True)

    def copy(
        self, top: Descriptor, tag: str | None, sink: Sink, sources: Sources
    ) -> None:
        """Copy a manifest and all that it names, and tag it.

        Raises:
            FetchError: no source has a part, or the sink can't be reached.
            VerificationError: no source has the right bytes of a part.
            ConflictError: the tag names something else.
            StorageError: the sink can't be written.
        """
        manifests: dict[Digest, bytes] = {}

        def read(what: Descriptor) -> bytes:
            data = self._manifest(what, sink, sources)
            manifests[what.digest] = data
            return data

        blobs: list[Descriptor] = []
        named: list[Descriptor] = []
        for part in parts_of(top, read):
            what = part.descriptor
            (named if what.digest in manifests else blobs).append(what)
        self._copy_blobs(blobs, sink, sources)
        # Where content has tags by digest, what an index names needs one as well: no
        # registry keeps it else (docker-registry's garbage-collect --delete-untagged).
        by_digest = tag == content_tag(top.digest)
        for what in named:
            data = manifests[what.digest]
            other = content_tag(what.digest) if by_digest else None
            self._put_manifest(what, data, tag if what == top else other, sink)

    def copy_envelope(self, what: Descriptor, sink: Sink, sources: Sources) -> None:
        """Copy an attestation, and give it the tag that keeps it.

        Raises:
            FetchError, VerificationError, ConflictError, StorageError: as `copy`.
        """
        self._look()
        there = self._is_there(what, sink)
        if there and has_own_tag(sink, what):
            self._count(what, sink, new=False)
            return

        def besides() -> Iterator[Source]:
            # What has lost only its tag need not travel.
            yield from (sink,) if there else ()
            yield from sources()

        problems: list[SupplyChainError] = []
        for source in self._answering(besides, problems):
            try:
                with source.blob(what, tick=self._look) as stream:
                    put_envelope(sink, what, self._counted(what, stream))
            except (FetchError, VerificationError) as why:
                self._learn(source, why)
                problems.append(why)
            else:
                self._count(what, sink, new=True)
                return
        raise first_of(problems, what)

    def _copy_blobs(
        self, blobs: list[Descriptor], sink: Sink, sources: Sources
    ) -> None:
        pending = [
            self._pool.submit(self._copy_blob, what, sink, sources)
            for what in blobs
            if (sink.url, what.digest) not in self._held
        ]
        try:
            for one in as_completed(pending):
                one.result()
        except BaseException:
            # The others end at their next piece; the first reason is what is said.
            self._stopped = True
            for one in pending:
                one.cancel()
            wait(pending)
            self._stopped = False
            raise

    def _copy_blob(self, what: Descriptor, sink: Sink, sources: Sources) -> None:
        self._look()
        if self._is_there(what, sink):
            self._count(what, sink, new=False)
            return
        problems: list[SupplyChainError] = []
        for source in self._answering(sources, problems):
            self._look()
            try:
                with source.blob(what, tick=self._look) as stream:
                    sink.put_blob(what, self._counted(what, stream))
            except (FetchError, VerificationError) as why:
                self._learn(source, why)
                problems.append(why)
            else:
                self._count(what, sink, new=True)
                return
        raise first_of(problems, what)

    def _manifest(self, what: Descriptor, sink: Sink, sources: Sources) -> bytes:
        """Return a manifest's exact bytes, from the sink if it has them."""
        problems: list[SupplyChainError] = []
        if sink.has_blob(what):
            try:
                return _read(what, sink, self._look)
            except (FetchError, VerificationError) as why:
                problems.append(why)
        for source in self._answering(sources, problems):
            try:
                return _read(what, source, self._look)
            except (FetchError, VerificationError) as why:
                self._learn(source, why)
                problems.append(why)
        raise first_of(problems, what)

    def _answering(
        self, sources: Sources, problems: list[SupplyChainError]
    ) -> Iterator[Source]:
        for source in sources():
            at = place_of(source.url)
            if at not in self.silent:
                yield source
                continue
            problems.append(
                FetchError(
                    f"{at} did not answer before", url=source.url, unreachable=True
                )
            )

    def _learn(self, source: Source, why: SupplyChainError) -> None:
        if not source.url.startswith(SCHEME) or not isinstance(why, FetchError):
            return
        at = place_of(source.url)
        if why.unreachable and place_of(why.url) == at:
            with self._lock:
                self.silent.add(at)

    def _put_manifest(
        self, what: Descriptor, data: bytes, tag: str | None, sink: Sink
    ) -> None:
        if tag is None and (sink.url, what.digest) in self._held:
            return
        there = self._is_there(what, sink)
        # What lacks the tag that keeps it is as good as lost.
        whole = there and not (self._rehash and _has_lost_tag(what, tag, sink))
        # With a tag also when it is there: the tag may not be.
        if tag is not None or not there:
            sink.put_manifest(what, data, tag=tag)
        self._count(what, sink, new=not whole)

    def _is_there(self, what: Descriptor, sink: Sink) -> bool:
        if not sink.has_blob(what):
            return False
        if not self._rehash or sink.url.startswith(SCHEME):
            return True
        try:
            with sink.blob(what, tick=self._look) as stream:
                check_stream(what, stream, subject=str(what.digest), tick=self._look)
        except (FetchError, VerificationError):
            return False
        return True

    def _counted(self, what: Descriptor, stream: BinaryIO) -> BinaryIO:
        """Return the stream, with its bytes counted and told as they pass."""
        done = 0
        name = str(what.digest)
        fill = into(stream)

        def read_into(buffer: memoryview) -> int:
            nonlocal done
            self._look()
            count = fill(buffer)
            done += count
            with self._lock:
                self._budget.spend(count)
            self._budget.report(name, done, what.size)
            return count

        return BoundedStream(read_into, left=what.size, url=name).as_binary()

    def _count(self, what: Descriptor, sink: Sink, *, new: bool) -> None:
        with self._lock:
            key = sink.url, what.digest
            if key not in self._held:
                self._held.add(key)
                self.counts.new += new
                self.counts.there += not new
                if new:
                    self.counts.size += what.size
                    self.counts.names.append(str(what.digest))

    def _look(self, size: int = 0) -> None:
        del size
        if self._stopped:
            raise CancelledError("another part could not be copied")
        self._budget.check()


@final
class Routes:
    """Where content comes from and goes to.

    Args:
        copier: does the work.
        target: takes what goes beside the trust metadata.
        near: is asked before what records say.
        far: is asked after what records say.
        content: opens what records say.
        open_repository: opens `oci://…` to put content there.
    """

    def __init__(
        self,
        copier: Copier,
        target: Sink,
        *,
        near: Sequence[Source] = (),
        far: Sequence[Source] = (),
        content: ContentSources | None,
        open_repository: Callable[[str], Sink] | None,
    ) -> None:
        self.counts = copier.counts
        self._copier = copier
        self._target = target
        self._near = tuple(near)
        self._far = tuple(far)
        self._content = content
        self._open = open_repository
        self._opened: dict[str, Sink] = {}

    @property
    def silent(self) -> int:
        """How many registries did not answer so far."""
        return len(self._copier.silent)

    def copy(self, spot: Spot) -> None:
        """Copy one manifest with all that it names to its spot; see `Copier.copy`."""
        self._copier.copy(
            spot.what,
            spot.tag,
            self.sink(spot),
            lambda: self._sources(spot.locations),
        )

    def copy_envelope(self, what: Descriptor) -> None:
        """Copy an attestation between the trust metadata; see `Copier.copy_envelope`.

        It lies in trust repositories alone: nobody else is asked.
        """
        self._copier.copy_envelope(
            what, self._target, lambda: (*self._near, *self._far)
        )

    def sink(self, spot: Spot) -> Sink:
        """Return what takes a spot."""
        if spot.repository is None:
            return self._target
        if self._open is None:
            raise TypeError("a copy to a registry opens repositories of content")
        if spot.repository not in self._opened:
            self._opened[spot.repository] = self._open(spot.repository)
        return self._opened[spot.repository]

    def elsewhere(self, locations: Sequence[str]) -> Sequence[Source]:
        """Return what can be asked of these locations; nothing is no error here."""
        if self._content is None or not locations:
            return ()
        try:
            return self._content.sources(locations)
        except FetchError:
            return ()

    def close(self) -> None:
        """Close what was opened here."""
        for one in self._opened.values():
            one.close()

    def _sources(self, locations: Sequence[str]) -> Iterator[Source]:
        yield from self._near
        yield from self.elsewhere(locations)
        yield from self._far


def place_of(url: str) -> str:
    """Return who answers for a URL: a registry for all its repositories."""
    for scheme in (SCHEME, "https://", "http://"):
        if url.startswith(scheme):
            return SCHEME + url.removeprefix(scheme).partition("/")[0].lower()
    return url.rstrip("/")


def into(stream: BinaryIO) -> Callable[[memoryview], int]:
    """Return what fills a buffer from a stream, without a copy if the stream can."""
    fill: Callable[[memoryview], int] | None = getattr(stream, "readinto", None)
    if fill is not None:
        return fill

    def by_copy(buffer: memoryview) -> int:
        piece = stream.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    return by_copy


def _has_lost_tag(what: Descriptor, tag: str | None, sink: Sink) -> bool:
    if tag is None or tag != content_tag(what.digest):
        return False
    return not has_tag(sink, tag, what)


def _read(what: Descriptor, source: Source, tick: Callable[[int], None]) -> bytes:
    with source.blob(what, tick=tick) as stream:
        return read_exact(what, stream, subject=f"manifest {what.digest.short}")
