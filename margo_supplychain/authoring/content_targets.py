"""Where the content of releases goes when their trust repository is a registry.

    package      the release's first oci:// location, else <parent of trust>/<name>,
                 under the tag of its version
    component    its own repository under its revision, if that lies below the parent
                 of trust: the vendor owns it. Else it must be there already, by
                 digest, or where the owner's map says that it lies instead

Parts go before what names them, the manifest with its tag last. A tag that names other
bytes is never moved: all of them are looked at before anything is pushed. What is there
is skipped and counted. In a layout content lies beside the trust metadata, as in a
directory. In a registry nothing goes into the trust repository itself: there a tag says
which metadata devices read.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, final

from margo_supplychain.authoring.contents import is_whole, read_checked
from margo_supplychain.authoring.place import Stored
from margo_supplychain.authoring.pushing import Pushing
from margo_supplychain.authoring.stored_checks import check_release
from margo_supplychain.errors import (
    FetchError,
    FormatError,
    OciFormatError,
    RefusedError,
    SupplyChainError,
    VerificationError,
)
from margo_supplychain.formats.closure import walk
from margo_supplychain.formats.references import SCHEME, RegistryReference, registry_tag
from margo_supplychain.transport.opening import open_sink
from margo_supplychain.transport.tagged_sink import TaggedSink

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from margo_supplychain.authoring.place import Progress
    from margo_supplychain.authoring.placement import Mirrored
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.authoring.work import Attested, NewRelease, Work
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.record import Component
    from margo_supplychain.transport.network import Network
    from margo_supplychain.transport.protocols import Sink

_LOCATION_HINT: Final = (
    "say where its content goes: --location oci://HOST/PATH when you build it"
)


# What BuildKit and Docker call the type of a statement, and what cosign calls it.
_PREDICATE_TYPES: Final = ("in-toto.io/predicate-type", "predicateType")
_COMPONENT_HINT: Final = (
    "give it a repository of its own, and say so in margo.yaml: devices pull it from "
    "there"
)


class Home(NamedTuple):
    """One manifest of a release, and where devices will look for it.

    Args:
        what: the artifact, or a component's manifest.
        shown: what it is called in messages.
        repository: `oci://…`; None for beside the trust metadata.
        tag: what it is called there.
        is_pushed: whether it is put there, or must be there already.
    """

    what: Descriptor
    shown: str
    repository: str | None
    tag: str
    is_pushed: bool

    @property
    def where(self) -> str:
        """Repository and tag, for people."""
        return f"{self.repository or 'beside'}:{self.tag}"


@final
class ContentTargets:
    """The homes of releases, for one trust repository.

    Args:
        trust: where the trust metadata lies; its URL, where nothing can be put there.
        network: limits and credentials.
        mirrored: the owner's map: where to look for what is not pushed.
        parent: what the vendor owns; the parent of `trust`, if it is left out.
    """

    def __init__(
        self,
        trust: TaggedSink | str,
        *,
        network: Network | None = None,
        mirrored: Mirrored | None = None,
        parent: RegistryReference | None = None,
    ) -> None:
        self._trust = trust
        self._network = network
        self.mirrored = mirrored
        self._parent = parent
        self._trust_url: str | None = None
        url = trust if isinstance(trust, str) else trust.url
        if url.startswith(SCHEME):
            reference = RegistryReference.parse(url)
            self._parent = parent or reference.parent
            self._trust_url = reference.repository
        self._sinks: dict[str, TaggedSink] = {}

    # --- where -----------------------------------------------------------------------

    def located(self, release: Release) -> Release:
        """Return a release whose first location is where its package goes.

        Raises:
            RefusedError: its name is none that a registry takes, and no location says
                another; or it would go between the trust metadata.
        """
        given = registry_location(release)
        if self._parent is None or given is not None:
            self._refuse_trust(f"package {release.name}", given, _LOCATION_HINT)
            return release
        try:
            home = self._parent.child(release.name.name).repository
        except OciFormatError as why:
            raise RefusedError(
                f"{release.name} can't be the name of a repository: {why}",
                hint=_LOCATION_HINT,
            ) from why
        self._refuse_trust(f"package {release.name}", home, _LOCATION_HINT)
        return replace(release, locations=(home, *release.locations))

    def _refuse_trust(self, shown: str, repository: str | None, hint: str) -> None:
        """Refuse content in the trust repository, where its tag would name metadata."""
        if repository is not None and repository == self._trust_url:
            raise RefusedError(
                f"{shown} would lie in {repository}, between the trust metadata",
                hint=hint,
            )

    def homes(self, release: Release) -> Iterator[Home]:
        """Yield where each manifest of a located release goes, the package last.

        Raises:
            RefusedError: a component's repository or revision is none that a registry
                has, or is that of the trust metadata.
        """
        pushed = release.artifact.digest not in release.in_place
        shown = f"package {release.artifact.digest.short}"
        version = release.version.tag
        if self._parent is None:
            yield from dict.fromkeys(
                Home(one.content, one.name, None, _name(one), is_pushed=True)
                for one in release.components
                if one.content.digest not in release.elsewhere
            )
            tag = f"{release.name}:{version}"
            yield Home(release.artifact, shown, None, tag, is_pushed=True)
            return
        yield from dict.fromkeys(
            self._home(release, one, self._parent) for one in release.components
        )
        yield Home(release.artifact, shown, registry_location(release), version, pushed)

    def _home(
        self, release: Release, one: Component, parent: RegistryReference
    ) -> Home:
        shown = f"component {one.name}"
        absent = one.content.digest in (release.elsewhere | release.in_place)
        try:
            found = RegistryReference.parse(one.repository)
            is_pushed = _is_below(found, parent) and not absent
            if is_pushed:
                registry_tag(one.revision)
        except OciFormatError as why:
            raise RefusedError(
                f"{shown} lies where no registry has it: {why}",
                hint="correct its repository and revision in margo.yaml: devices pull "
                "it from there",
            ) from why
        self._refuse_trust(shown, found.repository, _COMPONENT_HINT)
        return Home(one.content, shown, found.repository, one.revision, is_pushed)

    def open(self, url: str) -> TaggedSink:
        """Open a repository of a registry, once.

        Raises:
            FormatError: no URL of one.
        """
        if url not in self._sinks:
            self._sinks[url] = open_tagged(url, network=self._network)
        return self._sinks[url]

    def _sink(self, home: Home) -> TaggedSink:
        if home.repository is not None:
            return self.open(home.repository)
        if isinstance(self._trust, str):
            raise FormatError(f"{self._trust} is no place where content has tags")
        return self._trust

    # --- putting it there ------------------------------------------------------------

    def put(self, work: Work) -> Stored:
        """Put the content of an edit where devices will look for it; see `put_new`."""
        return self.put_new(
            work.new, kept=work.kept, attested=work.attested, progress=work.progress
        )

    def put_new(
        self,
        new: Sequence[NewRelease],
        *,
        kept: Sequence[Release] = (),
        attested: Sequence[Attested] = (),
        progress: Progress | None = None,
    ) -> Stored:
        """Check new content as devices do, and put it where they will look for it.

        Args:
            new: located releases, with their records.
            kept: releases that are listed, and of which something was lost.
            attested: attestations that refer to packages, for other tools.
            progress: told what is being copied.

        Raises:
            VerificationError: every device would refuse it; nothing was pushed.
            RefusedError: a tag names other bytes, or a component that is not the
                vendor's is not there; nothing was pushed.
            FetchError, StorageError: something can't be written, or read.
        """
        for one in new:
            check_release(one, progress=progress)
        pushing = Pushing(progress)
        for release in (*(one.release for one in new), *kept):
            for home in self.homes(release):
                if home.is_pushed:
                    sink = self._sink(home)
                    self._require_tag(sink, home)
                    pushing.add(sink, release, home.what, tag=home.tag)
                else:
                    pushing.there += self._require_there(home)
        pushing.run()
        told = [text for one in attested for text in self._refer(one)]
        return Stored(pushing.new, pushing.there, tuple(told))

    def _refer(self, attested: Attested) -> Iterator[str]:
        """Let attestations refer to a package where its registry lists what does.

        Devices read none of these: nothing that goes wrong here is an error.
        """
        home = list(self.homes(attested.release))[-1]
        if home.repository is None or not self._is_ours(home.repository):
            return
        for one in attested.envelopes:
            try:
                is_listed = self.open(home.repository).put_referrer(
                    home.what,
                    one.what,
                    io.BytesIO(one.data),
                    annotations=dict.fromkeys(_PREDICATE_TYPES, one.reference.type),
                )
            except SupplyChainError as why:
                yield (
                    f"{home.repository} does not list what attests to {home.shown}, "
                    f"which other tools may look for: {why}"
                )
                return
            if not is_listed:
                return

    def _is_ours(self, repository: str) -> bool:
        found = RegistryReference.parse(repository)
        parent = self._parent
        return parent is not None and _is_below(found, parent)

    def lost(self, release: Release) -> tuple[Descriptor, ...]:
        """Return what is not where a listed release's content must be.

        A registry is asked whether it has each part; files beside are hashed.
        """
        found: dict[Descriptor, None] = {}
        for home in self.homes(release):
            if not home.is_pushed:
                continue
            sink = self._sink(home)
            for part in walk(
                home.what, lambda what: read_checked(release.source, what)
            ):
                what = part.descriptor
                there = sink.has_blob(what)
                if there and home.repository is None:
                    there = is_whole(sink, what)
                if not there:
                    found[what] = None
            if self._tagged(sink, home) is None:
                found[home.what] = None
        return tuple(found)

    def _tagged(self, sink: TaggedSink, home: Home) -> Descriptor | None:
        try:
            return sink.resolve(home.tag)
        except FetchError as why:
            if why.missing:
                return None
            raise

    def _require_tag(self, sink: TaggedSink, home: Home) -> None:
        known = self._tagged(sink, home)
        if known is not None and known.digest != home.what.digest:
            raise RefusedError(
                f"{home.where} is {known.digest.short}, and {home.shown} is "
                f"{home.what.digest.short}: tags are never moved",
                hint="is an image there? Packages and components need repositories of "
                "their own. Else raise the version or revision; if that was published "
                "with what you have here, find out who else writes there",
            )

    def _require_there(self, home: Home) -> int:
        """Refuse a manifest that is not where it should be; return how many parts are.

        Raises:
            RefusedError: it, or a part of it, is not there.
            FetchError: that can't be found out.
        """
        problems: list[SupplyChainError] = []
        for place in self._places(home):
            try:
                return _count(place, home.what)
            except (FetchError, OciFormatError, VerificationError) as why:
                problems.append(why)
        for one in problems:
            if isinstance(one, FetchError) and not one.missing:
                raise self._not_asked(home, one) from one
        raise RefusedError(
            f"{home.shown} is not in {home.repository} by its digest "
            f"{home.what.digest.short}: {problems[0]}",
            hint=f"{self._reason(home)}: push it there yourself, then run this again",
        ) from problems[0]

    def _places(self, home: Home) -> Iterator[Sink]:
        if home.repository is None or self.mirrored is None:
            yield self._sink(home)
            return
        for url in self.mirrored(home.repository):
            is_registry = url.startswith(SCHEME)
            yield self.open(url) if is_registry else open_sink(url)

    def _not_asked(self, home: Home, why: FetchError) -> FetchError:
        """Return the error for a place that says nothing about what must be there."""
        first = "" if why.hint in {None, why.default_hint} else f"{why.hint}; "
        return type(why)(
            f"{home.shown} can't be looked for: {why}",
            url=why.url,
            status=why.status,
            unreachable=why.unreachable,
            hint=f"{first}{self._reason(home)}, so it must be in {home.repository} "
            "already, or where [mirrors] in margo-supplychain.toml says instead; "
            "nothing was published",
        )

    def _reason(self, home: Home) -> str:
        """Say why something is not pushed."""
        parent = "" if self._parent is None else self._parent.repository
        if (home.repository or "").startswith(f"{parent}/"):
            return "it is not at hand, so it is not pushed"
        return f"it is not below {parent}, this repository's parent, and not pushed"


def _count(place: Sink, top: Descriptor) -> int:
    """Return how many parts of a manifest a place holds: all of them.

    Raises:
        FetchError: one is missing, or the place can't be asked.
        OciFormatError, VerificationError: a manifest has other bytes.
    """
    count = 0
    for part in walk(top, lambda what: read_checked(place, what)):
        what = part.descriptor
        if part.role != "manifest" and not place.has_blob(what):
            raise FetchError(f"there is no {what.digest}", url=place.url, missing=True)
        count += 1
    return count


def _is_below(found: RegistryReference, parent: RegistryReference) -> bool:
    return found.host == parent.host and found.path.startswith(f"{parent.path}/")


def registry_location(release: Release) -> str | None:
    """Return the repository of the first location in a registry."""
    for location in release.locations:
        if location.startswith(SCHEME):
            return RegistryReference.parse(location).repository
    return None


def _name(one: Component) -> str:
    """Return what a component is called in a layout, where one index names all."""
    return f"{one.repository.removeprefix(SCHEME)}:{one.revision}"


def open_tagged(url: str, *, network: Network | None) -> TaggedSink:
    """Open a repository of a registry to put content there.

    Raises:
        FormatError: no URL of one.
    """
    opened = open_sink(url, network=network)
    if not isinstance(opened, TaggedSink):
        raise FormatError(f"{url[:200]} is no place where content has tags")
    return opened
