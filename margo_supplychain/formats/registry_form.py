"""Trust metadata as OCI manifests: what it is called and how it is wrapped.

A registry keeps only what a tagged manifest names. So every file of a trust repository
is the single layer of a manifest of its own: exact bytes, small ones also inline in the
layer's descriptor, under a tag that follows from the file's name or digest. Two names
never share a tag. `timestamp` is the only one that moves; for other publishers its
bytes stay under `<version>.timestamp`, too, which no device asks for. Registries that
refuse the form of OCI 1.1 (`artifactType`, empty config) take that of OCI 1.0 (the
config's media type is the artifact's); readers take both. Nothing here says that bytes
are trusted, or does I/O.

Example:
    >>> metadata_tag("3.root.json"), metadata_file("3.root")
    ('3.root', '3.root.json')
    >>> manifest, blobs = wrapped(b"{}", media_type=TUF_METADATA)
    >>> unwrapped(manifest).inline
    b'{}'
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from margo_supplychain.errors import OciFormatError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.oci import (
    EMPTY,
    EMPTY_BYTES,
    MANIFEST,
    Index,
    Layer,
    manifest_bytes,
    parse_manifest,
)
from margo_supplychain.formats.release_parts import ENVELOPE

if TYPE_CHECKING:
    from margo_supplychain.formats.digests import Digest

TUF_METADATA: Final = "application/vnd.tuf.metadata+json"
TUF_TARGET: Final = "application/vnd.tuf.target"
ATTESTATION: Final = ENVELOPE

TIMESTAMP_TAG: Final = "timestamp"
"""The one tag that ever moves."""

MAX_INLINE: Final = 32 << 10  # bytes, before base64
MAX_WRAPPED: Final = 128 << 10  # bytes of a manifest that wraps one file

Form = Literal["1.1", "1.0"]

_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
# At most 16 digits, as of 2^53 - 1, so that the hashed form is never too long.
_FILE: Final = re.compile(r"([1-9][0-9]{0,15})\.(.+)\.json", re.ASCII | re.DOTALL)
_HASHED: Final = re.compile(r"_[0-9a-f]{64}", re.ASCII)
_BY_DIGEST: Final = re.compile(r"[tac]\.[0-9a-f]{64}", re.ASCII)


class Wrapped(NamedTuple):
    """What the manifest around one file says; nothing of it is verified.

    Args:
        layer: the file's digest and size.
        inline: its bytes, compared with `layer`, if the manifest holds them.
        kind: the artifact's type, in either form.
        title: the file's name, if the manifest tells it.
    """

    layer: Descriptor
    inline: bytes | None
    kind: str
    title: str | None


def metadata_tag(filename: str) -> str:
    """Return the tag of a metadata file, different for each file name.

    It is the name without `.json`. A role's name that is too long, holds what a tag
    can't (`%`, `~`), or looks like a hash itself, is replaced by `_` and the sha256 of
    it as it stands in the file name.

    Raises:
        OciFormatError: neither `timestamp.json` nor `<version>.<role>.json`.
    """
    if filename == f"{TIMESTAMP_TAG}.json":
        return TIMESTAMP_TAG
    found = _FILE.fullmatch(filename)
    if found is None:
        raise OciFormatError(
            f"metadata {filename[:160]!r} is neither timestamp.json nor "
            "<version>.<role>.json"
        )
    tag = f"{found[1]}.{found[2]}"
    if _TAG.fullmatch(tag) is not None and _HASHED.fullmatch(found[2]) is None:
        return tag
    # A half of a surrogate pair, which is no text, must not end in a traceback.
    role = found[2].encode("utf-8", "surrogatepass")
    return f"{found[1]}._{hashlib.sha256(role).hexdigest()}"


def metadata_file(tag: str) -> str | None:
    """Return the metadata file that a tag is of; None if the tag alone can't tell.

    Then the manifest's title does, if `metadata_tag` of it is this tag.
    """
    filename = f"{tag}.json"
    if tag == TIMESTAMP_TAG:
        return filename
    found = _FILE.fullmatch(filename)
    if found is None or _TAG.fullmatch(tag) is None or _HASHED.fullmatch(found[2]):
        return None
    return filename


def target_tag(digest: Digest) -> str:
    """Return the tag of a target file, by its digest."""
    return f"t.{_hex(digest)}"


def attestation_tag(digest: Digest) -> str:
    """Return the tag of an attestation, by its digest."""
    return f"a.{_hex(digest)}"


def content_tag(digest: Digest) -> str:
    """Return the tag, in a trust repository, of content that lies nowhere else.

    It names the content's own manifest, unchanged.
    """
    return f"c.{_hex(digest)}"


def is_reserved(tag: str) -> bool:
    """Say whether something of a trust repository's own may have this tag there.

    Content under it would be taken for that, or keep it out; a version like 1.2.0 may
    be one, too, as the first version of a role.
    """
    return (
        tag == TIMESTAMP_TAG
        or _FILE.fullmatch(f"{tag}.json") is not None
        or _BY_DIGEST.fullmatch(tag) is not None
    )


def is_as_tagged(manifest: bytes, tag: str, what: Descriptor) -> bool:
    """Say whether a manifest is what a tag by digest must name.

    Such a tag says which bytes it has: anything else under it is somebody's mistake.

    Args:
        manifest: exact bytes of what has the tag.
        tag: of a target file, an attestation or content.
        what: the digest and size of that.
    """
    if tag == content_tag(what.digest):
        found = hashlib.new(what.digest.algorithm, manifest).hexdigest()
        return found == what.digest.hex
    kinds = {
        target_tag(what.digest): TUF_TARGET,
        attestation_tag(what.digest): ATTESTATION,
    }
    try:
        held = unwrapped(manifest)
    except OciFormatError:
        return False
    return held.kind == kinds.get(tag) and (held.layer.digest, held.layer.size) == (
        what.digest,
        what.size,
    )


def wrapped(
    data: bytes, *, media_type: str, form: Form = "1.1", title: str | None = None
) -> tuple[bytes, tuple[tuple[Descriptor, bytes], ...]]:
    """Return the deterministic manifest around `data`, and the blobs to push before.

    Args:
        data: the exact bytes; inline as well up to 32 KiB.
        media_type: of the artifact and of its layer.
        form: of OCI 1.1, or of 1.0 for registries that refuse that.
        title: the file's name, for those who list or pull it.

    Raises:
        OciFormatError: the media type or title is none.
    """
    what = Descriptor.of(data, media_type)
    inline = data if len(data) <= MAX_INLINE else None
    manifest, config = wrapping(what, inline=inline, form=form, title=title)
    return manifest, ((config, EMPTY_BYTES), (what, data))


def wrapping(
    what: Descriptor,
    *,
    inline: bytes | None = None,
    form: Form = "1.1",
    title: str | None = None,
) -> tuple[bytes, Descriptor]:
    """Return the manifest around the file `what`, and its config, which is `{}`.

    Raises:
        OciFormatError: the title is none.
    """
    is_new = form == "1.1"
    config = EMPTY if is_new else Descriptor.of(EMPTY_BYTES, what.media_type)
    plain = manifest_bytes(
        artifact_type=what.media_type if is_new else None,
        layers=[Layer(descriptor=what, title=title)],
        config=config,
    )
    if inline is None:
        return plain, config
    document = _document(plain)
    document["layers"][0]["data"] = base64.b64encode(inline).decode("ascii")
    return strict_json.canonical(document), config


def unwrapped(manifest: bytes, *, what: str = "manifest") -> Wrapped:
    """Parse the unverified manifest around one file, of either form.

    Raises:
        OciFormatError: no image manifest of a single layer, or the bytes inline are
            not of the layer's digest and size.
    """
    if len(manifest) > MAX_WRAPPED:
        raise OciFormatError(
            f"{what} has {len(manifest)} bytes, more than the limit of {MAX_WRAPPED}"
        )
    found = parse_manifest(manifest, what=what)
    if isinstance(found, Index) or found.media_type != MANIFEST:
        raise OciFormatError(f"{what} is no OCI image manifest around one file")
    if len(found.layers) != 1:
        raise OciFormatError(f"{what} has {len(found.layers)} layers, expected one")
    layer = found.layers[0]
    return Wrapped(
        layer=layer.descriptor,
        inline=_inline(_document(manifest)["layers"][0], layer.descriptor, what),
        kind=found.kind,
        title=layer.title,
    )


def _hex(digest: Digest) -> str:
    if digest.algorithm == "sha256":
        return digest.hex
    # Only a digest of 64 digits fits into every tag.
    return hashlib.sha256(str(digest).encode("ascii")).hexdigest()


def _document(manifest: bytes) -> dict[str, Any]:
    return strict_json.parse(
        manifest, what="manifest", limit=MAX_WRAPPED, error=OciFormatError
    )


def _inline(layer: dict[str, Any], what: Descriptor, where: str) -> bytes | None:
    text = layer.get("data")
    if text is None:
        return None
    if not isinstance(text, str):
        raise OciFormatError(f"{where} has data inline that is {text!r:.80}")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as why:
        raise OciFormatError(f"{where} has data inline that is not base64") from why
    # OCI image-spec, descriptor.md: a reader must compare both before it uses them.
    hashed = hashlib.new(what.digest.algorithm, data).hexdigest()
    if len(data) != what.size or hashed != what.digest.hex:
        raise OciFormatError(f"{where} has data inline that is not {what.digest}")
    return data
