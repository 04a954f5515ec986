"""Objects as tokens of many makers describe them: no token is needed to read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from margo_supplychain.errors import SignerError
from margo_supplychain.signing import keys
from margo_supplychain.signing.pkcs11 import TokenUri

pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")

from margo_supplychain.signing.pkcs11 import (
    generating,
    objects,
    slots,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from securesystemslib.signer import SSlibKey

P256 = ec.derive_private_key(7, ec.SECP256R1()).public_key()
P384 = ec.derive_private_key(7, ec.SECP384R1()).public_key()
EDWARDS = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
UNCOMPRESSED = PublicFormat.UncompressedPoint


class Thing(dict[str, Any]):
    """A key object: attributes by name; python-pkcs11 raises for those it lacks."""

    def __getitem__(self, attribute: Any) -> Any:
        from pkcs11.exceptions import AttributeTypeInvalid

        name = getattr(attribute, "name", attribute)
        if name not in self:
            raise AttributeTypeInvalid
        value = super().__getitem__(name)
        if isinstance(value, Exception):
            raise value
        return value


def key_type(name: str) -> Any:
    from pkcs11 import KeyType

    return KeyType[name]


def read(**attributes: Any) -> SSlibKey:
    found = objects.Found(object=Thing(attributes), label="root", id=b"\x01")
    return objects.public_key_of(found)


def octets(data: bytes) -> bytes:
    return bytes([4, len(data)]) + data


def bits(data: bytes) -> bytes:
    return bytes([3, len(data) + 1, 0]) + data


def bare(data: bytes) -> bytes:
    return data


@pytest.mark.parametrize("encoded", [octets, bits, bare])
@pytest.mark.parametrize("form", [UNCOMPRESSED, PublicFormat.CompressedPoint])
@pytest.mark.parametrize(
    ("public", "parameters"),
    [(P256, objects.P256_PARAMS), (P384, objects.P384_PARAMS)],
)
def test_points_of_curves(
    public: ec.EllipticCurvePublicKey,
    parameters: bytes,
    form: PublicFormat,
    encoded: Callable[[bytes], bytes],
) -> None:
    point = encoded(public.public_bytes(Encoding.X962, form))
    key = read(KEY_TYPE=key_type("EC"), EC_PARAMS=parameters, EC_POINT=point)
    assert key == keys.key_of(public, what="test")


@pytest.mark.parametrize("encoded", [octets, bits, bare])
@pytest.mark.parametrize("parameters", [objects.ED25519_OID, objects.ED25519_NAME])
def test_points_of_ed25519(
    parameters: bytes, encoded: Callable[[bytes], bytes]
) -> None:
    point = encoded(EDWARDS.public_bytes_raw())
    key = read(KEY_TYPE=key_type("EC_EDWARDS"), EC_PARAMS=parameters, EC_POINT=point)
    assert key == keys.key_of(EDWARDS, what="test")


def test_every_uncompressed_point_is_told_from_its_encoding() -> None:
    """A bare point may begin like the header of an OCTET STRING: 04 and any byte."""
    for second in range(256):
        point = bytes([4, second]) + bytes(63)
        assert objects.point_of(point, (65, 33)) == point
        assert objects.point_of(octets(point), (65, 33)) == point


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({}, "of type unknown, expected EC, Ed25519 or RSA"),
        ({"KEY_TYPE": ValueError("vendor's own")}, "of type unknown"),
        ({"KEY_TYPE": "DSA"}, "of type DSA, expected EC, Ed25519 or RSA"),
        (
            {"KEY_TYPE": "EC", "EC_PARAMS": b"\x06\x01\x00", "EC_POINT": b""},
            "another curve than P-256 and P-384",
        ),
        (
            {"KEY_TYPE": "EC", "EC_PARAMS": objects.P256_PARAMS, "EC_POINT": b"\4\2ab"},
            "not usable: CKA_EC_POINT holds no point: 04026162",
        ),
        (
            {
                "KEY_TYPE": "EC",
                "EC_PARAMS": objects.P256_PARAMS,
                "EC_POINT": octets(b"\4" + bytes(64)),
            },
            "not usable: ",
        ),
        (
            {"KEY_TYPE": "EC_EDWARDS", "EC_PARAMS": b"\x13\x0acurve25519"},
            "another curve than Ed25519",
        ),
        (
            {"KEY_TYPE": "RSA", "MODULUS": bytes(384), "PUBLIC_EXPONENT": b"\1\0\1"},
            "not usable: ",
        ),
        (
            {"KEY_TYPE": "RSA", "MODULUS": b"\xff" * 384, "PUBLIC_EXPONENT": b"\3"},
            "with exponent 3, expected 65537 or more",
        ),
        (
            {"KEY_TYPE": "RSA", "MODULUS": b"\xff" * 320, "PUBLIC_EXPONENT": b"\1\0\1"},
            "is rsa 2560, expected rsa 3072 or rsa 4096",
        ),
    ],
)
def test_objects_that_are_no_keys_of_ours(
    attributes: dict[str, Any], match: str
) -> None:
    kind = attributes.get("KEY_TYPE")
    if isinstance(kind, str):
        attributes = {**attributes, "KEY_TYPE": key_type(kind)}
    with pytest.raises(SignerError, match=match) as caught:
        read(**attributes)
    assert "object=root;id=%01" in str(caught.value)


def test_what_a_token_does_not_say_is_no() -> None:
    assert objects.custody_of(Thing()) == (False, False, False)
    said = objects.custody_of(Thing(SENSITIVE=True, NEVER_EXTRACTABLE=True, LOCAL=True))
    assert said.text == "never-extractable"


class Session:
    """Finds whatever it was given; tells what it was asked for."""

    def __init__(self, *found: Thing) -> None:
        self.found = found

    def get_objects(self, wanted: dict[Any, Any]) -> list[Thing]:
        named = {key.name: value for key, value in wanted.items()}
        return [
            each
            for each in self.found
            if all(each.get(name) == value for name, value in named.items())
        ]


def test_more_keys_than_anybody_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    from pkcs11 import ObjectClass

    monkeypatch.setattr(objects, "MAX_OBJECTS", 2)
    kind = ObjectClass.PRIVATE_KEY
    things = [Thing(CLASS=kind, LABEL=f"key {n}", ID=b"\1") for n in range(3)]
    few: Any = Session(*things[:2])
    found = objects.find(few, TokenUri(), kind)
    assert [each.name for each in found] == [
        "object=key 0;id=%01",
        "object=key 1;id=%01",
    ]
    many: Any = Session(*things)
    with pytest.raises(SignerError, match="shows more than 2 keys"):
        objects.find(many, TokenUri(), kind)


def test_candidates_are_listed_up_to_a_number() -> None:
    found = [objects.Found(object=None, label=f"k{n}", id=b"") for n in range(10)]
    with pytest.raises(SignerError, match=r"has 10 private keys id 01: .* and 2 more$"):
        objects.only(found, TokenUri(id=b"\1"), token="a", what="private")
    assert objects.only(found[:1], TokenUri(), token="a", what="private") is found[0]


def test_label_that_is_not_utf8() -> None:
    from pkcs11 import ObjectClass

    kind = ObjectClass.PUBLIC_KEY
    odd: Any = Session(
        Thing(CLASS=kind, LABEL=UnicodeDecodeError("utf-8", b"", 0, 1, ""))
    )
    (found,) = objects.find(odd, TokenUri(), kind)
    assert (found.label, found.id) == ("", b"")


class Domain:
    def __init__(self, why: Exception | None) -> None:
        self.why = why

    def generate_keypair(self, **named: Any) -> tuple[str, str]:
        if self.why is not None:
            raise self.why
        return "public", "private"


class Maker:
    """Takes one way to name a curve."""

    def __init__(self, taken: bytes, why: Exception) -> None:
        self.taken = taken
        self.why = why
        self.asked: list[bytes] = []

    def create_domain_parameters(
        self, kind: Any, named: dict[Any, bytes], *, local: bool
    ) -> Domain:
        (parameters,) = named.values()
        self.asked.append(parameters)
        return Domain(None if parameters == self.taken else self.why)


@pytest.mark.parametrize("taken", [objects.ED25519_OID, objects.ED25519_NAME])
def test_both_ways_to_name_ed25519(taken: bytes) -> None:
    from pkcs11.exceptions import DomainParamsInvalid

    maker: Any = Maker(taken, DomainParamsInvalid())
    assert generating._make(maker, keys.ED25519, 0, "root", b"\1") == (
        "public",
        "private",
    )
    assert maker.asked[-1] == taken


def test_token_that_makes_no_keys() -> None:
    from pkcs11.exceptions import TokenWriteProtected

    maker: Any = Maker(b"", TokenWriteProtected())
    with pytest.raises(TokenWriteProtected):
        generating._make(maker, keys.ED25519, 0, "root", b"\1")
    assert len(maker.asked) == 1


class Slot:
    def __init__(self, why: type[Exception]) -> None:
        self.why = why

    def get_token(self) -> Any:
        raise self.why


class Library:
    def __init__(self, *slots: Slot) -> None:
        self.slots = slots

    def get_slots(self, *, token_present: bool) -> tuple[Slot, ...]:
        assert token_present
        return self.slots


def test_token_that_is_pulled_between_two_calls() -> None:
    from pkcs11.exceptions import DeviceError, TokenNotPresent, TokenNotRecognised

    library: Any = Library(Slot(TokenNotPresent), Slot(TokenNotRecognised))
    assert slots.look_into_slots(library) == ([], [])
    broken: Any = Library(Slot(DeviceError), Slot(TokenNotPresent))
    assert slots.look_into_slots(broken) == ([], ["CKR_DEVICE_ERROR"])
    assert slots.present_tokens(broken) == []


def test_names_that_would_play_with_the_terminal() -> None:
    assert slots.shown("root-a") == "root-a"
    assert slots.shown("a\x1b[2Jb") == r"'a\x1b[2Jb'"
    found = objects.Found(object=None, label="a\x1b[2Jb", id=b"\x1b")
    assert found.name == r"object='a\x1b[2Jb';id=%1B"


def test_token_without_label_or_serial_number() -> None:
    identity = slots.Identity(label="", serial="", manufacturer="m", model="n")
    assert str(identity.uri()) == "pkcs11:"
