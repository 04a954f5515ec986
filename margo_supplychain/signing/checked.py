"""No signature leaves this process unverified, whoever made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from securesystemslib.exceptions import Error as SecuresystemslibError
from securesystemslib.signer import SSlibKey

from margo_supplychain.errors import SignerError
from margo_supplychain.signing.opened import OpenedSigner

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signature, Signer


@final
class CheckedSigner(OpenedSigner):
    """A signer that verifies each signature that it made before it hands it out.

    A flipped bit in memory or a faulty token can turn a signature into one that leaks
    the key or that nobody accepts: such a signature must not leave the process.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    @property
    def public_key(self) -> Key:
        """The public half."""
        return self._signer.public_key

    def sign(self, payload: bytes) -> Signature:
        """Sign `payload`.

        Raises:
            SignerError: the signature that came out does not verify.
        """
        signature = self._signer.sign(payload)
        try:
            self.public_key.verify_signature(signature, payload)
        except SecuresystemslibError as why:
            raise SignerError(
                f"key {self.public_key.keyid[:12]} made a signature that does not "
                "verify",
                hint="nothing was written; check the machine or token, do not go on",
            ) from why
        return signature


def public_half(signer: Signer) -> SSlibKey:
    """Return the public key of a signer that this package opened.

    Raises:
        SignerError: it is of a kind whose signatures no device counts.
    """
    key = signer.public_key
    if not isinstance(key, SSlibKey):
        raise SignerError(f"key {key.keyid[:12]} is of type {key.keytype!r:.40}")
    return key
