"""The tags that a registry lists of a repository.

Lists come in pages; each is bounded, stays at the registry's origin and must bring
something new. What they say is a hint and nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import FetchError, FormatError, TooLargeError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.oci import MAX_MANIFEST
from margo_supplychain.formats.references import registry_tag
from margo_supplychain.transport.oci_registry.answers import failure, next_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from margo_supplychain.transport.oci_registry.authorization import Access
    from margo_supplychain.transport.oci_registry.client import RegistryClient
    from margo_supplychain.transport.oci_registry.tokens import Tick

_PAGE: Final = 1000
_MOST_STALE: Final = 4


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
    pages = Pages(name)
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


class Pages:
    """Counts the pages that bring nothing new: a list may go in circles.

    Args:
        name: of the list, in errors.
    """

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
