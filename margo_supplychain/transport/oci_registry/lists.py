"""What a registry lists of a repository: tags, and what refers to a manifest.

Lists come in pages; each is bounded, stays at the registry's origin and must bring
something new. What they say is a hint and nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from margo_supplychain.errors import FetchError, FormatError, TooLargeError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.oci import MAX_MANIFEST, parse_layout_index
from margo_supplychain.formats.references import registry_tag
from margo_supplychain.transport.oci_registry.answers import failure, next_page

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.oci import Entry
    from margo_supplychain.transport.oci_registry.authorization import Access
    from margo_supplychain.transport.oci_registry.client import RegistryClient
    from margo_supplychain.transport.oci_registry.tokens import Tick

_PAGE: Final = 1000
_MOST_STALE: Final = 4
# 401: Harbor before it had them. 403 and 405: proxies that let few paths through.
_UNSUPPORTED: Final = frozenset({400, 401, 403, 404, 405, 406, 410, 501})


def list_tags(
    client: RegistryClient, access: Access, *, name: str, most: int, tick: Tick = None
) -> Iterator[str]:
    """Yield the tags of a repository, each once.

    Args:
        name: of the repository, in errors.
        most: how many there may be.

    Raises:
        FetchError: no list; `missing` if there is no such repository.
        TooLargeError: there are more than `most`.
    """
    url: str | None = f"{client.origin}/v2/{access.path}/tags/list?n={_PAGE}"
    seen: set[str] = set()
    pages = _Pages(name)
    while url is not None:
        answer = client.ask("GET", url, access, limit=MAX_MANIFEST, tick=tick)
        if answer.status != 200:
            raise failure(answer, host=client.host, what=name)
        try:
            members = strict_json.parse(answer.body, what="it", limit=MAX_MANIFEST)
            # null is what some write for none.
            found = members.get("tags") or []
            if not isinstance(found, list):
                raise FormatError("its tags are no list")
            page = [registry_tag(one if isinstance(one, str) else "") for one in found]
        except FormatError as why:
            raise FetchError(f"{name} has no list of tags: {why}", url=name) from why
        new = [tag for tag in dict.fromkeys(page) if tag not in seen]
        seen.update(new)
        if len(seen) > most:
            raise TooLargeError(f"{name} has more than {most} tags", url=name)
        yield from new
        pages.turn(is_new=bool(new))
        url = next_page(answer, origin=client.origin, what=name)


def list_referrers(
    client: RegistryClient,
    access: Access,
    digest: Digest,
    *,
    name: str,
    artifact_type: str | None,
    most: int,
) -> list[Entry] | None:
    """Return what the referrers API lists, or None where there is none.

    Raises:
        FetchError: the list can't be read.
        TooLargeError: there are more than `most`.
    """
    url: str | None = f"{client.origin}/v2/{access.path}/referrers/{digest}"
    if artifact_type is not None:
        url = f"{url}?artifactType={quote(artifact_type, safe='')}"
    found: dict[Digest, Entry] = {}
    pages = _Pages(name)
    while url is not None:
        answer = client.ask("GET", url, access, limit=MAX_MANIFEST)
        if answer.status in _UNSUPPORTED and not found:
            return None
        if answer.status != 200:
            raise failure(answer, host=client.host, what=name)
        before = len(found)
        try:
            for one in parse_layout_index(answer.body, limit=MAX_MANIFEST).manifests:
                found.setdefault(one.descriptor.digest, one)
        except FormatError as why:
            raise FetchError(f"{name} has no list: {why}", url=name) from why
        if len(found) > most:
            raise TooLargeError(f"{name} has more than {most} referrers", url=name)
        pages.turn(is_new=len(found) > before)
        url = next_page(answer, origin=client.origin, what=name)
    return of_type(found.values(), artifact_type)


def of_type(entries: Iterable[Entry], artifact_type: str | None) -> list[Entry]:
    """Return the entries of a type: a registry may not have filtered."""
    return [
        one
        for one in entries
        if artifact_type is None or one.artifact_type == artifact_type
    ]


class _Pages:
    """Counts the pages that bring nothing new: a list may go in circles."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stale = 0

    def turn(self, *, is_new: bool) -> None:
        """Take note of a page.

        Raises:
            FetchError: too many in a row brought nothing new.
        """
        self._stale = 0 if is_new else self._stale + 1
        if self._stale > _MOST_STALE:
            raise FetchError(
                f"{self._name} lists nothing new on {self._stale} pages in a row",
                url=self._name,
            )
