"""What refers to a manifest: from the referrers API, or the tag that stands in for it.

A hint and nothing more: registries list what they like, and writers of the tag may
overwrite each other. It is kept for other tools, and nothing here relies on it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

from margo_supplychain.errors import (
    ConflictError,
    FetchError,
    FormatError,
    TooLargeError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.oci import (
    INDEX,
    MAX_MANIFEST,
    index_bytes,
    parse_layout_index,
)
from margo_supplychain.transport.oci_registry.answers import failure, next_page
from margo_supplychain.transport.oci_registry.lists import Pages

if TYPE_CHECKING:
    from collections.abc import Iterable

    from margo_supplychain.formats.oci import Entry
    from margo_supplychain.transport.oci_registry.authorization import Access
    from margo_supplychain.transport.oci_registry.client import RegistryClient

# 401: Harbor before it had them. 403 and 405: proxies that let few paths through.
_UNSUPPORTED: Final = frozenset({400, 401, 403, 404, 405, 406, 410, 501})
_MOST_TRIES: Final = 4  # to change a list that others change; the last only reads


class Manifests(Protocol):
    """The part of a repository that is needed here."""

    @property
    def url(self) -> str:
        """The repository."""

    def manifest(self, reference: str) -> tuple[bytes, str]:
        """Return a manifest's bytes and media type."""

    def put_manifest(
        self, data: bytes, media_type: str, *, tag: str | None = None
    ) -> Digest:
        """Store a manifest."""


class Referrers:
    """Lists what refers to the manifests of one repository.

    Args:
        manifests: of the repository.
        client: of the registry.
        access: to read the repository.
    """

    def __init__(
        self, manifests: Manifests, client: RegistryClient, access: Access
    ) -> None:
        self._manifests = manifests
        self._client = client
        self._access = access

    def of(
        self, subject: Digest, name: str, *, artifact_type: str | None, most: int
    ) -> tuple[Entry, ...]:
        """Return what refers to a manifest.

        Args:
            subject: the manifest.
            name: of it, in errors.
            artifact_type: of what is wanted.
            most: how many there may be.

        Raises:
            FetchError: no answer, or another.
            TooLargeError: there are more than `most`.
        """
        found = self._from_api(subject, name, artifact_type, most)
        if found is None:
            found = self._from_tag(subject)
        # A registry may not have filtered.
        kept = [one for one in found if artifact_type in {None, one.artifact_type}]
        if len(kept) > most:
            raise TooLargeError(f"{name} has more than {most} referrers", url=name)
        return tuple(kept)

    def has_api(self, subject: Digest, name: str) -> bool:
        """Say whether the registry itself lists what refers to a manifest.

        Raises:
            FetchError: no answer, or another.
        """
        url = f"{self._client.origin}/v2/{self._access.path}/referrers/{subject}"
        answer = self._client.ask("GET", url, self._access, limit=MAX_MANIFEST)
        if answer.status in _UNSUPPORTED:
            return False
        if answer.status != 200:
            raise failure(answer, host=self._client.host, what=name)
        _entries(answer.body, name)
        return True

    def add(self, subject: Digest, entry: Entry) -> None:
        """Add an entry to the tag of a subject; it is read back.

        Raises:
            ConflictError: the tag does not keep it.
            FetchError: no answer, or another.
        """
        tag = fallback_tag(subject)
        for left in reversed(range(_MOST_TRIES)):
            listed = self._from_tag(subject)
            if any(one.descriptor.digest == entry.descriptor.digest for one in listed):
                return
            if left:
                index = index_bytes([*listed, entry])
                self._manifests.put_manifest(index, INDEX, tag=tag)
        raise ConflictError(
            f"{self._manifests.url}:{tag} does not keep what it lists",
            hint="others write it too, or the registry reserves the tag; run it again",
        )

    def _from_api(
        self, subject: Digest, name: str, artifact_type: str | None, most: int
    ) -> Iterable[Entry] | None:
        """Return what the API lists; None where there is none."""
        client = self._client
        url: str | None = f"{client.origin}/v2/{self._access.path}/referrers/{subject}"
        if artifact_type is not None:
            url = f"{url}?artifactType={quote(artifact_type, safe='')}"
        found: dict[Digest, Entry] = {}
        pages = Pages(name)
        while url is not None:
            answer = client.ask("GET", url, self._access, limit=MAX_MANIFEST)
            if answer.status in _UNSUPPORTED and not found:
                return None
            if answer.status != 200:
                raise failure(answer, host=client.host, what=name)
            before = len(found)
            for one in _entries(answer.body, name):
                found.setdefault(one.descriptor.digest, one)
            if len(found) > most:
                raise TooLargeError(f"{name} has more than {most} referrers", url=name)
            pages.turn(is_new=len(found) > before)
            url = next_page(answer, origin=client.origin, what=name)
        return found.values()

    def _from_tag(self, subject: Digest) -> Iterable[Entry]:
        """Return what the subject's own tag lists, if there is one."""
        tag = fallback_tag(subject)
        try:
            data, _ = self._manifests.manifest(tag)
        except FetchError as why:
            if why.missing:
                return ()
            raise
        # GitLab takes the tag for the digest, and answers with the subject itself.
        if digest_of(data, subject.algorithm) == subject:
            return ()
        listed = _entries(data, f"{self._manifests.url}:{tag}")
        return {one.descriptor.digest: one for one in listed}.values()


def _entries(data: bytes, name: str) -> tuple[Entry, ...]:
    try:
        return parse_layout_index(data, limit=MAX_MANIFEST).manifests
    except FormatError as why:
        raise FetchError(f"{name} has no list of referrers: {why}", url=name) from why


def fallback_tag(subject: Digest) -> str:
    """Return the tag that lists what refers to a manifest (referrers tag schema)."""
    return f"{subject.algorithm[:32]}-{subject.hex[:64]}"


def digest_of(data: bytes, algorithm: str) -> Digest:
    """Return the digest of bytes in memory."""
    return Digest(algorithm, hashlib.new(algorithm, data).hexdigest())
