"""Looking whether the content of releases is there: files are hashed, registries asked.

What lies in files is hashed, every byte, and judged as a device does. A registry is
asked for each manifest, which is compared with its digest, and for the presence and
size of each blob: reading all of it would cost what devices pay, and they hash it.

Example:
    >>> from margo_supplychain.transport.opening import open_sink
    >>> content = look_at(open_sink(source.directory), open_repository=open_sink)
    >>> content.begin(set())
    >>> list(content.problems(record)), content.facts()
    ([], {'blobs': 3})
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol, final

from margo_supplychain.authoring.place_checks import has_tag, no_tag
from margo_supplychain.authoring.placement import Placement
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    FetchError,
    OciFormatError,
    SupplyChainError,
    VerificationError,
)
from margo_supplychain.formats.references import SCHEME, registry_tag
from margo_supplychain.formats.registry_form import content_tag
from margo_supplychain.storage.content_store import ContentStore
from margo_supplychain.storage.receive import check_stream, read_exact
from margo_supplychain.transport.directory import DirectorySink
from margo_supplychain.transport.layout_sink import LayoutSink
from margo_supplychain.transport.tagged_sink import TaggedSink
from margo_supplychain.verify.artifact import first_of
from margo_supplychain.verify.content_checks import check_stored, parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from margo_supplychain.authoring.placement import Mirrored, Spot
    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.transport.protocols import Shelf


class ContentLook(Protocol):
    """How `checks` looks at content."""

    def begin(self, publishers: set[str]) -> None:
        """Prepare for the releases of these publishers.

        Raises:
            SupplyChainError: nothing can be looked at.
        """

    def problems(self, record: ReleaseRecord) -> Iterator[SupplyChainError]:
        """Yield what is wrong with the content of a verified record."""

    def facts(self) -> dict[str, object]:
        """Return what was looked at."""


def look_at(
    shelf: Shelf,
    *,
    open_repository: Callable[[str], Shelf],
    mirrored: Mirrored | None = None,
) -> ContentLook:
    """Return how the content of a place is looked at.

    Args:
        shelf: where the trust metadata lies.
        open_repository: opens `oci://…`.
        mirrored: the owner's map; see `AskedContent`.
    """
    if isinstance(shelf, DirectorySink | LayoutSink):
        return HashedContent(shelf.directory)
    return AskedContent(shelf, open_repository=open_repository, mirrored=mirrored)


@final
class HashedContent:
    """Content in an OCI image layout on disk, every byte hashed.

    Args:
        directory: the layout, or a repository with one beside its metadata.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._store: ContentStore | None = None
        self._hashed: set[Digest] = set()
        self._elsewhere: set[Digest] = set()

    def begin(self, publishers: set[str]) -> None:
        """Open the layout; see `ContentLook.begin`."""
        del publishers
        self._store = ContentStore.open(self._directory)

    def problems(self, record: ReleaseRecord) -> Iterator[SupplyChainError]:
        """Yield the first problem of a release; see `ContentLook.problems`."""
        store = self._store or ContentStore.open(self._directory)
        # A component may lie in its own repository instead, named by digest.
        elsewhere = frozenset(
            one.content.digest
            for one in record.components
            if not store.has(one.content)
        )
        self._elsewhere |= elsewhere
        try:
            check_stored(
                record, store, limits=LIMITS, elsewhere=elsewhere, hashed=self._hashed
            )
        except SupplyChainError as why:
            yield why

    def facts(self) -> dict[str, object]:
        """Return how much was hashed; see `ContentLook.facts`."""
        found: dict[str, object] = {"blobs": len(self._hashed)}
        if self._elsewhere:
            found["components elsewhere"] = len(self._elsewhere)
        return found


