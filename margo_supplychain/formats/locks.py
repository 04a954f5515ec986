"""Lock files: what a person reviewed, as TOML that a version control shows well.

`images.lock` pins the container images that components name, `components.lock` the
components themselves. Both are read when a release is built and published; a tag is
never read again. They are written in one order, so that the same pins are the same
bytes.

Example:
    >>> lock = ImageLock.parse(b"format = 1")
    >>> lock.images
    {}
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from margo_supplychain.errors import ApplicationFormatError, OciFormatError
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.toml import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

IMAGES_LOCK: Final = "images.lock"
COMPONENTS_LOCK: Final = "components.lock"
FORMAT: Final = 1
MAX_LOCK: Final = 1 << 20
MAX_ENTRIES: Final = 2000
_PLATFORM: Final = re.compile(r"[a-z0-9_.-]{1,40}(?:/[a-z0-9_.-]{1,40}){1,2}", re.ASCII)
_COMPONENT: Final = re.compile(r"[a-z0-9-]{1,200}", re.ASCII)
_OPTIONAL: Final = {"platforms", "components"}

_IMAGES_HEADER: Final = """\
# The container images of this package's components, by digest.
# Reviewed by people, read by `release build`: what is not here is not pinned.
"""
_COMPONENTS_HEADER: Final = """\
# The components of this package that are not built from it, by digest.
# Reviewed by people, read by `release publish`, which never reads a tag again.
"""


class LockedImage(NamedTuple):
    """What one image reference stands for; no platforms if they are not known.

    `components` names those whose images nothing can list, such as Helm charts, and
    that run this one: one entry with its name says that all of its images are there.
    """

    digest: Digest
    platforms: tuple[str, ...]
    components: tuple[str, ...] = ()


class ComponentKey(NamedTuple):
    """What a description says of a component."""

    name: str
    repository: str
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLock:
    """Pins of container images, by reference exactly as components name them."""

    images: Mapping[str, LockedImage]

    @classmethod
    def parse(cls, data: bytes, *, what: str = IMAGES_LOCK) -> Self:
        """Parse unverified bytes of an `images.lock`.

        Raises:
            ApplicationFormatError: not TOML, unknown or missing keys, wrong values.
        """
        images: dict[str, LockedImage] = {}
        for where, table in _tables(data, what, "image"):
            _check_keys(table, where, {"reference", "digest"}, _OPTIONAL)
            reference = _text(table, "reference", where)
            if reference in images:
                raise ApplicationFormatError(f"{where}.reference {reference} is twice")
            platforms = table.get("platforms", [])
            if not isinstance(platforms, list) or not all(
                isinstance(one, str) and _PLATFORM.fullmatch(one) for one in platforms
            ):
                raise ApplicationFormatError(
                    f"{where}.platforms is {platforms!r:.80}, expected a list of "
                    "platforms like linux/arm64"
                )
            images[reference] = LockedImage(
                _digest(table, where),
                tuple(sorted(set(platforms))),
                _components(table, where),
            )
        return cls(images=images)

    def to_bytes(self) -> bytes:
        """Return the file, sorted by reference."""
        lines = [_IMAGES_HEADER, f"format = {FORMAT}\n"]
        for reference, image in sorted(self.images.items()):
            platforms = ", ".join(quoted(one) for one in sorted(image.platforms))
            lines.append("\n[[image]]\n")
            lines.append(f"reference = {quoted(reference)}\n")
            lines.append(f"digest = {quoted(str(image.digest))}\n")
            lines.append(f"platforms = [{platforms}]\n")
            if image.components:
                names = ", ".join(quoted(one) for one in sorted(image.components))
                lines.append(f"components = [{names}]\n")
        return "".join(lines).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentLock:
    """Pins of components: the descriptor of each one's manifest."""

    components: Mapping[ComponentKey, Descriptor]

    @classmethod
    def parse(cls, data: bytes, *, what: str = COMPONENTS_LOCK) -> Self:
        """Parse unverified bytes of a `components.lock`.

        Raises:
            ApplicationFormatError: not TOML, unknown or missing keys, wrong values.
        """
        needed = {"name", "repository", "revision", "mediaType", "digest", "size"}
        found: dict[ComponentKey, Descriptor] = {}
        for where, table in _tables(data, what, "component"):
            _check_keys(table, where, needed, set())
            key = ComponentKey(
                _text(table, "name", where),
                _text(table, "repository", where),
                _text(table, "revision", where),
            )
            if key in found:
                raise ApplicationFormatError(f"{where} pins {key.name} a second time")
            media_type = _text(table, "mediaType", where)
            digest = _digest(table, where)
            try:
                found[key] = Descriptor(
                    media_type=media_type, digest=digest, size=table["size"]
                )
            except OciFormatError as why:
                raise ApplicationFormatError(f"{where}: {why}") from why
        return cls(components=found)

    def to_bytes(self) -> bytes:
        """Return the file, sorted by name, repository and revision."""
        lines = [_COMPONENTS_HEADER, f"format = {FORMAT}\n"]
        for key, what in sorted(self.components.items()):
            lines.append("\n[[component]]\n")
            for name, value in zip(key._fields, key, strict=True):
                lines.append(f"{name} = {quoted(value)}\n")
            lines.append(f"mediaType = {quoted(what.media_type)}\n")
            lines.append(f"digest = {quoted(str(what.digest))}\n")
            lines.append(f"size = {what.size}\n")
        return "".join(lines).encode()


