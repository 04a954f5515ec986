"""Envelopes as files: complete or absent, and never another one's place taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.errors import ConflictError, FormatError, StorageError
from margo_supplychain.formats.dsse import MAX_ENVELOPE, Envelope
from margo_supplychain.signing.envelopes import sign_envelope
from margo_supplychain.storage import durable
from margo_supplychain.threshold import distinct_signers

if TYPE_CHECKING:
    from pathlib import Path

    from securesystemslib.signer import Signer


def keep(
    path: Path, payload_type: str, payload: bytes, signer: Signer, *, force: bool
) -> bool:
    """Sign a payload and write the envelope; say whether it is new.

    A file that holds the same payload, signed by the same key, stays as it is: most
    signatures differ from one time to the next.

    Args:
        path: of the file; its directory is made if it is not there.
        payload_type: of the envelope.
        payload: exact bytes.
        signer: of one key.
        force: replace what is there.

    Raises:
        FormatError: the file holds something else; or the envelope would be too large.
        StorageError: it can't be written.
        SignerError: the key can't sign.
    """
    if _is_same(path, payload_type, payload, signer):
        return False
    data = sign_envelope(payload_type, payload, [signer])
    durable.make_directory(path.parent)
    if force:
        durable.write_file(path, data)
        return True
    try:
        durable.write_new_file(path, data)
    except ConflictError as why:
        raise FormatError(
            f"{path} exists and says something else",
            where=str(path),
            hint="name another --output, or --force replaces it",
        ) from why
    return True


def _is_same(path: Path, payload_type: str, payload: bytes, signer: Signer) -> bool:
    try:
        data = durable.read_file(path, limit=MAX_ENVELOPE, follow=False)
        found = Envelope.parse(data, what=str(path))
    except (FileNotFoundError, FormatError, StorageError):
        return False  # whoever writes there says what is in the way
    if (found.payload_type, found.payload) != (payload_type, payload):
        return False
    key = signer.public_key
    return bool(distinct_signers(found.pae, found.signatures, {key.keyid: key}))
