"""An OCI image layout as a place of content and of a whole trust repository.

`index.json` gives manifests their tags, as a registry does. `Layout` reads one wherever
its files lie; `LayoutSource` reads it from a directory. A layout that is not there, or
that lacks a part, as a copy that is half done, says nothing about what exists.
"""

from __future__ import annotations

import hashlib
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from margo_supplychain.errors import (
    FetchError,
    OciFormatError,
    StorageError,
    TooLargeError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import MANIFEST, MAX_MANIFEST, REFERENCE_NAME
from margo_supplychain.storage.content_store import blob_path, read_layout_index
from margo_supplychain.transport.bounded import read_at_most
from margo_supplychain.transport.local_files import open_content
from margo_supplychain.transport.tagged import TaggedSource

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from margo_supplychain.formats.oci import Entry

_MOVES: Final = 4  # of one tag, while it is read
_ALGORITHMS: Final = ("sha256:", "sha384:", "sha512:")


def identity(found: os.stat_result) -> tuple[int, ...]:
    """Return what tells a file from the one that had its name before."""
    return (
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


class Names:
    """What an `index.json` lists, by tag and by digest."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._tags: dict[str, dict[Descriptor, Entry]] = {}
        self._digests: dict[Digest, dict[tuple[str | None, Descriptor], Entry]] = {}
        for entry in entries:
            self._add(entry)

    def __iter__(self) -> Iterator[Entry]:
        """Yield every entry."""
        return chain.from_iterable(one.values() for one in self._digests.values())

    def tags(self) -> Iterator[str]:
        """Yield every tag once."""
        return iter(self._tags)

    def tagged(self, tag: str) -> tuple[Descriptor, ...]:
        """Return what has a tag: more than one thing only by mistake or malice."""
        return tuple(self._tags.get(tag, ()))

    def listed(self, digest: Digest) -> Descriptor | None:
        """Return the descriptor under which a digest is listed first."""
        return next(
            (one.descriptor for one in self._digests.get(digest, {}).values()), None
        )

    def put(self, entry: Entry) -> bool:
        """List something; its tag moves to it. Return whether that was news.

        What has no tag is listed only if its digest is not listed yet.
        """
        tag = entry.annotations.get(REFERENCE_NAME)
        if tag is None and entry.descriptor.digest in self._digests:
            return False
        there = self.tagged(tag) if tag is not None else ()
        if there == (entry.descriptor,):
            return False
        for one in there:
            self._drop(tag, one)
        self._add(entry)
        return True

    def remove(self, digest: Digest) -> int:
        """List nothing of this digest any more; return how many entries it had."""
        found = tuple(self._digests.get(digest, ()))
        for tag, one in found:
            self._drop(tag, one)
        return len(found)

    def _add(self, entry: Entry) -> None:
        what, tag = entry.descriptor, entry.annotations.get(REFERENCE_NAME)
        self._digests.setdefault(what.digest, {})[tag, what] = entry
        if tag is not None:
            self._tags.setdefault(tag, {})[what] = entry

    def _drop(self, tag: str | None, what: Descriptor) -> None:
        places = self._digests[what.digest]
        del places[tag, what]
        if not places:
            del self._digests[what.digest]
        if tag is not None:
            del self._tags[tag][what]
            if not self._tags[tag]:
                del self._tags[tag]


class Layout(Protocol):
    """An OCI image layout; implements `Tagged` over two ways to reach its files."""

    @property
    def url(self) -> str:
        """What it is called in messages."""

    def names(self, *, tick: Callable[[int], None] | None = None) -> Names:
        """Return what `index.json` lists now.

        Raises:
            FetchError: it is not there, or no layout.
        """

    def open_blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[BinaryIO]:
        """Open content by digest; see `Source.blob`."""

    def manifest(
        self,
        reference: str,
        *,
        limit: int = MAX_MANIFEST,
        tick: Callable[[int], None] | None = None,
    ) -> tuple[bytes, str]:
        """Return a manifest's bytes, compared with its digest; see `Tagged.manifest`.

        Raises:
            FetchError: not there, or damaged.
            OciFormatError: a tag that names two things, or a digest that is none.
        """
        # A tag of a layout may hold a colon, as `docker save` writes them.
        if reference.startswith(_ALGORITHMS):
            what = _unlisted(Digest.parse(reference), self.names(tick=tick))
            return self._read_manifest(what, limit, tick), what.media_type
        what = self._tagged(reference, tick)
        lost: FetchError | None = None
        for _ in range(_MOVES):
            if what.size > limit:
                raise TooLargeError(
                    f"{self.url} {reference} has {what.size} bytes, more than the "
                    f"limit of {limit}",
                    url=self.url,
                )
            try:
                return self._read_manifest(what, limit, tick), what.media_type
            except FetchError as why:
                if not why.missing:
                    raise
                lost = why
            # Whoever writes there may just have moved the tag, and tidied up.
            before, what = what, self._tagged(reference, tick)
            if what == before:
                break
        # The tag exists; a copy that is half done must not say otherwise.
        raise FetchError(
            f"{self.url} lists {reference}, and does not hold it", url=self.url
        ) from lost

    def _tagged(self, tag: str, tick: Callable[[int], None] | None) -> Descriptor:
        found = self.names(tick=tick).tagged(tag)
        if len(found) > 1:
            raise OciFormatError(
                f"{self.url} has {len(found)} manifests tagged {tag[:160]!r}",
                hint="name the one you mean by digest: @sha256:…",
            )
        if not found:
            raise FetchError(
                f"{self.url} has no tag {tag[:160]!r}", url=self.url, missing=True
            )
        return found[0]

    def _read_manifest(
        self, what: Descriptor, limit: int, tick: Callable[[int], None] | None
    ) -> bytes:
        with self.open_blob(what, tick=tick) as stream:
            data = read_at_most(stream, limit, url=self.url, tick=tick)
        if hashlib.new(what.digest.algorithm, data).hexdigest() != what.digest.hex:
            raise FetchError(
                f"{self.url} does not have {what.digest.short} as its digest says",
                url=self.url,
            )
        return data


class DirectoryLayout(Layout):
    """An OCI image layout in a directory that anybody may have written."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._known: tuple[object, Names] | None = None

    @property
    def url(self) -> str:
        """The layout's path, as `oci-layout:PATH`."""
        return f"oci-layout:{self.directory}"

    def names(self, *, tick: Callable[[int], None] | None = None) -> Names:  # noqa: ARG002 - files don't wait
        """Return what `index.json` lists; it is parsed again when it changed."""
        # Before it is read: what is written meanwhile is read the next time.
        now = self._identity()
        if now is not None and self._known is not None and self._known[0] == now:
            return self._known[1]
        try:
            found = Names(read_layout_index(self.directory).manifests)
        except StorageError as why:
            raise FetchError(str(why), url=self.url) from why
        except OciFormatError as why:
            # A stick that is not plugged in, or one that is still being written.
            text = str(why)
            if not self.directory.is_dir():
                text = f"{self.directory} is not a directory"
            raise FetchError(text, url=self.url, unreachable=True) from why
        self._known = (now, found)
        return found

    def forget(self) -> None:
        """Read `index.json` again the next time."""
        self._known = None

    def remember(self, names: Names) -> None:
        """Take this for what `index.json` lists, as it was just written."""
        self._known = (self._identity(), names)

    def open_blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,  # noqa: ARG002 - files don't wait
    ) -> AbstractContextManager[BinaryIO]:
        """Open content by digest; see `Source.blob`."""
        place = blob_path(self.directory, what.digest)
        return open_content(place, what, start=start, root=self.directory)

    def _identity(self) -> object:
        try:
            return [
                identity((self.directory / name).lstat())
                for name in ("index.json", "oci-layout")
            ]
        except OSError:
            return None


class LayoutSource(TaggedSource):
    """Unverified bytes of an OCI image layout on disk; implements `Source`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(DirectoryLayout(directory))
        self.directory = directory


def _unlisted(digest: Digest, names: Names) -> Descriptor:
    # A component's manifest is often listed only inside another index.
    listed = names.listed(digest)
    media_type = MANIFEST if listed is None else listed.media_type
    return Descriptor(media_type=media_type, digest=digest, size=MAX_MANIFEST)
