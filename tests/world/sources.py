"""Served files in memory, and a source that counts what it is asked for."""

from __future__ import annotations

import copy
import io
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Self

from margo_supplychain.errors import FetchError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.names import TargetPath


@dataclass
class Files:
    """Everything that a web server would serve."""

    metadata: dict[str, bytes] = field(default_factory=dict)
    targets: dict[tuple[str, str], bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def copy(self) -> Self:
        """Return what is served now, to be served again later."""
        return copy.deepcopy(self)


class MemorySource:
    """A `Source` over `Files`; `asked` lists every request, `down` cuts the wire."""

    url = "memory:"

    def __init__(self, files: Files) -> None:
        self.files = files
        self.asked: list[str] = []
        self.down = False
        self.forbidden = False

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.down:
            raise FetchError("the wire is cut", url=self.url, unreachable=True)
        if self.forbidden:
            raise FetchError("forbidden", url=self.url, status=403)

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        self._ask(filename)
        data = self.files.metadata.get(filename)
        if data is None:
            raise FetchError(f"no {filename}", url=self.url, status=404, missing=True)
        if len(data) > limit:
            raise TooLargeError(f"{filename} is above {limit} bytes", url=self.url)
        if tick is not None:
            tick(len(data))
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
        del tick
        self._ask(path)
        data = self.files.targets.get((path, what.digest.hex))
        if data is None:
            raise FetchError(f"no {path}", url=self.url, status=404, missing=True)
        yield io.BytesIO(data[start:])

    @contextmanager
    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        del tick
        self._ask(str(what.digest))
        data = self.files.blobs.get(str(what.digest))
        if data is None:
            raise FetchError("no such blob", url=self.url, status=404, missing=True)
        yield io.BytesIO(data[start:])

    def sources(self, locations: object) -> tuple[MemorySource, ...]:
        """Be the `ContentSources` too."""
        del locations
        return (self,)
