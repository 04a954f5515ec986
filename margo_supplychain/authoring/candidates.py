"""What a registry's tags name, for people who will sign some of it by digest.

Nothing here is trusted and nothing is signed: a tag says today what it says, and the
digest beside it is what a person reviews. A bounded number of tags is looked at, those
that are versions first, newest first, and all of it within one deadline.

Components are looked for in the same registry, and where the author's map leads: what
somebody wrote into margo.yaml sends nobody's machine to other hosts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.authoring.adopt import read_description
from margo_supplychain.authoring.contents import read_checked
from margo_supplychain.authoring.inspection import kind_of
from margo_supplychain.errors import (
    FetchError,
    FormatError,
    OciFormatError,
    VerificationError,
)
from margo_supplychain.formats.application import inspect_description
from margo_supplychain.formats.locks import ComponentKey, ComponentLock
from margo_supplychain.formats.oci import Index, parse_manifest
from margo_supplychain.formats.references import (
    SCHEME,
    RegistryReference,
    registry_tag,
)
from margo_supplychain.formats.registry_form import (
    TIMESTAMP_TAG,
    is_reserved,
    metadata_tag,
)
from margo_supplychain.formats.versions import Version
from margo_supplychain.transport.network import DEFAULT_NETWORK
from margo_supplychain.transport.oci_registry.repository import RegistryRepository
from margo_supplychain.transport.opening import open_source
from margo_supplychain.transport.tagged import TaggedSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from margo_supplychain.authoring.placement import Mirrored
    from margo_supplychain.formats.application import ApplicationDescription
    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.oci import Manifest
    from margo_supplychain.transport.network import Network

MOST_TAGS: Final = 10_000  # that are listed at all
MOST_COMPONENTS: Final = 100  # of one package, that are looked for
DEADLINE: Final = 600.0  # seconds, for all that is looked at
_PATIENCE: Final = 30.0  # seconds, for one request with all its repetitions


class ResolvedComponent(NamedTuple):
    """What a component's revision names now.

    Args:
        name, repository, revision: as margo.yaml has them.
        what: its manifest; None if that could not be found out.
        problem: why not.
    """

    name: str
    repository: str
    revision: str
    what: Descriptor | None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What one tag names now.

    Args:
        tag: the tag.
        what: the manifest or index; None if it can't be read.
        kind: package, compose, helm, image or artifact.
        size: bytes of the manifest and of what it names.
        version: the tag as a version; None if it is no SemVer version.
        platforms: of an image index, sorted.
        components: of a package, as their tags stand.
        warnings: what a reviewer should know, one line each.
        problem: why it can't be read.
    """

    tag: str
    what: Descriptor | None = None
    kind: str | None = None
    size: int = 0
    version: Version | None = None
    platforms: tuple[str, ...] = ()
    components: tuple[ResolvedComponent, ...] = ()
    warnings: tuple[str, ...] = ()
    problem: str = ""

    @property
    def lock(self) -> str | None:
        """A `components.lock` with what the components' tags name now, to review."""
        found = {
            ComponentKey(one.name, one.repository, one.revision): one.what
            for one in self.components
            if one.what is not None
        }
        if not found:
            return None
        return ComponentLock(components=found).to_bytes().decode()


class Candidates(NamedTuple):
    """What was found in one repository.

    Args:
        url: the repository.
        tags: how many there are; at most 10,000 are counted.
        candidates: those that were looked at.
        hidden: tags of trust metadata, which nobody adopts.
    """

    url: str
    tags: int
    candidates: tuple[Candidate, ...]
    hidden: int = 0


