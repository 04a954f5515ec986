"""What a registry's tags name, for people who will sign some of it by digest.

Nothing here is trusted and nothing is signed: a tag says today what it says, and the
digest beside it is what a person reviews. A bounded number of tags is looked at, those
that are versions first, newest first.
"""

from __future__ import annotations

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
from margo_supplychain.formats.references import RegistryReference, registry_tag
from margo_supplychain.formats.versions import Version
from margo_supplychain.transport.network import DEFAULT_NETWORK
from margo_supplychain.transport.oci_registry.repository import RegistryRepository
from margo_supplychain.transport.tagged import TaggedSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from margo_supplychain.formats.application import ApplicationDescription
    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.oci import Manifest
    from margo_supplychain.transport.network import Network

MOST_TAGS: Final = 10_000  # that are listed at all
MOST_COMPONENTS: Final = 100  # of one package, that are looked for


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
        components: of a package, as their tags stand.
        warnings: what a reviewer should know, one line each.
        problem: why it can't be read.
    """

    tag: str
    what: Descriptor | None = None
    kind: str | None = None
    size: int = 0
    version: Version | None = None
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
    """

    url: str
    tags: int
    candidates: tuple[Candidate, ...]


def find_candidates(url: str, *, network: Network | None, most: int) -> Candidates:
    """Look at what a repository's tags name.

    Args:
        url: `oci://host/path`.
        network: limits and credentials.
        most: how many tags to look at.

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
    repository = RegistryRepository(reference, network=network)
    tags = list(islice(repository.tags(most=MOST_TAGS), MOST_TAGS))
    search = _Search(TaggedSource(repository), network)
    found = [search.candidate(tag) for tag in sorted(tags, key=_order)[:most]]
    return Candidates(reference.repository, len(tags), tuple(_with_aliases(found)))


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
    def __init__(self, source: TaggedSource, network: Network) -> None:
        self._source = source
        self._network = network

    def candidate(self, tag: str) -> Candidate:
        version = _version(tag)
        try:
            what = self._source.resolve(tag)
            data = read_checked(self._source, what)
            document = parse_manifest(data, what=tag)
        except (FetchError, FormatError, VerificationError) as why:
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
            components=components,
            warnings=tuple(warnings),
        )

    def _package(
        self, manifest: Manifest, version: Version | None, warnings: list[str]
    ) -> tuple[ResolvedComponent, ...]:
        try:
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
        try:
            reference = RegistryReference.parse(repository)
            there = RegistryRepository(reference, network=self._network)
            what = TaggedSource(there).resolve(registry_tag(revision))
        except (FetchError, FormatError, VerificationError) as why:
            return ResolvedComponent(name, repository, revision, None, str(why))
        return ResolvedComponent(name, repository, revision, what)


def _named_size(document: Manifest | Index) -> int:
    if isinstance(document, Index):
        return sum(one.descriptor.size for one in document.manifests)
    layers = sum(one.descriptor.size for one in document.layers)
    return document.config.size + layers
