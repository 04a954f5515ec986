"""Where content and metadata really lie: what the owner says instead of the vendor.

A record's locations are hints, and hosts in them are names: whatever lies behind is
unverified, and what an artifact is called never depends on where it was found. A map
sends whole steps of an `oci://` path to other places; the longest prefix wins, and a
mapped location is asked at its places alone.

Example:
    >>> mirrors = MirrorMap({"oci://registry.acme.example/acme": [
    ...     "oci://mirror.plant:5000/acme", "oci-layout:/media/stick"]})
    >>> mirrors.places("oci://registry.acme.example/acme/pump-monitor")
    ('oci://mirror.plant:5000/acme/pump-monitor', 'oci-layout:/media/stick')
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar, final

from margo_supplychain.errors import FetchError, FormatError, OciFormatError
from margo_supplychain.formats.references import (
    SCHEME,
    RegistryReference,
    registry_host,
)
from margo_supplychain.transport.opening import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.names import TargetPath
    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.protocols import Source

T = TypeVar("T")

MAX_PREFIXES: Final = 1_000
MAX_PLACES: Final = 16  # for one prefix
MAX_SOURCES: Final = 64  # for one artifact
# What a record may send a device to: other devices' disks and plain http it may not.
_FROM_RECORDS: Final = (SCHEME, "https://")


@final
class MirrorMap:
    """Prefixes of `oci://` locations, and the places to ask instead.

    Args:
        table: `oci://HOST` or `oci://HOST/PATH` → places, best first; what follows the
            prefix is appended to those that are `oci://` themselves.

    Raises:
        FormatError: a prefix or place that is none, a prefix without places, or too
            many of either.
    """

    def __init__(self, table: Mapping[str, Sequence[str]]) -> None:
        if len(table) > MAX_PREFIXES:
            raise FormatError(
                f"{len(table)} prefixes are mapped, more than {MAX_PREFIXES}"
            )
        self._places = {
            _prefix(prefix): _checked(prefix, places)
            for prefix, places in table.items()
        }

    def __bool__(self) -> bool:
        return bool(self._places)

    def mapped(self, location: str) -> tuple[str, ...] | None:
        """Return the places of a location, or None if no prefix matches it.

        Raises:
            OciFormatError: an `oci://` location that is no reference.
        """
        if not location.startswith(SCHEME):
            return None
        reference = RegistryReference.parse(location)
        steps = [reference.host, *reference.path.split("/")]
        for length in range(len(steps), 0, -1):
            places = self._places.get("/".join(steps[:length]))
            if places is not None:
                rest = "".join(f"/{step}" for step in steps[length:])
                # The tag and digest stay with it.
                rest += str(reference).removeprefix(reference.repository)
                return tuple(
                    place + rest if place.startswith(SCHEME) else place
                    for place in places
                )
        return None

    def places(self, location: str) -> tuple[str, ...]:
        """Return where to ask, best first: the location itself if nothing maps it.

        Raises:
            OciFormatError: an `oci://` location that is no reference.
        """
        return self.mapped(location) or (location,)


NO_MIRRORS: Final = MirrorMap({})


@final
class MirroredContent:
    """The record's locations, mapped by the owner; implements `ContentSources`.

    Thread-safe; each place is opened once.

    Args:
        mirrors: the owner's map.
        network: limits and registries; `Network()` if it is left out.
        before: what is asked before every location.
        always: what is asked after them.
    """

    def __init__(
        self,
        mirrors: MirrorMap = NO_MIRRORS,
        *,
        network: Network | None = None,
        before: Sequence[Source] = (),
        always: Sequence[Source] = (),
    ) -> None:
        self._mirrors = mirrors
        self._network = network
        self._before = tuple(before)
        self._always = tuple(always)
        self._opened: dict[str, Source] = {}
        self._lock = threading.Lock()

    def sources(self, locations: Sequence[str]) -> Sequence[Source]:
        """Return the sources to try, best first.

        A location that can't be asked is passed over: it is a hint.

        Raises:
            FetchError: nothing is left to ask.
            FormatError: the owner's map names a place that can't be opened.
        """
        found = list(self._before)
        for location in locations:
            found.extend(self._sources_of(location))
        # One place may stand behind several locations: it is asked once.
        several = dict.fromkeys([*found[:MAX_SOURCES], *self._always])
        if not several:
            raise FetchError(
                "no place is known where the content lies",
                url=locations[0] if locations else "none",
                unreachable=True,
                hint="name one: `content` of its [repository] in device.toml, or "
                "[mirrors] for the locations of its releases",
            )
        return tuple(several)

    def _sources_of(self, location: str) -> list[Source]:
        try:
            places = self._mirrors.mapped(location)
        except OciFormatError:
            return []
        if places is not None:
            return [self._open(place) for place in places]
        if not location.startswith(_FROM_RECORDS):
            return []
        try:
            return [self._open(location)]
        except FormatError:
            return []

    def _open(self, place: str) -> Source:
        if place.startswith(SCHEME):
            place = RegistryReference.parse(place).repository
        with self._lock:
            if place not in self._opened:
                self._opened[place] = open_source(place, network=self._network)
            return self._opened[place]


def open_mirrored_source(
    url: str, mirrors: MirrorMap, *, network: Network | None = None
) -> Source:
    """Return the source of a URL or path at its mirrors: the first that answers.

    The source stays with it until it can't be reached any more. That something is not
    there, or is refused, is an answer.

    Raises:
        FormatError: no kind of URL that is known here.
    """
    places = mirrors.places(url)
    sources = [open_source(place, network=network) for place in places]
    return sources[0] if len(sources) == 1 else FirstAnswering(sources)


@final
class FirstAnswering:
    """Several sources of the same bytes as one; implements `Source`.

    Args:
        sources: best first.

    Raises:
        ValueError: if there are none.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        if not sources:
            raise ValueError("expected at least one source")
        self._sources = tuple(sources)
        self._current = 0

    @property
    def url(self) -> str:
        """What the source that answered last is called."""
        return self._sources[self._current].url

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        """Return a metadata file; see `Source.metadata`."""
        return self._ask(lambda one: one.metadata(filename, limit=limit, tick=tick))

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
        with ExitStack() as stack:
            yield self._ask(
                lambda one: stack.enter_context(
                    one.target(path, what, start=start, tick=tick)
                )
            )

    @contextmanager
    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        """Open content by digest; see `Source.blob`."""
        with ExitStack() as stack:
            yield self._ask(
                lambda one: stack.enter_context(one.blob(what, start=start, tick=tick))
            )

    def _ask(self, question: Callable[[Source], T]) -> T:
        """Ask the source that answered last, then the others from the first on."""
        first = self._current
        order = dict.fromkeys([first, *range(len(self._sources))])
        problems: list[FetchError] = []
        for number in order:
            try:
                found = question(self._sources[number])
            except FetchError as why:
                if not why.unreachable:
                    self._current = number
                    raise
                problems.append(why)
            else:
                self._current = number
                return found
        raise problems[0]


