"""The closure of an OCI artifact: every blob that its manifest names, all the way down.

Pure: bytes come from the caller, who has checked them against the descriptor that
asked for them. The device fetches and the author publishes by this one walk, so they
cannot disagree about what belongs to a release. `subject` points upwards and is no
part of it, and neither are `urls`.

Example:
    >>> for part in walk(package, read):
    ...     print(part.role, part.descriptor.digest.short)
    config 44136fa355b3
    layer 0efd1feea313
    manifest 9f2c1a77b0d4
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from margo_supplychain.errors import (
    FormatError,
    OciFormatError,
    UnknownTargetError,
)
from margo_supplychain.formats.oci import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_MANIFEST,
    Index,
    Manifest,
    parse_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.oci import Entry

Role = Literal["config", "layer", "manifest"]
MAX_DEPTH: Final = 8
MAX_PARTS: Final = 10_000
_MAX_PLATFORM: Final = 80
# Values of GOOS and GOARCH, and containerd's variants.
_PLATFORM: Final = re.compile(r"[a-z0-9_]+/[a-z0-9_]+(?:/[a-z0-9_.]+)?", re.ASCII)


class Part(NamedTuple):
    """One blob of a closure and what it is there for."""

    role: Role
    descriptor: Descriptor


def is_manifest(what: Descriptor) -> bool:
    """Say whether a descriptor's media type promises a manifest or an index."""
    return what.media_type in MANIFEST_TYPES or what.media_type in INDEX_TYPES


def platform_name(text: str) -> str:
    """Return `text` if it is a platform, such as `linux/arm64` or `linux/arm/v7`.

    Raises:
        FormatError: if it is not.
    """
    if len(text) > _MAX_PLATFORM or _PLATFORM.fullmatch(text) is None:
        raise FormatError(
            f"platform {text[:80]!r} is not os/architecture or "
            "os/architecture/variant, such as linux/arm64"
        )
    return text


def chosen(
    index: Index, platforms: frozenset[str] | None, *, what: Descriptor
) -> tuple[Entry, ...]:
    """Return the entries of an index for the platforms that somebody asks for.

    An entry without a platform is for all of them. `linux/arm` takes every variant,
    `linux/arm/v7` that one alone.

    Args:
        index: parsed.
        platforms: `os/architecture` or `os/architecture/variant`; None for all.
        what: the index's descriptor, for messages.

    Raises:
        UnknownTargetError: the index names platforms, and none of these.
    """
    if platforms is None:
        return index.manifests
    named = {one.platform for one in index.manifests if one.platform is not None}
    taken = {one for one in named if _is_for(one, platforms)}
    # check 6.12: an index that names platforms has one of those asked for
    if named and not taken:
        raise UnknownTargetError(
            f"index {what.digest.short} has nothing for "
            f"{' or '.join(sorted(platforms))}, only for "
            f"{', '.join(sorted(named))[:160]}",
            name=str(what.digest),
            hint="ask for a platform that the release has, or for all",
        )
    return tuple(
        one for one in index.manifests if one.platform is None or one.platform in taken
    )


def _is_for(platform: str, asked: frozenset[str]) -> bool:
    # containerd, platforms.Normalize: arm64 is v8 whether it says so or not.
    plain = platform.removesuffix("/v8") if "/arm64/" in platform else platform
    return any(
        plain == one or plain.startswith(f"{one}/")
        for one in (one.replace("/arm64/v8", "/arm64") for one in asked)
    )


def children(
    what: Descriptor, data: bytes, *, platforms: frozenset[str] | None = None
) -> tuple[Part, ...]:
    """Return what a manifest or index names, in its order, each digest once.

    Args:
        what: the descriptor that led here.
        data: unverified bytes.
        platforms: of an index that names platforms, these alone; None for all.

    Raises:
        OciFormatError: not a manifest or index, not the kind that `what` promised, or
            one digest under two sizes.
        UnknownTargetError: as `chosen`.
    """
    found = parse_manifest(data, what=f"manifest {what.digest.short}")
    if found.media_type != what.media_type:
        raise OciFormatError(
            f"manifest {what.digest.short} is {found.media_type}, expected "
            f"{what.media_type}"
        )
    parts: dict[Digest, Part] = {}
    for part in _named(found, platforms, what):
        _merge(parts, part)
    return tuple(parts.values())


def walk(
    top: Descriptor,
    read: Callable[[Descriptor], bytes],
    *,
    depth: int = MAX_DEPTH,
    platforms: frozenset[str] | None = None,
) -> Iterator[Part]:
    """Yield the closure of a manifest or index, parts before what names them.

    Every digest comes once, `top` last: whoever copies in this order never leaves a
    manifest without its blobs.

    Args:
        top: descriptor of the manifest or index.
        read: returns the checked bytes of a manifest; called for manifests only.
        depth: how many indexes may lie in one another.
        platforms: of an index that names platforms, these alone; None for all.

    Raises:
        UnknownTargetError: as `chosen`.
        OciFormatError: as `children`; deeper than `depth`, above 10,000 parts, a
            manifest above 4 MiB.
    """
    if not is_manifest(top):
        raise OciFormatError(
            f"{top.digest} is {top.media_type}, expected a manifest or index"
        )
    seen: dict[Digest, Part] = {}
    # Each level holds the parts of one manifest that are still to come; the manifest
    # itself follows when they are done.
    levels: list[tuple[Part, Iterator[Part]]] = []

    def enter(part: Part) -> None:
        if len(levels) >= depth:
            raise OciFormatError(
                f"{top.digest.short} nests manifests deeper than {depth}"
            )
        if part.descriptor.size > MAX_MANIFEST:
            raise OciFormatError(
                f"manifest {part.descriptor.digest.short} has "
                f"{part.descriptor.size} bytes, more than {MAX_MANIFEST}"
            )
        data = read(part.descriptor)
        named = children(part.descriptor, data, platforms=platforms)
        levels.append((part, iter(named)))

    first = Part("manifest", top)
    _merge(seen, first)
    enter(first)
    while levels:
        parent, rest = levels[-1]
        part = next(rest, None)
        if part is None:
            levels.pop()
            yield parent
        elif _merge(seen, part):
            if len(seen) > MAX_PARTS:
                raise OciFormatError(
                    f"{top.digest.short} names more than {MAX_PARTS} parts"
                )
            if part.role == "manifest":
                enter(part)
            else:
                yield part


def _named(
    found: Manifest | Index, platforms: frozenset[str] | None, what: Descriptor
) -> Iterator[Part]:
    if isinstance(found, Manifest):
        yield Part("config", found.config)
        for layer in found.layers:
            yield Part("layer", layer.descriptor)
        return
    for entry in chosen(found, platforms, what=what):
        # An index may list artifacts of any type; only manifests can be followed.
        role: Role = "manifest" if is_manifest(entry.descriptor) else "layer"
        yield Part(role, entry.descriptor)


def _merge(parts: dict[Digest, Part], part: Part) -> bool:
    # Returns whether the part is new. The same bytes can't have two sizes, and a
    # manifest that is also called a layer would hide what it names.
    other = parts.setdefault(part.descriptor.digest, part)
    if other is part:
        return True
    if other.descriptor.size != part.descriptor.size:
        raise OciFormatError(
            f"{part.descriptor.digest} has sizes {other.descriptor.size} and "
            f"{part.descriptor.size}"
        )
    if "manifest" in (other.role, part.role) and other.role != part.role:
        raise OciFormatError(
            f"{part.descriptor.digest} is a {other.role} and a {part.role} at once"
        )
    return False
