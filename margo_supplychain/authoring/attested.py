"""Where the attestations of releases lie, and what of them is missing there.

Every envelope that a record or its entry names lies in the trust repository itself, by
its digest: as a blob beside the files of a directory, elsewhere under a tag of its own
(`a.<hex>`), so that no clean-up takes it. Devices need no tag. What an envelope says,
and who signed it, is not looked at here.

Example:
    >>> from margo_supplychain.formats.digests import Digest
    >>> attestation_tag(envelope_at(Digest.of(b"{}"), 2).digest)[:14]
    'a.44136fa355b3'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from margo_supplychain.errors import FetchError, VerificationError
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.references import SCHEME
from margo_supplychain.formats.registry_form import ATTESTATION, attestation_tag
from margo_supplychain.storage.receive import check_stream, read_exact
from margo_supplychain.transport.tagged_sink import TaggedSink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from margo_supplychain.errors import SupplyChainError
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.formats.release_entry import ReleaseEntry
    from margo_supplychain.transport.protocols import Sink, Source


def named_envelopes(
    record: ReleaseRecord, entry: ReleaseEntry | None
) -> tuple[Descriptor, ...]:
    """Return every envelope that a release names, each once.

    Args:
        record: names what the release was made by, and what is said of it.
        entry: of it in the list; names verification summaries.
    """
    pins = [(one.digest, one.size) for one in record.attestations]
    if entry is not None:
        pins += [(one.digest, one.size) for one in entry.summaries]
    return tuple(envelope_at(*one) for one in dict.fromkeys(pins))


def envelope_at(digest: Digest, size: int) -> Descriptor:
    """Return what an envelope of this digest is read as."""
    return Descriptor(media_type=ATTESTATION, digest=digest, size=size)


def read_envelope(source: Source, what: Descriptor) -> bytes:
    """Return exactly the bytes of an envelope.

    Raises:
        FetchError: the source can't give it.
        LengthMismatchError, DigestMismatchError: it gives something else.
    """
    with source.blob(what) as stream:
        return read_exact(what, stream, subject=f"attestation {what.digest.short}")


def put_envelope(place: Sink, what: Descriptor, data: BinaryIO) -> None:
    """Store an envelope where devices look, and so that it stays.

    Raises:
        LengthMismatchError, DigestMismatchError: `data` is not `what`.
        ConflictError, FetchError, StorageError: it can't be written.
    """
    if isinstance(place, TaggedSink):
        place.put_attestation(what, data)
    else:
        place.put_blob(what, data)


def has_own_tag(place: Sink, what: Descriptor) -> bool:
    """Say whether an envelope has its tag, where files have tags.

    Raises:
        FetchError: that can't be found out.
    """
    tag = attestation_tag(what.digest)
    return not isinstance(place, TaggedSink) or place.keeps(tag, what)


def is_kept(place: Sink, what: Descriptor) -> bool:
    """Say whether a place holds an envelope so that it stays.

    A registry is asked; files are hashed.
    """
    return next(envelope_problems(place, [what]), None) is None


def envelope_problems(
    place: Sink, named: Iterable[Descriptor]
) -> Iterator[SupplyChainError]:
    """Yield what is wrong with envelopes that signed metadata names."""
    for what in named:
        try:
            _require(place, what)
        except (FetchError, VerificationError) as why:
            yield why


def _require(place: Sink, what: Descriptor) -> None:
    shown = f"attestation {what.digest.short}"
    if not place.url.startswith(SCHEME):
        with place.blob(what) as stream:
            check_stream(what, stream, subject=shown)
    elif not place.has_blob(what):
        raise FetchError(
            f"{place.url} does not hold {shown}, which a signed record names",
            url=place.url,
            missing=True,
        )
    if not has_own_tag(place, what):
        raise FetchError(
            f"{shown} has no tag, or one that names something else: the next clean-up "
            "there removes it",
            url=place.url,
            missing=True,
        )