@final
class AskedContent:
    """Content in registries, or in a tar.

    Args:
        shelf: where the trust metadata lies.
        open_repository: opens `oci://…`.
        mirrored: the owner's map; what it maps is asked there alone.
    """

    def __init__(
        self,
        shelf: Shelf,
        *,
        open_repository: Callable[[str], Shelf],
        mirrored: Mirrored | None = None,
    ) -> None:
        self._shelf = shelf
        self._open = open_repository
        self._opened: dict[str, Shelf] = {}
        self._hashes = not shelf.url.startswith(SCHEME)
        self._placement = Placement(shelf.url, shelf.url, mirrored=mirrored)
        self._found: set[tuple[str, Digest]] = set()
        self._elsewhere: set[Digest] = set()

    def begin(self, publishers: set[str]) -> None:
        """Learn whose names to expect; see `ContentLook.begin`."""
        if len(publishers) == 1:
            self._placement.infer_vendor()

    def problems(self, record: ReleaseRecord) -> Iterator[SupplyChainError]:
        """Yield every part that is missing or wrong; see `ContentLook.problems`."""
        for number, spot in enumerate(self._placement.spots(record)):
            places = self._places(record, spot)
            if number and self._hashes and not self._shelf.has_blob(spot.what):
                # A component in its own repository, as beside files.
                self._elsewhere.add(spot.what.digest)
                continue
            try:
                yield from self._missing(
                    spot.what, places, kept=self._is_kept_here(record, spot)
                )
                yield from self._unnamed(record, spot)
            except (FetchError, VerificationError) as why:
                yield why

    def _is_kept_here(self, record: ReleaseRecord, spot: Spot) -> bool:
        """Say whether tags by digest keep a spot: beside metadata in a registry."""
        if spot.repository is not None or self._hashes:
            return False
        # Whoever put it there by its own name has given it a tag.
        is_named = spot.home == self._shelf.url
        return not (is_named or self._placement.is_foreign(record, spot))

    def _unnamed(self, record: ReleaseRecord, spot: Spot) -> Iterator[FetchError]:
        """Yield what lost its name to something else: a clean-up would remove it.

        What was adopted under another tag has none of ours, and needs none.
        """
        place = self._opened.get(spot.repository or "")
        if not isinstance(place, TaggedSink) or self._placement.is_foreign(
            record, spot
        ):
            return
        try:
            found = place.resolve(registry_tag(spot.tag))
        except FetchError as why:
            if not why.missing:
                raise
            return
        except OciFormatError:
            return
        what = spot.what
        beside = content_tag(what.digest)
        if found.digest != what.digest and not has_tag(self._shelf, beside, what):
            yield FetchError(
                f"{place.url}:{spot.tag[:160]} names {found.digest.short} and not the "
                f"signed {what.digest.short}, which the next clean-up there may remove",
                url=place.url,
                missing=True,
            )

    def facts(self) -> dict[str, object]:
        """Return how much was asked for; see `ContentLook.facts`."""
        found: dict[str, object] = {"blobs": len({one for _, one in self._found})}
        if not self._hashes:
            found["looked at"] = "presence and size"
        if self._elsewhere:
            found["components elsewhere"] = len(self._elsewhere)
        return found

    def _places(self, record: ReleaseRecord, spot: Spot) -> list[Shelf]:
        if self._hashes:
            return [self._shelf]
        urls = self._placement.looked_for(record, spot)
        for url in urls:
            if url not in self._opened:
                is_beside = url == self._shelf.url
                self._opened[url] = self._shelf if is_beside else self._open(url)
        return [self._opened[url] for url in urls]

    def _missing(
        self, top: Descriptor, places: Sequence[Shelf], *, kept: bool
    ) -> Iterator[SupplyChainError]:
        for part in parts_of(top, lambda what: self._read(what, places)):
            what = part.descriptor
            if part.role != "manifest":
                problem = self._look_for(what, places)
                if problem is not None:
                    yield problem
            elif kept and not has_tag(self._shelf, content_tag(what.digest), what):
                yield no_tag(self._shelf, str(what.digest))

    def _read(self, what: Descriptor, places: Sequence[Shelf]) -> bytes:
        """Return the exact bytes of a manifest from the first place that has them."""
        problems: list[SupplyChainError] = []
        for place in places:
            try:
                with place.blob(what) as stream:
                    data = read_exact(what, stream, subject=str(what.digest))
            except (FetchError, VerificationError) as why:
                problems.append(why)
            else:
                self._found.add((place.url, what.digest))
                return data
        raise first_of(problems, what)

    def _look_for(
        self, what: Descriptor, places: Sequence[Shelf]
    ) -> SupplyChainError | None:
        problems: list[SupplyChainError] = []
        for place in places:
            if (place.url, what.digest) in self._found:
                return None
            try:
                self._require(what, place)
            except (FetchError, VerificationError) as why:
                problems.append(why)
            else:
                self._found.add((place.url, what.digest))
                return None
        return first_of(problems, what)

    def _require(self, what: Descriptor, place: Shelf) -> None:
        if not self._hashes:
            if not place.has_blob(what):
                raise FetchError(
                    f"{place.url} does not hold {what.digest}",
                    url=place.url,
                    missing=True,
                )
            return
        with ExitStack() as stack:
            stream = stack.enter_context(place.blob(what))
            check_stream(what, stream, subject=str(what.digest))