def _prefix(text: str) -> str:
    """Return a prefix without its scheme, checked."""
    if not text.startswith(SCHEME):
        raise FormatError(
            f"{text[:160]!r} is no prefix of a location, expected oci://HOST or "
            "oci://HOST/PATH"
        )
    rest = text.removeprefix(SCHEME)
    if "/" not in rest:
        return registry_host(rest)
    reference = RegistryReference.parse(text)
    if reference.tag is not None or reference.digest is not None:
        raise FormatError(f"{text[:160]!r} names one manifest, expected a prefix")
    return f"{reference.host}/{reference.path}"


def _checked(prefix: str, places: Sequence[str]) -> tuple[str, ...]:
    if not 1 <= len(places) <= MAX_PLACES:
        raise FormatError(
            f"{prefix} has {len(places)} places, expected 1 to {MAX_PLACES}"
        )
    whole_host = "/" not in prefix.removeprefix(SCHEME)
    for place in places:
        if not place or not place.isprintable():
            raise FormatError(f"{prefix}: {place[:160]!r} is no place")
        if place.startswith(SCHEME) and "/" not in _prefix(place) and not whole_host:
            raise FormatError(
                f"{prefix}: {place} names no repository",
                hint="write oci://HOST/PATH, or map the whole host",
            )
    return tuple(places)
