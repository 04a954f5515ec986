"""No signature leaves this process unverified, whoever made it."""

from __future__ import annotations

import copy
import pickle

import pytest
from securesystemslib.signer import (
    CryptoSigner,
    GPGKey,
    Key,
    Signature,
    Signer,
)

from margo_supplychain.errors import SignerError
from margo_supplychain.signing.checked import CheckedSigner, public_half


class FaultySigner(Signer):
    """Signs something else than it was given."""

    def __init__(self) -> None:
        self._inner = CryptoSigner.generate_ed25519()

    @property
    def public_key(self) -> Key:
        return self._inner.public_key

    def sign(self, payload: bytes) -> Signature:
        return self._inner.sign(payload + b"!")

    @classmethod
    def from_priv_key_uri(cls, *arguments: object) -> FaultySigner:
        raise NotImplementedError


def test_wrong_signature_never_leaves_the_signer() -> None:
    signer = CheckedSigner(FaultySigner())
    with pytest.raises(SignerError, match="made a signature that does not verify"):
        signer.sign(b"payload")


def test_signer_does_not_leave_the_process() -> None:
    signer = CheckedSigner(CryptoSigner.generate_ed25519())
    with pytest.raises(TypeError, match="does not leave its process"):
        pickle.dumps(signer)
    with pytest.raises(TypeError, match="does not leave its process"):
        copy.copy(signer)
    with pytest.raises(NotImplementedError, match="open_keyring"):
        CheckedSigner.from_priv_key_uri("file2:a", signer.public_key)


class ForeignSigner(FaultySigner):
    """Has a key whose signatures are verified by a program, and not here."""

    @property
    def public_key(self) -> Key:
        return GPGKey("ab" * 20, "rsa", "pgp+rsa-pkcsv1.5", {"public": {}})


def test_public_half_is_one_that_devices_count() -> None:
    signer = CryptoSigner.generate_ed25519()
    assert public_half(CheckedSigner(signer)) == signer.public_key
    with pytest.raises(SignerError, match="is of type 'rsa'"):
        public_half(CheckedSigner(ForeignSigner()))
