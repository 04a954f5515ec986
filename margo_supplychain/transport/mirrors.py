"""Where content and metadata really lie: what the owner says instead of the vendor.

A record's locations are hints, and hosts in them are names: whatever lies behind is
unverified, and what an artifact is called never depends on where it was found. A map
sends whole steps of an `oci://` path to other places; the longest prefix wins, and a
mapped location is asked at its places alone. Nor is a host of which anything is mapped
asked over https, or this machine itself, on a record's word.

Example:
    >>> mirrors = MirrorMap({"oci://registry.acme.example/acme": [
    ...     "oci://mirror.plant:5000/acme", "oci-layout:/media/stick"]})
    >>> mirrors.places("oci://registry.acme.example/acme/pump-monitor")
    ('oci://mirror.plant:5000/acme/pump-monitor', 'oci-layout:/media/stick')
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar, final

from margo_supplychain.errors import (
    FetchError,
    FormatError,
    OciFormatError,
    TooSlowError,
)
from margo_supplychain.formats.references import (
    SCHEME,
    RegistryReference,
    registry_host,
)
from margo_supplychain.transport.network import DEFAULT_NETWORK
from margo_supplychain.transport.opening import open_source
from margo_supplychain.transport.patience import Impatient, Silence, impatient
from margo_supplychain.transport.this_machine import is_this_machine

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
_USUAL_PORT: Final = ":443"
# Nothing about the repository: who may ask (a gateway says it for whoever does not
# answer behind it), and that there is none.
_CLOSED: Final = frozenset({401, 403, 407, 408, 429})
_SERVER_ERROR: Final = 500
_TIMESTAMP: Final = "timestamp.json"
_OF_NETWORK: Final = (SCHEME, "https://", "http://")


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
        self._hosts = {prefix.partition("/")[0] for prefix in self._places}
        # Who does not answer is known to everything that is opened over this map.
        self.silence = Silence()

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
        steps = [_origin(reference.host), *reference.path.split("/")]
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

    def has_host(self, host: str) -> bool:
        """Say whether anything of a registry's `host` or `host:port` is mapped."""
        return _origin(host) in self._hosts

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
        anonymous: where the word of a record alone leads, no credentials are used,
            unless `network` names the host as a registry. For whoever passes on what
            he has read: a record may name what only he may read.
        trust: URL of the repository that the records come from, unless it is one of
            `before` or `always`. Records may name this machine's own loopback only if
            that is where they come from, or if `network` names the host as a registry.
    """

    def __init__(
        self,
        mirrors: MirrorMap = NO_MIRRORS,
        *,
        network: Network | None = None,
        before: Sequence[Source] = (),
        always: Sequence[Source] = (),
        anonymous: bool = False,
        trust: str | None = None,
    ) -> None:
        known = [one.url for one in (*before, *always)]
        known += [] if trust is None else [trust]
        self._is_local = any(is_this_machine(_address(url)[0]) for url in known)
        self._mirrors = mirrors
        self._network = network
        # For what nobody but a record names.
        self._asking = (
            replace(network or DEFAULT_NETWORK, anonymous=True)
            if anonymous
            else network
        )
        # Each for itself: one of them may lack content that the next has.
        self._before = tuple(_each(before))
        self._always = tuple(_each(always))
        self._opened: dict[tuple[str, bool, bool], Source] = {}
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
            last = len(places) - 1
            return [
                self._open(place, is_last=number == last)
                for number, place in enumerate(places)
            ]
        if not location.startswith(_FROM_RECORDS) or not self._may_ask(location):
            return []
        try:
            return [self._open(location, is_mapped=False)]
        except FormatError:
            return []

    def _may_ask(self, location: str) -> bool:
        """Say whether a device goes where the word of a record alone sends it."""
        name, origin = _address(location)
        if not location.startswith(SCHEME) and self._mirrors.has_host(origin):
            # The owner says where the host's content lies, whatever it speaks.
            return False
        if self._is_local or not is_this_machine(name):
            return True
        return self._network is not None and any(
            _origin(one) == origin for one in self._network.registries
        )

    def _open(
        self, place: str, *, is_last: bool = True, is_mapped: bool = True
    ) -> Source:
        if place.startswith(SCHEME):
            place = RegistryReference.parse(place).repository
        with self._lock:
            asked = place, is_last, is_mapped
            if asked not in self._opened:
                self._opened[asked] = _opened(
                    place,
                    self._mirrors,
                    network=self._network if is_mapped else self._asking,
                    is_last=is_last,
                )
            return self._opened[asked]


def open_mirrored_source(
    url: str, mirrors: MirrorMap, *, network: Network | None = None
) -> Source:
    """Return the source of a URL or path at its mirrors: the first that answers.

    The source stays with it for one refresh, as long as it can be reached. Who does
    not let this client in, or holds no repository, has not answered; that a file of
    the repository is not there is an answer.

    Raises:
        FormatError: no kind of URL that is known here.
    """
    places = mirrors.places(url)
    last = len(places) - 1
    sources = [
        _opened(place, mirrors, network=network, is_last=number == last)
        for number, place in enumerate(places)
    ]
    return sources[0] if len(sources) == 1 else FirstAnswering(sources)


@final
class _NoRepositoryError(FetchError):
    """A place where no repository lies, or none that is shown."""


@final
class FirstAnswering:
    """Several sources of the same bytes as one; implements `Source`.

    A refresh begins with the best one anew: who was gone for a moment is not left for
    ever, while another grows old. It begins when a root is asked for, or a timestamp
    that follows no root.

    Args:
        sources: best first.

    Raises:
        ValueError: if there are none.

    `problems` says why others were passed over when something was last asked.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        if not sources:
            raise ValueError("expected at least one source")
        self.sources = tuple(sources)
        self.problems: tuple[FetchError, ...] = ()
        self._current = 0
        self._is_after_root = False
        # Of the current source, when it said that there is no newer root.
        self._timestamp: bytes | None = None

    @property
    def url(self) -> str:
        """What the source that is asked, or answered last, is called."""
        return self.sources[self._current].url

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        """Return a metadata file; see `Source.metadata`."""
        is_root = filename.endswith(".root.json")
        is_timestamp = filename == _TIMESTAMP
        if not self._is_after_root and (is_root or is_timestamp):
            self._current = 0
        self._is_after_root = False
        kept, self._timestamp = self._timestamp, None
        if is_timestamp and kept is not None and len(kept) <= limit:
            return kept

        def ask(one: Source) -> bytes:
            try:
                return one.metadata(filename, limit=limit, tick=tick)
            except FetchError as why:
                if is_root and why.missing:
                    self._timestamp = _timestamp_of(one, limit, tick)
                raise

        try:
            found = self._ask(ask, leads_on=is_timestamp)
        except FetchError as why:
            # That there is no newer root ends nothing: the timestamp comes next.
            self._is_after_root = is_root and why.missing
            raise
        self._is_after_root = is_root
        return found

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

    def _ask(self, question: Callable[[Source], T], *, leads_on: bool = False) -> T:
        """Ask the source that answered last, then the others from the first on.

        Args:
            question: what is asked.
            leads_on: whether the next is asked when a source lacks it.
        """
        order = dict.fromkeys([self._current, *range(len(self.sources))])
        problems: dict[int, FetchError] = {}
        for number in sorted(order, key=lambda one: _is_held(self.sources[one])):
            source = self.sources[number]
            if isinstance(source, Impatient):
                # Nobody else had an answer.
                source.release()
            self._current = number
            try:
                return question(source)
            except FetchError as why:
                if not (_is_closed(why) or (leads_on and why.missing)):
                    raise
                problems[number] = why
            finally:
                self.problems = tuple(problems.values())
        # Who answered, if only that this client may not ask, says more than who did
        # not: of one that can't be reached a device decides on copies.
        self._current = min(
            problems,
            key=lambda one: (problems[one].unreachable, problems[one].missing),
        )
        raise problems[self._current]


