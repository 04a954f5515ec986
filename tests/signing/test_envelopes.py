"""Envelopes are signed by distinct keys, at once or in turn, over bytes that stay."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from in_toto.models.link import Link
from in_toto.models.metadata import Metadata
from securesystemslib.signer import CryptoSigner, GPGKey, Key, Signer, SSlibKey

import margo_supplychain.signing
from margo_supplychain.errors import EnvelopeFormatError, SignerError
from margo_supplychain.formats.dsse import PAYLOAD, Envelope, EnvelopeSignature
from margo_supplychain.signing.checked import CheckedSigner
from margo_supplychain.signing.envelopes import add_signatures, sign_envelope
from margo_supplychain.signing.keyring import open_keyring
from margo_supplychain.threshold import distinct_signers
from tests.signing.asking import PASSPHRASE, Asked

if TYPE_CHECKING:
    from pathlib import Path

    from securesystemslib.signer import Signature

LINK = b'{"_type":"link","name":"build","materials":{},"products":{}}'


def signers_of(data: bytes, *signers: Signer) -> set[str]:
    envelope = Envelope.parse(data, what="it")
    keys = {one.public_key.keyid: one.public_key for one in signers}
    return {*distinct_signers(envelope.pae, envelope.signatures, keys).values()}


def ids(*signers: Signer) -> set[str]:
    return {one.public_key.keyid for one in signers}


class Alias(Signer):
    """The same key under another id, and a key of another kind."""

    def __init__(self, key: Key, inner: CryptoSigner) -> None:
        self._key = key
        self._inner = inner

    @property
    def public_key(self) -> Key:
        return self._key

    def sign(self, payload: bytes) -> Signature:
        return self._inner.sign(payload)

    @classmethod
    def from_priv_key_uri(cls, *arguments: object) -> Alias:
        raise NotImplementedError


def test_keys_of_every_scheme(made: dict[str, Path]) -> None:
    with open_keyring(pin=Asked(PASSPHRASE)) as keyring:
        signers = [keyring.open(str(path)) for path in made.values()]
        data = sign_envelope(PAYLOAD, LINK, signers)
    envelope = Envelope.parse(data, what="it")
    assert (envelope.payload_type, envelope.payload) == (PAYLOAD, LINK)
    assert signers_of(data, *signers) == ids(*signers)
    assert [one.keyid for one in envelope.signatures] == [
        one.public_key.keyid for one in signers
    ]


def test_signatures_in_turn() -> None:
    one, two, three = (CryptoSigner.generate_ecdsa() for _ in range(3))
    first = sign_envelope(PAYLOAD, LINK, [one])
    both = add_signatures(first, [two])
    assert signers_of(both, one, two) == ids(one, two)
    all_three = add_signatures(both, [three, one])
    assert signers_of(all_three, one, two, three) == ids(one, two, three)
    # Who has signed keeps his signature, and the file all its bytes.
    spaced = json.dumps(json.loads(all_three), indent=2).encode()
    assert add_signatures(spaced, [two, one]) == spaced
    assert Envelope.parse(all_three, what="it").payload == LINK


def test_signature_that_does_not_verify_is_replaced() -> None:
    one, two = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()
    keyid = one.public_key.keyid
    strange = EnvelopeSignature(keyid="somebody", sig=b"x")
    bad = (EnvelopeSignature(keyid=keyid, sig=b"x"), strange)
    data = Envelope(PAYLOAD, LINK, bad).to_bytes()
    added = Envelope.parse(add_signatures(data, [two]), what="it")
    assert added.signatures[:2] == bad
    mended = Envelope.parse(add_signatures(data, [one]), what="it")
    assert [each.keyid for each in mended.signatures] == ["somebody", keyid]
    assert signers_of(mended.to_bytes(), one, two) == {keyid}


def test_in_toto_reads_it() -> None:
    one = CryptoSigner.generate_ecdsa()
    data = sign_envelope(PAYLOAD, LINK, [one])
    found = Metadata.from_dict(json.loads(data))  # type: ignore[no-untyped-call] # in-toto
    found.verify_signature({"keyid": one.public_key.keyid, **one.public_key.to_dict()})
    assert isinstance(found.get_payload(), Link)


@pytest.mark.parametrize("add", [False, True])
def test_no_key_and_one_key_twice(add: bool) -> None:
    one = CryptoSigner.generate_ed25519()
    key = one.public_key
    again = SSlibKey("b" * 64, key.keytype, key.scheme, key.keyval)
    gpg = GPGKey("ab" * 20, "rsa", "pgp+rsa-pkcsv1.5", {"public": {}})

    def sign(*signers: Signer) -> bytes:
        if add:
            return add_signatures(sign_envelope(PAYLOAD, LINK, [one]), signers)
        return sign_envelope(PAYLOAD, LINK, signers)

    with pytest.raises(SignerError, match="no key is given to sign with"):
        sign()
    with pytest.raises(SignerError, match="is given twice, also as"):
        sign(one, one)
    with pytest.raises(SignerError, match=f"key {'b' * 12} is given twice, also as"):
        sign(one, Alias(again, one))
    with pytest.raises(SignerError, match="key abababababab is of type 'rsa'"):
        sign(Alias(gpg, one))


def test_what_devices_would_not_read_is_not_made() -> None:
    one = CheckedSigner(CryptoSigner.generate_ed25519())
    with pytest.raises(EnvelopeFormatError, match="payload of the envelope is empty"):
        sign_envelope(PAYLOAD, b"", [one])
    with pytest.raises(EnvelopeFormatError, match="payload type 'a b'"):
        sign_envelope("a b", LINK, [one])
    with pytest.raises(EnvelopeFormatError, match="is not JSON"):
        add_signatures(b"{", [one])


def test_public_names() -> None:
    assert margo_supplychain.signing.sign_envelope is sign_envelope
    assert margo_supplychain.signing.add_signatures is add_signatures
