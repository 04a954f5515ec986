"""Where a release's content lies in a copy of its repository.

A directory, layout or tar holds content beside the trust metadata. A registry has a
repository for each artifact, and the copy keeps the vendor's names: what lies below the
parent of the vendor's trust repository lies at the same path below the parent of the
copy's, and what lies in another registry, under that registry's name. `mirrors` is what
a device must be told to find all of it (`[mirrors]` in its settings), and `content`
where that lies of which no record says anything.

    oci://registry.example/acme/trust         →  oci://mirror:5000/acme/trust
    oci://registry.example/acme/pump-monitor  →  oci://mirror:5000/acme/pump-monitor
    oci://ghcr.example/tools/proxy            →  oci://mirror:5000/acme/ghcr.example/…

Example:
    >>> placement = Placement("oci://registry.example/acme/trust",
    ...                       "oci://mirror:5000/acme/trust")
    >>> [spot.repository for spot in placement.spots(record)]
    ['oci://mirror:5000/acme/pump-monitor', 'oci://mirror:5000/acme/web-stack']
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, final

from margo_supplychain.errors import OciFormatError
from margo_supplychain.formats.references import SCHEME, RegistryReference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.record import ReleaseRecord

    Mirrored = Callable[[str], Sequence[str]]
    """Where a location is looked for; see `MirrorMap.places`."""

_NO_STEP: Final = re.compile(r"[^a-z0-9.]+", re.ASCII)


class Spot(NamedTuple):
    """One manifest of a release, and where it goes.

    Args:
        what: the artifact, or a component's manifest.
        repository: `oci://…`; None for beside the trust metadata.
        tag: what it is called there.
        locations: where the record says that it lies, best first.
    """

    what: Descriptor
    repository: str | None
    tag: str
    locations: tuple[str, ...]


@final
class Placement:
    """The rule for one pair of places.

    Args:
        source, target: where the trust metadata lies, and where it goes: URLs or paths.
        mirrored: where content of a location is looked for; it may lie in a mirror
            below the source's parent.
    """

    def __init__(
        self, source: str, target: str, *, mirrored: Mirrored | None = None
    ) -> None:
        self._from = _parent(source)
        self._to = _parent(target)
        self._target = target
        self._mirrored = mirrored
        self._moved: dict[str, str] = {}
        self._unnamed: set[str] = set()

    def spots(self, record: ReleaseRecord) -> Iterator[Spot]:
        """Yield where a release's artifact goes, then its components."""
        near = _home(record, self._from)
        given = tuple(one for one in record.locations if _repository(one))
        locations = given or ((near,) if near is not None else ())
        version = record.version.tag
        place = self._place(locations, record)
        if place is not None and not record.locations:
            self._unnamed.add(place)
        name = version if self._to else f"{record.name}:{version}"
        yield Spot(record.artifact, place, name, locations)
        for one in record.components:
            lies = _repository(one.repository)
            found = (lies,) if lies else ()
            yield Spot(
                one.content,
                self._place(found or locations, record),
                one.revision if self._to else _name_of(lies, one.revision),
                (*found, *record.locations),
            )

    @property
    def mirrors(self) -> dict[str, tuple[str, ...]]:
        """What devices must be told: the vendor's places and those of the copy.

        A place whose name stays needs no entry, and one entry does for all below it.
        """
        found = dict(self._moved)
        if self._from is not None and self._from != (to := self._to or self._target):
            found[self._from] = to
        return {
            prefix: (place,)
            for prefix, place in sorted(found.items())
            if not _is_implied(prefix, place, found, registry=self._to is not None)
        }

    @property
    def content(self) -> tuple[str, ...]:
        """Repositories of content that no record names: `content` of a device."""
        return tuple(sorted(self._unnamed))

    def _place(self, locations: Sequence[str], record: ReleaseRecord) -> str | None:
        if self._to is None:
            for location in locations:
                self._moved[_repository(location) or location] = self._target
            return None
        if not locations:
            return RegistryReference.parse(f"{self._to}/{record.name.name}").repository
        at = _repository(locations[0]) or locations[0]
        place = self._within(at)
        if place != at:
            self._moved[at] = place
        return place

    def _within(self, at: str) -> str:
        known = (at, *(self._mirrored(at) if self._mirrored is not None else ()))
        for parent in (self._to, self._from):
            for one in known:
                below = _below(one, parent)
                if below is not None:
                    return f"{self._to}/{below}"
        host, _, path = at.removeprefix(SCHEME).partition("/")
        # A port's colon, or an IPv6 address, is no part of a repository's name.
        step = _NO_STEP.sub("-", host).strip("-")
        return RegistryReference.parse(f"{self._to}/{step}/{path}").repository


def _home(record: ReleaseRecord, parent: str | None) -> str | None:
    """Return where a release without a location lies: beside its trust repository."""
    return None if parent is None else f"{parent}/{record.name.name}"


def _repository(location: str) -> str | None:
    """Return a location's repository without tag and digest; None if it has none."""
    if not location.startswith(SCHEME):
        return None
    try:
        return RegistryReference.parse(location).repository
    except OciFormatError:
        return None


def _parent(url: str) -> str | None:
    """Return what a trust repository in a registry lies in; None for any other."""
    if not url.startswith(SCHEME):
        return None
    return RegistryReference.parse(url).parent.repository


def _below(one: str, parent: str | None) -> str | None:
    if parent is None or not one.startswith(f"{parent}/"):
        return None
    return one[len(parent) + 1 :]


def _name_of(repository: str | None, revision: str) -> str:
    return f"{(repository or '').removeprefix(SCHEME)}:{revision}".lstrip(":")


def _is_implied(
    prefix: str, place: str, found: dict[str, str], *, registry: bool
) -> bool:
    """Say whether an entry for something above leads to the same place."""
    for above, other in found.items():
        below = _below(prefix, above)
        if below is not None:
            return place == (f"{other}/{below}" if registry else other)
    return False
