"""A registry in memory that counts what it is asked and misbehaves on demand."""

from __future__ import annotations

import hashlib
import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from margo_supplychain.errors import FetchError, ManifestRefusedError, TooLargeError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.oci import MAX_MANIFEST, Manifest, parse_manifest
from margo_supplychain.storage.receive import read_exact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from margo_supplychain.formats.digests import Descriptor


class MemoryRegistry:
    """Implements `TaggedWriter`; `asked` lists every call that goes over the wire.

    `refuses` is told each manifest, `meddle` each tag after it was put.
    """

    url = "oci://registry.example/acme/trust"

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.tagged: dict[str, str] = {}
        self.asked: list[str] = []
        self.refuses: Callable[[Manifest], bool] = lambda _: False
        self.meddle: Callable[[str], None] = lambda _: None
        self.down = False

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.down:
            raise FetchError("the wire is cut", url=self.url, unreachable=True)

    def manifest(
        self,
        reference: str,
        *,
        limit: int = MAX_MANIFEST,
        tick: Callable[[int], None] | None = None,
    ) -> tuple[bytes, str]:
        self._ask(f"manifest {reference}")
        data = self.manifests.get(self.tagged.get(reference, reference))
        if data is None:
            raise FetchError(f"no {reference}", url=self.url, status=404, missing=True)
        if len(data) > limit:
            raise TooLargeError(f"{reference} is above {limit} bytes", url=self.url)
        if tick is not None:
            tick(len(data))
        return data, "text/plain"

    @contextmanager
    def open_blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        del tick
        self._ask(f"blob {what.digest.short} {what.media_type}")
        data = self.blobs.get(str(what.digest))
        if data is None:
            raise FetchError("no blob", url=self.url, status=404, missing=True)
        yield io.BytesIO(data[start:])

    def has_blob(self, what: Descriptor) -> bool:
        self._ask(f"has {what.digest.short}")
        return str(what.digest) in self.blobs.keys() | self.manifests.keys()

    def put_blob(
        self,
        what: Descriptor,
        data: BinaryIO,
        *,
        mount_from: Sequence[str] = (),
        tick: Callable[[int], None] | None = None,
    ) -> bool:
        del mount_from, tick
        self._ask(f"put blob {what.digest.short}")
        is_new = str(what.digest) not in self.blobs
        self.blobs[str(what.digest)] = read_exact(what, data, subject="blob")
        return is_new

    def put_manifest(
        self, data: bytes, media_type: str, *, tag: str | None = None
    ) -> Digest:
        self._ask(f"put manifest {tag}")
        found = parse_manifest(data)
        if isinstance(found, Manifest):
            if self.refuses(found):
                raise ManifestRefusedError("MANIFEST_INVALID", url=self.url, status=400)
            # As real ones do: what is named must be there.
            for what in (found.config, *(layer.descriptor for layer in found.layers)):
                assert str(what.digest) in self.blobs, what
        assert media_type == found.media_type
        digest = Digest("sha256", hashlib.sha256(data).hexdigest())
        self.manifests[str(digest)] = data
        if tag is not None:
            self.tagged[tag] = str(digest)
            self.meddle(tag)
        return digest

    def tags(self, *, most: int = 10_000) -> Iterator[str]:
        del most
        self._ask("tags")
        return iter(tuple(self.tagged))

    def delete_manifest(self, digest: Digest) -> None:
        self._ask(f"delete {digest.short}")
        del self.manifests[str(digest)]
        self.tagged = {k: v for k, v in self.tagged.items() if v != str(digest)}
