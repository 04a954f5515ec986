"""Content on its way into registries: what is there is skipped, and all is counted.

All parts of all manifests are found and asked for before the first one is sent: what
can't be done shows early. Blobs go several at once, manifests after all of them.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, cast, final

from margo_supplychain.storage.receive import read_exact
from margo_supplychain.verify.parallel import for_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from margo_supplychain.authoring.place import Progress
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.formats.closure import Part
    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.transport.protocols import Sink

AT_ONCE: Final = 4  # requests; a registry throttles who sends many more


class _Load(NamedTuple):
    sink: Sink
    release: Release
    part: Part
    tag: str | None

    @property
    def key(self) -> tuple[str, Digest]:
        return self.sink.url, self.part.descriptor.digest


@final
class Pushing:
    """What will be pushed, then what was.

    Args:
        progress: told of each part, by its digest; from several threads.

    `new` and `there` count blobs and manifests, each once for each place.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._blobs: dict[tuple[str, Digest], _Load] = {}
        self._manifests: list[_Load] = []
        self.new = 0
        self.there = 0

    def add(self, sink: Sink, release: Release, top: Descriptor, *, tag: str) -> None:
        """Take in a manifest and all that it names."""
        for part in release.parts_of(top):
            is_top = part.descriptor.digest == top.digest
            load = _Load(sink, release, part, tag if is_top else None)
            if part.role == "manifest":
                self._manifests.append(load)
            else:
                self._blobs.setdefault(load.key, load)

    def run(self) -> None:
        """Push what is not there: blobs first, several at once, then manifests.

        Raises:
            ConflictError: a tag was given to other bytes in the meantime.
            FetchError, StorageError: something can't be written, or read.
        """
        blobs = list(self._blobs.values())
        asked = blobs + list({one.key: one for one in self._manifests}.values())
        absent = self._absent(asked)
        self.new += len(absent)
        self.there += len(asked) - len(absent)

        def put(load: _Load, go_on: Callable[[], None]) -> None:
            with self._open(load, go_on) as told:
                load.sink.put_blob(load.part.descriptor, told)

        wanted = [one for one in blobs if one.key in absent]
        for_each(wanted, put, at_once=AT_ONCE, look=_nothing)
        for load in self._manifests:
            # It may be there, and its tag not.
            if load.tag is not None or load.key in absent:
                what = load.part.descriptor
                with self._open(load, _nothing) as told:
                    data = read_exact(what, told, subject=str(what.digest))
                load.sink.put_manifest(what, data, tag=load.tag)

    def _absent(self, loads: Sequence[_Load]) -> set[tuple[str, Digest]]:
        found: set[tuple[str, Digest]] = set()

        def ask(load: _Load, go_on: Callable[[], None]) -> None:
            go_on()
            if not load.sink.has_blob(load.part.descriptor):
                found.add(load.key)

        for_each(loads, ask, at_once=AT_ONCE, look=_nothing)
        return found

    @contextmanager
    def _open(self, load: _Load, go_on: Callable[[], None]) -> Iterator[BinaryIO]:
        what = load.part.descriptor

        def came(position: int) -> None:
            go_on()
            if self._progress is not None:
                self._progress(str(what.digest), position, what.size)

        with load.release.open(what) as stream:
            yield _Told(stream, came).as_binary()


def _nothing() -> None:
    """Go on: nobody can cancel a publication but by ending the process."""


class _Told(io.RawIOBase):
    """A stream that tells how far it was read."""

    def __init__(self, stream: BinaryIO, came: Callable[[int], None]) -> None:
        super().__init__()
        self._stream = stream
        self._tell = came
        self._position = 0

    def as_binary(self) -> BinaryIO:
        # typeshed's BinaryIO is nominal, and RawIOBase is not one.
        return cast("BinaryIO", self)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = self._stream.seek(offset, whence)
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        data = self._stream.read(-1 if size is None else size)
        self._came(len(data))
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # RawIOBase takes any buffer
        count: int = self._stream.readinto(buffer)  # type: ignore[attr-defined]  # BinaryIO does not name it
        self._came(count)
        return count

    def _came(self, size: int) -> None:
        self._position += size
        if size:
            self._tell(self._position)
