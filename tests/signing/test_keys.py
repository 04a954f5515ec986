"""Public keys: every accepted form gives one key; everything else says why not."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import KeyFormatError
from margo_supplychain.signing import keys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

P256 = ec.derive_private_key(2026, ec.SECP256R1()).public_key()
P384 = ec.generate_private_key(ec.SECP384R1()).public_key()
ED25519 = ed25519.Ed25519PrivateKey.generate().public_key()
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
ACCEPTED = [
    pytest.param(P256, "ecdsa-sha2-nistp256", "ecdsa P-256", id="p256"),
    pytest.param(P384, "ecdsa-sha2-nistp384", "ecdsa P-384", id="p384"),
    pytest.param(ED25519, "ed25519", "ed25519", id="ed25519"),
    pytest.param(RSA, "rsassa-pss-sha256", "rsa 2048", id="rsa"),
]


def pem(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def tuf_object(key: PublicKeyTypes, **changes: Any) -> bytes:
    document = keys.key_of(key, what="key").to_dict()
    return json.dumps(document | changes).encode()


@pytest.mark.parametrize(("key", "scheme", "text"), ACCEPTED)
def test_every_form_of_a_key_is_the_same_key(
    key: PublicKeyTypes, scheme: str, text: str
) -> None:
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    forms = [pem(key), b"\n" + pem(key).replace(b"\n", b"\r\n"), der, tuf_object(key)]
    found = [keys.parse_public_key(form, what="key") for form in forms]
    assert {each.keyid for each in found} == {found[0].keyid}
    assert all(each == found[0] for each in found)
    assert found[0].scheme == scheme
    assert keys.describe(found[0]) == text
    assert keys.public_pem(found[0]) == pem(key)


@pytest.mark.parametrize(("key", "scheme", "text"), ACCEPTED)
def test_key_id_is_sha256_over_the_canonical_key(
    key: PublicKeyTypes, scheme: str, text: str
) -> None:
    found = keys.key_of(key, what="key")
    # Canonical JSON as TUF means it escapes nothing but quote and backslash.
    expected = json.dumps(found.to_dict(), sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(expected.replace("\\n", "\n").encode()).hexdigest()
    assert found.keyid == digest
    assert keys.short_id(found) == digest[:12]


def test_key_id_in_a_file_is_not_believed() -> None:
    lie = tuf_object(P256, keyid="00" * 32, keyid_hash_algorithms=["sha512"])
    found = keys.parse_public_key(lie, what="key.json")
    assert found == keys.key_of(P256, what="key")
    assert found.unrecognized_fields == {}


def test_old_key_type_names_are_brought_into_the_new_form() -> None:
    old = tuf_object(P256, keytype="ecdsa-sha2-nistp256")
    assert keys.parse_public_key(old, what="key").keytype == "ecdsa"


def private_pem(encrypted: bool) -> bytes:
    private = ec.generate_private_key(ec.SECP256R1())
    if encrypted:
        secret = BestAvailableEncryption(b"correct horse battery")
        return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret)
    from cryptography.hazmat.primitives.serialization import NoEncryption

    return private.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )


SMALL_EXPONENT = rsa.generate_private_key(public_exponent=3, key_size=2048).public_key()
K1 = ec.generate_private_key(ec.SECP256K1()).public_key()
X25519 = x25519.X25519PrivateKey.generate().public_key()
DSA = dsa.DSAPublicNumbers(
    2, dsa.DSAParameterNumbers((1 << 2047) + 1, (1 << 255) + 1, 2)
)
REFUSED = [
    pytest.param(b"", r"key is not a public key$", id="empty"),
    pytest.param(b"hello", r"key is not a public key$", id="text"),
    pytest.param(b"\x30\x03\x02\x01\x01", r"key is not a public key$", id="other-der"),
    pytest.param(b" " * 16385, r"16385 bytes, more than the limit of 16384", id="long"),
    pytest.param(private_pem(True), r"holds a private key", id="encrypted-private"),
    pytest.param(private_pem(False), r"holds a private key", id="private"),
    pytest.param(
        b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
        r"is a certificate, expected a public key",
        id="certificate",
    ),
    pytest.param(pem(P256) + pem(RSA), r"holds several PEM blocks", id="two"),
    pytest.param(
        pem(P256).replace(b"MFk", b"MFl"), r"is not a public key$", id="damaged"
    ),
    pytest.param(pem(K1), r"on the curve secp256k1, expected P-256 or P-384", id="k1"),
    pytest.param(pem(X25519), r"key of type X25519, expected ecdsa", id="x25519"),
    pytest.param(pem(SMALL_EXPONENT), r"exponent 3, expected 65537", id="exponent"),
    pytest.param(b"{}", r"is not a TUF key object with keytype", id="empty-object"),
    pytest.param(b'{"a":1,"a":1}', r"names 'a' twice", id="duplicate"),
    pytest.param(
        tuf_object(P256, keyval={"public": 7}), r"not a TUF key object", id="number"
    ),
    pytest.param(
        tuf_object(P256, keyval={"public": "\ud800"}),
        r"which is no text",
        id="surrogate",
    ),
    pytest.param(
        tuf_object(P256, scheme="ecdsa-sha2-nistp521"),
        r"keytype 'ecdsa' and scheme 'ecdsa-sha2-nistp521', expected one of",
        id="scheme",
    ),
    pytest.param(
        tuf_object(RSA, scheme="rsa-pkcs1v15-sha256"),
        r"scheme 'rsa-pkcs1v15-sha256', expected one of",
        id="pkcs1v15",
    ),
    pytest.param(tuf_object(P256, keytype="rsa"), r"keytype 'rsa'", id="keytype"),
    pytest.param(
        tuf_object(P256, scheme="ecdsa-sha2-nistp384"),
        r"says ecdsa-sha2-nistp384 and holds a key for ecdsa-sha2-nistp256",
        id="other-scheme",
    ),
    pytest.param(
        tuf_object(ED25519, keyval={"public": "ab " * 32}),
        r"is not a public key$",
        id="hex-with-spaces",
    ),
]


@pytest.mark.parametrize(("data", "match"), REFUSED)
def test_other_bytes_are_refused_by_name(data: bytes, match: str) -> None:
    with pytest.raises(KeyFormatError, match=match) as caught:
        keys.parse_public_key(data, what="key")
    assert caught.value.hint


@pytest.mark.parametrize(("bits", "count"), [(1024, 1), (8193, 2)])
def test_rsa_of_other_sizes_is_refused(bits: int, count: int) -> None:
    numbers = rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) + 2 * count + 1)
    with pytest.raises(
        KeyFormatError, match=f"rsa key of {bits} bits, expected 2048 to 8192"
    ):
        keys.key_of(numbers.public_key(), what="key")


@given(st.binary(max_size=400))
def test_parser_raises_only_its_error(data: bytes) -> None:
    with pytest.raises(KeyFormatError):
        keys.parse_public_key(data, what="key")


@given(
    position=st.integers(min_value=0, max_value=len(pem(P256)) - 1),
    bit=st.integers(min_value=0, max_value=7),
)
def test_a_flipped_bit_gives_an_error_or_a_whole_key(position: int, bit: int) -> None:
    data = bytearray(pem(P256))
    data[position] ^= 1 << bit
    try:
        found = keys.parse_public_key(bytes(data), what="key")
    except KeyFormatError:
        return
    assert keys.parse_public_key(keys.public_pem(found), what="again") == found
