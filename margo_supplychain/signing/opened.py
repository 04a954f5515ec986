"""What every signer that this package opens refuses: another way in, and a way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Never, Self

from securesystemslib.signer import Signer

if TYPE_CHECKING:
    from securesystemslib.signer import Key, SecretsHandler


class OpenedSigner(Signer):
    """A signer that `open_keyring` alone opens, and that stays in its process."""

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
