"""T-133: what anybody can change in a token without its PIN, the public objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from margo_supplychain.errors import SignerError
from margo_supplychain.signing import keys
from margo_supplychain.signing.keyring import open_keyring
from margo_supplychain.signing.pkcs11 import Tokens
from margo_supplychain.signing.pkcs11.module import load_module
from tests.signing.pins import Pins
from tests.softhsm import SoftToken, restart_modules, soft_token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from margo_supplychain.signing.public_files import KeyRecord

NOT_ITS_OWN: Final = "the public key beside it .* is not its own"


@pytest.fixture
def token(tmp_path: Path) -> Iterator[SoftToken]:
    with soft_token(tmp_path, "root-a") as found:
        yield found


@pytest.fixture
def record(token: SoftToken) -> KeyRecord:
    """An honest key, made inside, as its holder recorded it."""
    tokens = Tokens(pin=Pins(token.pin), module=token.module)
    record = tokens.generate(token.uri("root"), scheme=keys.ECDSA_P256)
    tokens.close()
    return record


def put_public(token: SoftToken, point: bytes) -> bytes:
    """Put another public key under the label and id of the one that is there.

    In a session without a login. Returns the point that was there.
    """
    from pkcs11 import Attribute, KeyType, ObjectClass

    with load_module(token.module).use() as library:
        session = library.get_token(token_label=token.label).open(rw=True)
        (old,) = session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY})
        label, identifier = old[Attribute.LABEL], old[Attribute.ID]
        before: bytes = old[Attribute.EC_POINT]
        old.destroy()
        session.create_object(
            {
                Attribute.CLASS: ObjectClass.PUBLIC_KEY,
                Attribute.KEY_TYPE: KeyType.EC,
                Attribute.TOKEN: True,
                Attribute.PRIVATE: False,
                Attribute.LABEL: label,
                Attribute.ID: identifier,
                Attribute.VERIFY: True,
                Attribute.EC_PARAMS: bytes.fromhex("06082a8648ce3d030107"),
                Attribute.EC_POINT: point,
            }
        )
        session.close()
    restart_modules()
    return before


def mallorys_point() -> bytes:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return b"\x04\x41" + point


def test_public_half_swapped_without_a_pin(
    tmp_path: Path, token: SoftToken, record: KeyRecord
) -> None:
    """Mallory borrows a token, without its PIN, and puts her public key in place of
    the one beside the private key. It must not be recorded as never-extractable, not
    called one that opens, and not given a role: she would sign for it elsewhere."""
    path = tmp_path / "root.pub"
    path.write_bytes(record.to_bytes())
    pins = Pins(token.pin)
    with open_keyring(pin=pins, pkcs11_module=token.module) as keyring:
        assert keyring.look(token.uri("root")) == record
        keyring.open(str(path)).sign(b"payload")
    honest = put_public(token, mallorys_point())
    with open_keyring(pin=pins, pkcs11_module=token.module) as keyring:
        for ask in (keyring.look, keyring.open):
            with pytest.raises(SignerError, match=NOT_ITS_OWN) as caught:
                ask(token.uri("root"))
            assert caught.value.code == "signer"
            assert "without its PIN" in str(caught.value.hint)
        with pytest.raises(SignerError, match=f"expected {record.key.keyid[:12]}"):
            keyring.open(str(path))
        with pytest.raises(SignerError, match="which anybody can put into a token"):
            keyring.look(f"{token.uri('root')};type=public")
        # Without a login it is shown, as what it is: not proved, and without custody.
        assert keyring.look(token.uri("root"), custody=False).custody is None
    put_public(token, honest)
    with open_keyring(pin=pins, pkcs11_module=token.module) as keyring:
        assert keyring.look(token.uri("root")) == record
        keyring.open(str(path)).sign(b"payload")


def test_swapped_half_is_not_listed_with_custody(
    token: SoftToken, record: KeyRecord
) -> None:
    """Likewise where all tokens are listed: her key id must not stand beside the word
    never-extractable, which is true of another key."""
    tokens = Tokens(pin=Pins(token.pin), module=token.module)
    ((key,),) = [info.keys for info in tokens.tokens(login=True)]
    assert (key.key, key.custody) == (record.key, record.custody)
    tokens.close()
    honest = put_public(token, mallorys_point())
    tokens = Tokens(pin=Pins(token.pin), module=token.module)
    ((key,),) = [info.keys for info in tokens.tokens(login=True)]
    assert key.key is None
    assert "is not its own" in str(key.problem)
    tokens.close()
    put_public(token, honest)
    tokens = Tokens(pin=Pins(token.pin), module=token.module)
    ((key,),) = [info.keys for info in tokens.tokens(login=True)]
    assert (key.key, key.problem) == (record.key, None)
    tokens.close()


def test_signature_that_was_collected_before(
    token: SoftToken, record: KeyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mallory's token plays back a signature of the real key: what a key signs to show
    which one it is never comes twice, and can't be taken for metadata."""
    from margo_supplychain.signing.pkcs11 import signer

    first, second = signer.probe(), signer.probe()
    assert first != second
    assert not first.startswith((b"{", b"DSSEv1"))
    real, kept = signer.raw_signature, list[bytes]()

    def play_back(key: object, scheme: str, data: bytes, *, pin: str | None) -> bytes:
        kept.append(real(key, scheme, data, pin=pin))
        return kept[0]

    monkeypatch.setattr(signer, "raw_signature", play_back)
    for refused in (False, True):
        tokens = Tokens(pin=Pins(token.pin), module=token.module)
        if refused:
            with pytest.raises(SignerError, match=NOT_ITS_OWN):
                tokens.look(token.uri("root"))
        else:
            assert tokens.look(token.uri("root")) == record
        tokens.close()
    monkeypatch.undo()
    tokens = Tokens(pin=Pins(token.pin), module=token.module)
    assert tokens.look(token.uri("root")) == record
    tokens.close()