def _opened(
    place: str, mirrors: MirrorMap, *, network: Network | None, is_last: bool
) -> Source:
    """Return the source of a place of the owner's map."""
    if is_last or not place.startswith(_OF_NETWORK):
        return open_source(place, network=network)
    source = open_source(place, network=impatient(network or DEFAULT_NETWORK))
    return Impatient(source, host=_address(place)[1], silence=mirrors.silence)


def _each(sources: Sequence[Source]) -> Iterator[Source]:
    for one in sources:
        if isinstance(one, FirstAnswering):
            yield from one.sources
        else:
            yield one


def _timestamp_of(
    source: Source, limit: int, tick: Callable[[int], None] | None
) -> bytes | None:
    """Return the timestamp of a source that says that there is no newer root.

    Where no repository lies, there is no root either, and the next place may have both:
    they must be of one. So this is asked before that answer is believed; it is what
    comes next in any case.

    Raises:
        _NoRepositoryError: there is none, or nobody who tells.
    """
    try:
        return source.metadata(_TIMESTAMP, limit=limit, tick=tick)
    except FetchError as why:
        if not why.missing and not _is_closed(why):
            return None  # whoever asks for it is told
        raise _NoRepositoryError(
            str(why),
            url=why.url,
            status=why.status,
            missing=why.missing,
            unreachable=why.unreachable,
            hint=why.hint,
        ) from why


def _is_held(source: Source) -> bool:
    return isinstance(source, Impatient) and source.is_held


def _is_closed(why: FetchError) -> bool:
    """Say whether an error tells nothing of the repository, so that others may."""
    return (
        why.unreachable
        or isinstance(why, (TooSlowError, _NoRepositoryError))
        or why.status in _CLOSED
        or (why.status is not None and why.status >= _SERVER_ERROR)
    )


def _prefix(text: str) -> str:
    """Return a prefix without its scheme, checked."""
    if not text.startswith(SCHEME):
        raise FormatError(
            f"{text[:160]!r} is no prefix of a location, expected oci://HOST or "
            "oci://HOST/PATH"
        )
    rest = text.removeprefix(SCHEME)
    if "/" not in rest:
        return _origin(registry_host(rest))
    reference = RegistryReference.parse(text)
    if reference.tag is not None or reference.digest is not None:
        raise FormatError(f"{text[:160]!r} names one manifest, expected a prefix")
    return f"{_origin(reference.host)}/{reference.path}"


def _origin(host: str) -> str:
    """Return a host in the one spelling of its origin."""
    return host.removesuffix(_USUAL_PORT)


def _address(url: str) -> tuple[str, str]:
    """Return a URL's host, and the same with its port; empty for what has none."""
    if "://" not in url:
        return "", ""
    # Not for those who read files.
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "", ""
    name = (parts.hostname or "").rstrip(".")
    shown = f"[{name}]" if ":" in name else name
    return name, shown if port in {None, 443} else f"{shown}:{port}"


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