def find_candidates(
    url: str,
    *,
    network: Network | None,
    most: int,
    mirrored: Mirrored | None = None,
    deadline: float = DEADLINE,
) -> Candidates:
    """Look at what a repository's tags name.

    Args:
        url: `oci://host/path`.
        network: limits and credentials.
        most: how many tags to look at.
        mirrored: the author's map: where components of other registries are.
        deadline: seconds, for everything; what comes later is not looked at.

    Raises:
        OciFormatError: no such URL, or one with a tag or digest.
        FetchError: the repository can't be listed.
    """
    reference = RegistryReference.parse(url)
    if reference.tag is not None or reference.digest is not None:
        raise OciFormatError(
            f"{url[:200]} names one manifest, and all tags of a repository are listed",
            hint=f"name the repository alone: {reference.repository}",
        )
    network = network or DEFAULT_NETWORK
    network = replace(network, deadline=min(network.deadline, _PATIENCE, deadline))
    repository = RegistryRepository(reference, network=network)
    search = _Search(
        TaggedSource(repository),
        network,
        host=reference.host,
        mirrored=mirrored,
        ends=time.monotonic() + deadline,
    )
    tags = []
    for tag in islice(repository.tags(most=MOST_TAGS), MOST_TAGS):
        search.check(reference.host)
        tags.append(tag)
    count = len(tags)
    if {TIMESTAMP_TAG, metadata_tag("1.root.json")} <= set(tags):
        tags = [tag for tag in tags if not is_reserved(tag)]
    hidden = count - len(tags)
    found = [search.candidate(tag) for tag in sorted(tags, key=_order)[:most]]
    return Candidates(
        reference.repository, len(tags), tuple(_with_aliases(found)), hidden
    )


def _order(tag: str) -> tuple[bool, _Newest]:
    version = _version(tag)
    return version is None, _Newest(version, tag)


class _Newest:
    """Sorts versions newest first, other tags by name."""

    def __init__(self, version: Version | None, tag: str) -> None:
        self._version = version
        self._tag = tag

    def __lt__(self, other: _Newest) -> bool:
        if self._version is None or other._version is None:
            return self._tag < other._tag
        if self._version.same_precedence(other._version):
            return self._tag < other._tag
        return other._version < self._version


def _version(tag: str) -> Version | None:
    try:
        return Version.parse_tag(tag)
    except FormatError:
        return None


def _with_aliases(found: list[Candidate]) -> Iterator[Candidate]:
    names: dict[Digest, list[str]] = {}
    for one in found:
        if one.what is not None:
            names.setdefault(one.what.digest, []).append(one.tag)
    for one in found:
        others = [] if one.what is None else names[one.what.digest]
        also = [tag for tag in others if tag != one.tag]
        if not also:
            yield one
            continue
        text = f"{', '.join(also[:5])[:200]} names the same bytes: adopt them once"
        yield replace(one, warnings=(*one.warnings, text))