def _tables(data: bytes, what: str, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if len(data) > MAX_LOCK:
        raise ApplicationFormatError(
            f"{what} has {len(data)} bytes, more than the limit of {MAX_LOCK}"
        )
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as why:
        raise ApplicationFormatError(f"{what} is not UTF-8") from why
    except RecursionError as why:  # tomllib recurses into arrays
        raise ApplicationFormatError(f"{what} is nested too deep") from why
    except ValueError as why:
        raise ApplicationFormatError(f"{what} is not TOML: {why}") from why
    _check_keys(document, what, {"format"}, {key})
    if type(document["format"]) is not int or document["format"] != FORMAT:
        raise ApplicationFormatError(
            f"{what} format is {document['format']!r:.80}, expected {FORMAT}"
        )
    tables = document.get(key, [])
    if not isinstance(tables, list) or len(tables) > MAX_ENTRIES:
        raise ApplicationFormatError(
            f"{what} {key} is not an array of at most {MAX_ENTRIES} tables"
        )
    for number, table in enumerate(tables):
        where = f"{what} {key}[{number}]"
        if not isinstance(table, dict):
            raise ApplicationFormatError(f"{where} is not a table")
        yield where, table


def _check_keys(
    table: Mapping[str, Any], where: str, needed: set[str], more: set[str]
) -> None:
    missing = sorted(needed - table.keys())
    unknown = sorted(table.keys() - needed - more)
    if missing:
        raise ApplicationFormatError(f"{where} has no key {missing[0]}")
    if unknown:
        raise ApplicationFormatError(f"{where} has the unknown key {unknown[0][:80]!r}")


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table[key]
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= 600
        or not value.isprintable()
    ):
        raise ApplicationFormatError(
            f"{where}.{key} is {value!r:.80}, expected printable text"
        )
    return value


def _components(table: Mapping[str, Any], where: str) -> tuple[str, ...]:
    names = table.get("components", [])
    if not isinstance(names, list) or not all(
        isinstance(one, str) and _COMPONENT.fullmatch(one) for one in names
    ):
        raise ApplicationFormatError(
            f"{where}.components is {names!r:.80}, expected a list of component names"
        )
    return tuple(sorted(set(names)))


def _digest(table: Mapping[str, Any], where: str) -> Digest:
    try:
        return Digest.parse(_text(table, "digest", where))
    except OciFormatError as why:
        raise ApplicationFormatError(f"{where}.digest: {why}") from why
