"""Content on its way into registries: what is there is skipped, and all is counted.

All parts of all manifests are found and asked for before the first one is sent: what
can't be done shows early.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast, final

from margo_supplychain.storage.receive import read_exact

if TYPE_CHECKING:
    from margo_supplychain.authoring.place import Progress
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.formats.closure import Part
    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.transport.protocols import Sink


class _Load(NamedTuple):
    sink: Sink
    release: Release
    part: Part
    tag: str | None


@final
class Pushing:
    """What will be pushed, then what was.

    Args:
        progress: told of each part, by its digest.

    `new` and `there` count blobs and manifests, each once for each place.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._loads: list[_Load] = []
        self._known: set[tuple[str, Digest]] = set()
        self.new = 0
        self.there = 0

    def add(self, sink: Sink, release: Release, top: Descriptor, *, tag: str) -> None:
        """Take in what a place lacks of a manifest and all that it names."""
        for part in release.parts_of(top):
            what = part.descriptor
            is_top = what.digest == top.digest
            is_known = (sink.url, what.digest) in self._known
            is_there = not is_known and sink.has_blob(what)
            self._known.add((sink.url, what.digest))
            self.there += is_there
            self.new += not (is_known or is_there)
            # The manifest is put in any case: it may be there without its tag.
            if is_top or not (is_known or is_there):
                self._loads.append(_Load(sink, release, part, tag if is_top else None))

    def run(self) -> None:
        """Push it.

        Raises:
            ConflictError: a tag was given to other bytes in the meantime.
            FetchError, StorageError: something can't be written, or read.
        """
        for load in self._loads:
            what = load.part.descriptor
            with load.release.open(what) as stream:
                told = _Told(stream, what, self._progress)
                if load.part.role == "manifest":
                    data = read_exact(what, told.as_binary(), subject=str(what.digest))
                    load.sink.put_manifest(what, data, tag=load.tag)
                else:
                    load.sink.put_blob(what, told.as_binary())


class _Told(io.RawIOBase):
    """A stream that tells how far it was read."""

    def __init__(
        self, stream: BinaryIO, what: Descriptor, progress: Progress | None
    ) -> None:
        super().__init__()
        self._stream = stream
        self._what = what
        self._progress = progress
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
        if self._progress is not None and size:
            self._progress(str(self._what.digest), self._position, self._what.size)