class _Search:
    """Looks at tags, and asks nobody twice who does not answer.

    Args:
        source: the repository.
        network: limits of one request, and credentials.
        host: the repository's; components are looked for there as well.
        mirrored: see `find_candidates`.
        ends: when the time is over, by the monotonic clock.
    """

    def __init__(
        self,
        source: TaggedSource,
        network: Network,
        *,
        host: str,
        mirrored: Mirrored | None,
        ends: float,
    ) -> None:
        self._source = source
        self._network = network
        self._host = host
        self._mirrored = mirrored
        self._ends = ends
        self._silent: set[str] = set()

    def check(self, host: str) -> None:
        """Raise if a host is not to be asked any more.

        Raises:
            FetchError: the time is over, or it did not answer before.
        """
        if time.monotonic() >= self._ends:
            raise FetchError(
                "not looked at: this took too long in all", url=f"{SCHEME}{host}"
            )
        if host in self._silent:
            raise FetchError(
                f"not looked at: {host} did not answer before",
                url=f"{SCHEME}{host}",
                unreachable=True,
            )

    def _learn(self, host: str, why: Exception) -> None:
        if isinstance(why, FetchError) and why.unreachable:
            self._silent.add(host)

    def candidate(self, tag: str) -> Candidate:
        version = _version(tag)
        try:
            self.check(self._host)
            what = self._source.resolve(tag)
            data = read_checked(self._source, what)
            document = parse_manifest(data, what=tag)
        except (FetchError, FormatError, VerificationError) as why:
            self._learn(self._host, why)
            return Candidate(tag=tag, version=version, problem=str(why))
        warnings: list[str] = []
        if version is None:
            warnings.append(f"tag {tag} is no SemVer version: say which one it is")
        components: tuple[ResolvedComponent, ...] = ()
        kind = kind_of(document)
        if kind == "package" and not isinstance(document, Index):
            components = self._package(document, version, warnings)
        return Candidate(
            tag=tag,
            what=what,
            kind=kind,
            size=len(data) + _named_size(document),
            version=version,
            platforms=_platforms(document),
            components=components,
            warnings=tuple(warnings),
        )

    def _package(
        self, manifest: Manifest, version: Version | None, warnings: list[str]
    ) -> tuple[ResolvedComponent, ...]:
        try:
            self.check(self._host)
            data, files = read_description(self._source, manifest, warnings)
            description, problems = inspect_description(data, files=files)
        except (FetchError, FormatError, VerificationError) as why:
            warnings.append(str(why))
            return ()
        warnings += problems
        if description is None:
            return ()
        if version is not None and description.version_text != str(version):
            warnings.append(f"margo.yaml calls itself {description.version_text[:80]}")
        return tuple(islice(self._components(description), MOST_COMPONENTS))

    def _components(
        self, description: ApplicationDescription
    ) -> Iterator[ResolvedComponent]:
        seen = set()
        for profile in description.profiles:
            for one in profile.components:
                if one.repository is None or one.revision is None:
                    continue
                key = (one.name, one.repository, one.revision)
                if key not in seen:
                    seen.add(key)
                    yield self._component(*key)

    def _component(
        self, name: str, repository: str, revision: str
    ) -> ResolvedComponent:
        problem = ""
        try:
            tag = registry_tag(revision)
            for place in self._places(repository):
                try:
                    what = self._resolve(place, tag)
                except (FetchError, FormatError, VerificationError) as why:
                    problem = problem or str(why)
                else:
                    return ResolvedComponent(name, repository, revision, what)
        except FormatError as why:
            problem = str(why)
        return ResolvedComponent(name, repository, revision, None, problem)

    def _places(self, repository: str) -> tuple[str, ...]:
        """Return where a component is looked for.

        Raises:
            OciFormatError: a repository that is none, or of a host that neither this
                repository nor the author names.
        """
        reference = RegistryReference.parse(repository)
        at = reference.repository
        mapped = (at,) if self._mirrored is None else tuple(self._mirrored(at))
        if mapped == (at,) and reference.host != self._host:
            raise OciFormatError(
                f"not looked for: only its margo.yaml names {reference.host}; name it "
                "in [mirrors] if you trust it"
            )
        return mapped

    def _resolve(self, place: str, tag: str) -> Descriptor:
        if not place.startswith(SCHEME):
            source = open_source(place)
            if not isinstance(source, TaggedSource):
                raise OciFormatError(f"{place[:160]} has no tags")
            return source.resolve(tag)
        reference = RegistryReference.parse(place)
        self.check(reference.host)
        try:
            there = RegistryRepository(reference, network=self._network)
            return TaggedSource(there).resolve(tag)
        except FetchError as why:
            self._learn(reference.host, why)
            raise


def _platforms(document: Manifest | Index) -> tuple[str, ...]:
    if not isinstance(document, Index):
        return ()
    found = {one.platform for one in document.manifests}
    # What a builder attests has a platform, too, so that nobody runs it.
    return tuple(sorted(one for one in found if one and "unknown" not in one))


def _named_size(document: Manifest | Index) -> int:
    if isinstance(document, Index):
        return sum(one.descriptor.size for one in document.manifests)
    layers = sum(one.descriptor.size for one in document.layers)
    return document.config.size + layers
