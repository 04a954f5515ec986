"""Which parts of a release an identifier of somebody else's document means.

The parts are what the record names by digest: the artifact, components and images. A
digest decides, wherever it stands in an identifier and however its letters are written;
else what the attestation calls its subjects does. A digest that nobody knows means
something else, unless it may be one platform's manifest of an image: an index's digest
says nothing of those inside. Sets of parts are bits of a number,
so that documents of any size are read in time that grows with their size alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote

from margo_supplychain.errors import StatementFormatError
from margo_supplychain.formats.plain_text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.statements import Statement

# In package URLs the colon may be encoded; whoever writes hex may use upper case.
_DIGEST: Final = re.compile(
    r"(?:(sha(?:256|384|512))(?::|%3a)|^)([0-9a-f]{64,128})(?![0-9a-f])",
    re.ASCII | re.IGNORECASE,
)
_LENGTHS: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_REPOSITORY: Final = re.compile(r"[?&]repository_url=([^&#]*)", re.IGNORECASE)
# Names of repositories have 255 characters, each of them encoded at worst.
_LONGEST: Final = 800
# Subjects are called so by tools that have no name for them.
_NAMELESS: Final = frozenset({"", "_"})


class Placed(NamedTuple):
    """Where a product belongs.

    Args:
        parts: of this release, as bits; 0 for none.
        is_elsewhere: whether it is known to be something else. What is neither could
            be anything.
        is_unclear: whether it has a digest that may be of something in a part.
    """

    parts: int
    is_elsewhere: bool
    is_unclear: bool = False

    @property
    def is_known(self) -> bool:
        """Whether it is known what it is."""
        return bool(self.parts) or self.is_elsewhere


class Parts:
    """The parts of a release, as one statement may call them.

    Args:
        statement: whose subjects have names.
        digests: of the parts.
        repositories: image references and repositories of parts that may hold others.
    """

    def __init__(
        self,
        statement: Statement,
        digests: Iterable[Digest],
        repositories: Iterable[str] = (),
    ) -> None:
        self._images = {_last(one.partition("@")[0]) for one in repositories}
        self._products = tuple(dict.fromkeys(str(one) for one in digests))
        self._bits = {one: 1 << number for number, one in enumerate(self._products)}
        self._algorithms = {one.partition(":")[0] for one in self._products}
        self._called: dict[str, int] = {}
        self._elsewhere: set[str] = set()
        self.subjects = 0
        for one in statement.subjects:
            digests_of = [f"{name}:{value}" for name, value in one.digests.items()]
            bits = 0
            for each in digests_of:
                bits |= self._bits.get(each, 0)
            if not bits:
                self._elsewhere.update(digests_of)
            self._called[one.name] = self._called.get(one.name, 0) | bits
            self.subjects |= bits

    def named(self, parts: int) -> Iterator[str]:
        """Yield the digests of parts."""
        while parts:
            yield self._products[(parts & -parts).bit_length() - 1]
            parts &= parts - 1

    def place(
        self, identifiers: Iterable[str], *, hashes: Iterable[str] = (), what: str
    ) -> Placed:
        """Return what a product with these identifiers is.

        Args:
            identifiers: unverified: names, digests, package URLs, image references.
            hashes: `sha256:…` of files, unverified: a part has more than one, so one
                that is not its own does not say that it is something else.
            what: names the product in errors.

        Raises:
            StatementFormatError: it is called like a part, and has another's digest.
        """
        own = called = 0
        is_other = has_other_name = is_unclear = False
        for one in identifiers:
            if one not in _NAMELESS and one in self._called:
                called |= self._called[one]
                has_other_name = has_other_name or not self._called[one]
            lies_there = self._has_image(one)
            for found in _DIGEST.finditer(one):
                algorithm = (found[1] or "sha256").lower()
                digest = f"{algorithm}:{found[2].lower()}"
                own |= self._bits.get(digest, 0)
                # Elsewhere in a package URL is the digest of a file, or of a source.
                is_one = len(found[2]) == _LENGTHS[algorithm]
                before = one[max(found.start() - 1, 0) : found.start()]
                is_identity = (
                    is_one and before in ("", "@") and algorithm in self._algorithms
                )
                if digest in self._bits:
                    continue
                may_be_inside = is_identity and (
                    lies_there or self._may_hold(one, found.start())
                )
                # check 4.121 (instead: is_known = is_identity): an index's digest does
                # not say what is inside it
                is_known = is_identity and not may_be_inside
                is_other = is_other or is_known or digest in self._elsewhere
                is_unclear = is_unclear or may_be_inside
        for one in hashes:
            own |= self._bits.get(one.lower(), 0)
            is_other = is_other or one.lower() in self._elsewhere
        if called and not called & own and (own or is_other or is_unclear):
            raise StatementFormatError(
                f"{what} is called like one part of this release, and has the digest "
                "of something else"
            )
        return Placed(own or called, is_other or has_other_name, is_unclear)

    def _has_image(self, identifier: str) -> bool:
        """Tell whether a package URL says that it lies where a part does."""
        return any(
            _last(one) in self._images for one in _REPOSITORY.findall(identifier)
        )

    def _may_hold(self, identifier: str, start: int) -> bool:
        """Tell whether a digest may be of something inside a part, by its name.

        Args:
            identifier: such as a package URL.
            start: where the digest begins in it.
        """
        # Repositories are mirrored: of addresses, the last segment is what stays.
        end = max(start - 1, 0)
        name = _last(identifier[max(end - _LONGEST, 0) : end])
        return bool(self._images) and (not name or name in self._images)

    def require_placed(self, placed: Placed, *, name: str, what: str) -> None:
        """Refuse bad news of what could be this release.

        Args:
            placed: what is affected.
            name: what the document calls it.
            what: names the place in errors.

        Raises:
            StatementFormatError: it is not known what is affected.
        """
        # check 4.55: bad news of what could be this release is not passed over
        if not placed.is_known:
            raise StatementFormatError(
                f"{what} says that {quoted(name)} is affected, which could be a part "
                "of this release: neither a digest nor a subject's name says what it is"
            )


def _last(address: str) -> str:
    """Return the last segment of a repository's address, without a tag."""
    last = unquote(address).rstrip("/").rpartition("/")[2]
    return last.partition(":")[0].lower()
