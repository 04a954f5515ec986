"""Where a release's content lies in a copy of its repository.

A directory, layout or tar holds content beside the trust metadata. A registry has a
repository for each artifact, and the copy keeps the vendor's names: what lies below the
parent of the vendor's trust repository lies at the same path below the parent of the
copy's, and what lies in another registry, under that registry's name. `mirrors` is what
a device must be told to find all of it (`[mirrors]` in its settings).

What has no name in any registry, because its release was published into a directory,
lies in the copy's trust repository itself, under a tag by its digest: devices ask there
after everything that a record says, and need not be told.

    oci://registry.example/acme/trust         →  oci://mirror:5000/acme/trust
    oci://registry.example/acme/pump-monitor  →  oci://mirror:5000/acme/pump-monitor
    oci://ghcr.example/tools/proxy            →  oci://mirror:5000/acme/ghcr.example/…

Example:
    >>> placement = Placement("oci://registry.example/acme/trust",
    ...                       "oci://mirror:5000/acme/trust")
    >>> [one.repository for one in placement.spots(record)]
    [None, 'oci://mirror:5000/acme/historian', 'oci://mirror:5000/acme/web-stack']
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, final

from margo_supplychain.errors import OciFormatError
from margo_supplychain.formats.references import (
    SCHEME,
    RegistryReference,
    registry_tag,
)
from margo_supplychain.formats.registry_form import content_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.names import ReleaseName
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
        locations: where it lies in the source, and where the record says, best first.
        home: the first of them, as the record has it.
    """

    what: Descriptor
    repository: str | None
    tag: str
    locations: tuple[str, ...]
    home: str | None

    def beside(self) -> Spot:
        """Return the spot beside the trust metadata, under a tag that is its own."""
        return self._replace(repository=None, tag=content_tag(self.what.digest))


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
        self._infers = False
        # What the vendor's own names begin with, as its releases show.
        self._vendor: str | None = None
        self._others: list[str] = []
        self._moved: dict[str, str] = {}
        self._owners: dict[str, set[ReleaseName]] = {}

    def protect(self, names: Iterable[ReleaseName]) -> None:
        """Let no application take a tag where another one of these usually lies.

        Who signs releases of one could else give the next version of the other.
        """
        for name in names:
            usual = str(name) if self._to is None else f"{self._to}/{name.name}"
            self._owners.setdefault(usual, set()).add(name)

    def infer_vendor(self) -> None:
        """Take the vendor's parent from its releases, as they are usually named.

        A copy on a stick, or in a mirror, does not say where it came from. For
        repositories of one publisher: two may use the same names in their registries.
        """
        self._infers = True

    def knows(self, url: str) -> None:
        """Take note of another place of the same repository: names may begin there."""
        parent = _parent(url)
        if parent is not None:
            self._others.append(parent)

    def spots(self, record: ReleaseRecord) -> Iterator[Spot]:
        """Yield where a release's artifact goes, then its components."""
        if self._infers and self._vendor is None:
            self._vendor = _parent_of(record)
        given = tuple(one for one in record.locations if _repository(one))
        own = _repository(given[0]) if given else None
        version = record.version.tag
        name = f"{record.name}:{version}"
        spot = self._spot(record.artifact, own, version, given, name)
        yield self._owned(record.name, spot)
        for one in record.components:
            own = _repository(one.repository)
            known_as = own and f"{own.removeprefix(SCHEME)}:{one.revision}"
            spot = self._spot(one.content, own, one.revision, given, known_as)
            yield self._owned(record.name, spot)

    def _owned(self, name: ReleaseName, spot: Spot) -> Spot:
        """Return the spot, or one beside if it is where another application lies."""
        lies = spot.tag.rpartition(":")[0] if self._to is None else spot.repository
        owners = self._owners.get(lies or "")
        return spot.beside() if owners and name not in owners else spot

    def _spot(
        self,
        what: Descriptor,
        own: str | None,
        tag: str,
        given: tuple[str, ...],
        name: str | None,
    ) -> Spot:
        """Return the spot of something.

        Args:
            what: the thing.
            own: the repository of its own, if it has one.
            tag: what it is called there.
            given: where the whole release may lie.
            name: what it is called in a layout, for people.
        """
        lies = given if own is None else (own, *given)
        place = self._place(own, tag)
        if self._to is None:
            tag = name or content_tag(what.digest)
            for one in lies:
                self._moved[_repository(one) or one] = self._target
        elif place is None:
            tag = content_tag(what.digest)
        home = _repository(lies[0]) if lies else None
        is_mirror = not any(self.is_ours(one) for one in given)
        return Spot(what, place, tag, self._lies(lies, is_mirror=is_mirror), home)

    def looked_for(self, record: ReleaseRecord, spot: Spot) -> tuple[str, ...]:
        """Return the repositories in which a copy, or the vendor's own, has a spot.

        What the owner maps is looked for there alone; what lies in a mirror, in the
        mirror alone; what the vendor only refers to, where it says.
        """
        found: dict[str, None] = {}
        if spot.repository is None:
            found[self._target] = None
        for location in spot.locations:
            at = _repository(location)
            if at is None:
                continue
            mapped = self._mirrored(at) if self._mirrored is not None else (at,)
            for one in mapped:
                place = _repository(one)
                if place is not None and (
                    one != at or self.is_ours(at) or not self.is_mirror(record)
                ):
                    found[place] = None
        # What could not have its tag anywhere else lies there.
        found[self._target] = None
        return tuple(found)

    def is_foreign(self, record: ReleaseRecord, spot: Spot) -> bool:
        """Say whether the vendor only refers to a spot: others put it there."""
        if self._from is None or spot.home is None or self.is_mirror(record):
            return False
        return not self.is_ours(spot.home)

    def is_ours(self, repository: str) -> bool:
        """Say whether a repository lies below the parent of the source."""
        return _below(repository, self._from) is not None

    def is_mirror(self, record: ReleaseRecord) -> bool:
        """Say whether the source is not where a release says that it lies.

        What is published in a registry says so; what says nothing was copied there.
        """
        given = (_repository(one) for one in record.locations)
        return not any(one is not None and self.is_ours(one) for one in given)

    @property
    def mirrors(self) -> dict[str, tuple[str, ...]]:
        """What devices must be told: the vendor's places and those of the copy.

        A place whose name stays needs no entry, and one entry does for all below it.
        """
        to = self._to or self._target
        found = dict(self._moved)
        for parent in (self._from, self._vendor if found else None):
            if parent is not None and parent != to:
                found[parent] = to
        return {
            prefix: (place,)
            for prefix, place in sorted(found.items())
            if not _is_implied(prefix, place, found, registry=self._to is not None)
        }

    def _place(self, at: str | None, tag: str) -> str | None:
        """Return the repository for what has this one of its own; None for beside."""
        if self._to is None or at is None:
            return None
        known = (at, *(self._mirrored(at) if self._mirrored is not None else ()))
        try:
            place = self._below(self._to, known)
            registry_tag(tag)
        except OciFormatError:
            return None  # what no registry has as a name, it has by digest
        if place == self._target:
            return None  # beside the metadata, whose names content must not take
        if place != at:
            self._moved[at] = place
        return place

    def _lies(self, locations: Sequence[str], *, is_mirror: bool) -> tuple[str, ...]:
        """Return locations, and before each where a copy has what lies there."""
        found: dict[str, None] = {}
        for one in locations:
            at = _repository(one)
            if self._from is not None and at is not None:
                with suppress(OciFormatError):
                    found[self._below(self._from, (at,))] = None
                if is_mirror and self._vendor is None:
                    # The vendor's parent may be any step of it.
                    path = at.removeprefix(SCHEME).split("/")[2:]
                    found |= dict.fromkeys(
                        f"{self._from}/{'/'.join(path[step:])}"
                        for step in range(len(path))
                    )
            found[one] = None
        return tuple(found)

    def _below(self, to: str, known: Sequence[str]) -> str:
        """Return the place below `to` of something that has these names.

        Raises:
            OciFormatError: it would be too long.
        """
        place = self._known(to, known)
        if place is None:
            host, _, path = known[0].removeprefix(SCHEME).partition("/")
            # A port's colon, or an IPv6 address, is no part of a repository's name.
            step = _NO_STEP.sub("-", host).strip("-")
            place = f"{to}/{step}/{path}"
        return RegistryReference.parse(place).repository

    def _known(self, to: str, known: Sequence[str]) -> str | None:
        """Return the place below `to` of something of the vendor's; None of others."""
        for parent in (to, self._from, *self._others, self._vendor):
            for one in known:
                below = _below(one, parent)
                if below is not None:
                    return f"{to}/{below}"
        return None


def _parent_of(record: ReleaseRecord) -> str | None:
    """Return what a package lies in, if it is called like its release.

    Else what a component lies in, if a step there is called like the publisher.
    """
    for location in record.locations:
        above, _, name = (_repository(location) or "").rpartition("/")
        if name == record.name.name and above.startswith(SCHEME):
            return above
    for one in record.components:
        own = (_repository(one.repository) or "").removeprefix(SCHEME)
        above, found, _ = own.partition(f"/{record.name.publisher}/")
        if found:
            return f"{SCHEME}{above}/{record.name.publisher}"
    return None


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


def _is_implied(
    prefix: str, place: str, found: dict[str, str], *, registry: bool
) -> bool:
    """Say whether an entry for something above leads to the same place."""
    for above, other in sorted(found.items(), reverse=True):
        below = _below(prefix, above)
        if below is not None:
            return place == (f"{other}/{below}" if registry else other)
    return False
