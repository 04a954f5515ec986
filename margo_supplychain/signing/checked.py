"""No signature leaves this process unverified, whoever made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Never, Self, final

from securesystemslib.exceptions import Error as SecuresystemslibError
from securesystemslib.signer import SecretsHandler, Signature, Signer, SSlibKey

from margo_supplychain.errors import SignerError

if TYPE_CHECKING:
    from securesystemslib.signer import Key


@final
class CheckedSigner(Signer):
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

    @classmethod
    def from_priv_key_uri(
        cls,
        priv_key_uri: str,
        public_key: Key,
        secrets_handler: SecretsHandler | None = None,
    ) -> Self:
        """Refuse: keys are opened by `open_keyring`, which checks what it opens."""
        raise NotImplementedError("open keys by margo_supplychain.signing.open_keyring")

    def __reduce__(self) -> Never:
        raise TypeError("a signer does not leave its process")


def public_half(signer: Signer) -> SSlibKey:
    """Return the public key of a signer that this package opened.

    Raises:
        SignerError: it is of a kind whose signatures no device counts.
    """
    key = signer.public_key
    if not isinstance(key, SSlibKey):
        raise SignerError(f"key {key.keyid[:12]} is of type {key.keytype!r:.40}")
    return key
