"""What every kind of device makes of a new root, before anything of it is written."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, final

from margo_supplychain.authoring.checks import unfollowed
from margo_supplychain.authoring.lying import is_illegible, previous_timestamp
from margo_supplychain.authoring.overlay import Behind, Overlay, Staged, Until
from margo_supplychain.authoring.rehearsal import Device, rehearse_root
from margo_supplychain.authoring.state import AuthorWalk, no_copies
from margo_supplychain.errors import FetchError, SupplyChainError, VerificationError
from margo_supplychain.verify.clock import StoppedClock
from margo_supplychain.verify.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tuf.api.metadata import Root

    from margo_supplychain.authoring.healing import Beginning
    from margo_supplychain.authoring.place import Place
    from margo_supplychain.authoring.state import State
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.names import TargetPath
    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.transport.protocols import Source


def judged(
    start: Beginning,
    overlay: Overlay,
    chain: Sequence[RoleFile[Root]],
    devices: Sequence[Device],
    state: State | None,
) -> list[str]:
    """Let every kind of device judge the result; return what it does not follow.

    Raises:
        SupplyChainError: one would refuse it, or an application that it follows now.
    """
    fresh = Device("a fresh device", Memory(root=start.first_root, publishers=None))
    everyone = [fresh]
    for one in chain[-2:]:
        memory = Memory(root=one.data, publishers=None)
        everyone.append(Device(f"a fresh device on {one.label}", memory))
    everyone += devices
    if start.store is not None:
        everyone.append(Device("your memory of it", start.store.load()))
    rehearse_root(overlay, everyone, version=chain[-1].version, now=start.now)
    heard = _Heard(overlay, start.place)
    walk = AuthorWalk(fresh.memory, no_copies, heard, clock=StoppedClock(start.now))
    walk.top_level()
    problems = unfollowed(walk)
    for problem in problems:
        if problem.inconclusive and heard.silence is not None:
            raise FetchError(problem.text, url=start.place.url, unreachable=True)
    found = [problem.text for problem in problems]
    if state is None:
        return found
    # Who was refused before must not keep the others from a new root.
    known = {_subject(problem.text) for problem in unfollowed(state.walk)}
    for text in found:
        if _subject(text) not in known:
            raise VerificationError(
                text, hint="nothing was written: devices would refuse the result"
            )
    return found


@final
class _Heard(Behind):
    """A source that takes note when its place does not answer; implements `Source`.

    Args:
        source: unverified.
        place: what lies behind it.

    `silence` is why, if it ever did not: then nobody knows what devices would find.
    """

    def __init__(self, source: Source, place: Place) -> None:
        super().__init__(source)
        self._place = place
        self.silence: FetchError | None = None

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        """Return a metadata file; see `Source.metadata`."""
        with self._listening():
            return self._source.metadata(filename, limit=limit, tick=tick)

    @contextmanager
    def target(
        self,
        path: TargetPath,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        """Open a target file; see `Source.target`."""
        with (
            self._listening(),
            super().target(path, what, start=start, tick=tick) as stream,
        ):
            yield stream

    @contextmanager
    def _listening(self) -> Iterator[None]:
        try:
            yield
        except FetchError as why:
            if not is_illegible(self._place, why):
                self.silence = why
            raise


def _subject(text: str) -> str:
    return text.partition(":")[0]


def what_devices_hold(
    start: Beginning, chain: Sequence[RoleFile[Root]]
) -> Iterator[Device]:
    """Yield devices that hold what lies in a place now, as far as they accept it.

    Args:
        start: what is at hand.
        chain: verified roots; devices are on those before the last.
    """
    place = start.place
    sources: list[tuple[str, Source]] = [("what lies there now", place.source)]
    if previous := previous_timestamp(place):
        overlay = Overlay(Staged(timestamp=previous), place.source)
        sources.append(("the previous state", overlay))
    for root in chain[:-1][-2:]:
        for what, source in sources:
            memory = Memory(root=root.data, publishers=None)
            walk = AuthorWalk(
                memory,
                no_copies,
                Until(source, root.version),
                clock=StoppedClock(start.now),
            )
            try:
                walk.top_level()
                found = walk.workflow.complete()
            except SupplyChainError:
                found = walk.workflow.memory
            yield Device(f"a device with {what}", found)
