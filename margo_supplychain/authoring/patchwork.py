"""A damaged place and others that may have what it lost, read as one.

What signed metadata names is named by sha256, so it does not matter who has it: the
place itself under the right name, or under its digest where somebody wrote over the
name, or another copy. A file is taken from the first that has the right bytes.

    timestamp         the place's own, always: nothing here decides what is current
    roots             by the chain of signatures, from the root that is trusted on
    snapshot, roles   by the sha256 that timestamp and snapshot name
    target files      by the sha256 that roles sign
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

from margo_supplychain.authoring.named_files import NamedFiles
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    FetchError,
    FormatError,
    SupplyChainError,
    VerificationError,
)
from margo_supplychain.formats.tuf_metadata import (
    parse_root,
)
from margo_supplychain.storage.receive import read_exact
from margo_supplychain.verify.artifact import first_of
from margo_supplychain.verify.memory import Memory
from margo_supplychain.verify.workflow import Demand, Workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.names import TargetPath
    from margo_supplychain.transport.protocols import Source

_ROOT: Final = ".root.json"


@final
class Patchwork:
    """A place as it should be, unverified; implements `Source`.

    Args:
        place: what is damaged.
        others: who may have what it lost, best first.
        trusted: exact bytes of a root, from which the chain is followed.
        newest_root: the last root that the place shall have.
    """

    def __init__(
        self,
        place: Source,
        others: Sequence[Source],
        *,
        trusted: bytes,
        newest_root: int,
    ) -> None:
        self._place = place
        self._all = (place, *others)
        self._newest_root = newest_root
        first = Memory(root=trusted, publishers=None)
        self._chain = Workflow(first, demand=Demand.MARGO, limits=LIMITS)
        self._roots = {self._chain.root.version: trusted}
        self._named = NamedFiles()

    @property
    def url(self) -> str:
        """What the place is called in messages."""
        return self._place.url

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        """Return a metadata file; see `Source.metadata`."""
        if filename.endswith(_ROOT):
            return self._root(filename, limit)
        named = self._named.get(filename)
        if named is None:
            data = self._place.metadata(filename, limit=limit, tick=tick)
        else:
            data = self._right(named, filename, limit)
        self._named.learn(filename, data)
        return data

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
        problems: list[SupplyChainError] = []
        for one in self._all:
            try:
                with one.target(path, what, tick=tick) as stream:
                    data = read_exact(what, stream, subject=path)
            except (FetchError, VerificationError) as why:
                problems.append(why)
            else:
                yield io.BytesIO(data[start:])
                return
        raise first_of(problems, what)

    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[BinaryIO]:
        """Open content of the place; see `Source.blob`."""
        return self._place.blob(what, start=start, tick=tick)

    def _root(self, filename: str, limit: int) -> bytes:
        """Return a root: after the trusted one, the one that continues the chain."""
        version = int(filename.removesuffix(_ROOT))
        if version in self._roots:
            return self._roots[version]
        problems: list[SupplyChainError] = []
        for one in self._all if version <= self._newest_root else ():
            try:
                data = one.metadata(filename, limit=limit)
                if version > self._chain.root.version:
                    self._chain.update_root(data)
                elif parse_root(data, limit=limit).version != version:
                    continue
            except (FetchError, FormatError, VerificationError) as why:
                problems.append(why)
            else:
                self._roots[version] = data
                return data
        for problem in problems:
            if not (isinstance(problem, FetchError) and problem.missing):
                raise problem
        raise FetchError(
            f"{self.url} has no {filename}, and nobody else", url=self.url, missing=True
        )

    def _right(self, named: Descriptor, filename: str, limit: int) -> bytes:
        """Return the bytes that a name should have, from whoever has them.

        Raises:
            FetchError, VerificationError: nobody has; what the place itself says.
        """
        problems: list[SupplyChainError] = []
        for one in self._all:
            for read in (_by_name, _by_digest):
                try:
                    return read(one, filename, named, limit)
                except (FetchError, VerificationError) as why:
                    problems.append(why)
        raise first_of(problems, named)


def _by_name(place: Source, filename: str, named: Descriptor, limit: int) -> bytes:
    data = place.metadata(filename, limit=limit)
    return read_exact(named, io.BytesIO(data), subject=filename)


def _by_digest(place: Source, filename: str, named: Descriptor, limit: int) -> bytes:
    if named.size > limit:
        raise FetchError(f"{filename} is larger than {limit} bytes", url=place.url)
    with place.blob(named) as stream:
        return read_exact(named, stream, subject=filename)
