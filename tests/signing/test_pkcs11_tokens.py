"""Keys in tokens: made, found, looked at, listed; SoftHSM plays the HSM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from margo_supplychain.errors import SignerError
from margo_supplychain.signing import keys
from margo_supplychain.signing.keyring import open_keyring
from margo_supplychain.signing.pkcs11 import TokenInfo, Tokens, TokenUri
from margo_supplychain.signing.pkcs11.module import load_module
from tests.signing.pins import Pins
from tests.softhsm import soft_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.softhsm import SoftToken


@pytest.fixture
def token(tmp_path: Path) -> Iterator[SoftToken]:
    with soft_token(tmp_path, "root-a") as token:
        yield token


@pytest.fixture
def pins() -> Pins:
    return Pins()


@pytest.fixture
def tokens(token: SoftToken, pins: Pins) -> Iterator[Tokens]:
    tokens = Tokens(pin=pins, module=token.module)
    yield tokens
    tokens.close()


def again(token: SoftToken, pins: Pins) -> Tokens:
    """Another keyring, as after a new start of the program."""
    return Tokens(pin=pins, module=token.module)


@pytest.mark.parametrize(
    ("scheme", "bits", "kind"),
    [
        (keys.ECDSA_P256, None, "ecdsa P-256"),
        (keys.ECDSA_P384, None, "ecdsa P-384"),
        (keys.ED25519, None, "ed25519"),
        (keys.RSA_PSS, None, "rsa 3072"),
        (keys.RSA_PSS, 4096, "rsa 4096"),
    ],
)
@pytest.mark.parametrize("proxy", [False, True], ids=["module", "p11-kit"])
def test_key_of_each_kind(
    tmp_path: Path, scheme: str, bits: int | None, kind: str, proxy: bool
) -> None:
    with soft_token(tmp_path, "root-a", proxy=proxy) as token:
        pins = Pins()
        tokens = Tokens(pin=pins, module=token.module)
        made = tokens.generate(token.uri("root"), scheme=scheme, bits=bits)
        assert keys.describe(made.key) == kind
        assert made.custody is not None
        assert made.custody.text == "never-extractable"
        uri = TokenUri.parse(str(made.uri))
        assert (uri.token, uri.serial, uri.object) == ("root-a", None, "root")
        assert uri.id is not None
        assert len(uri.id) == 8
        signer = tokens.open(str(made.uri), expect=made.key)
        for payload in (b"", b"payload", bytes(100_000)):
            signature = signer.sign(payload)
            assert signature.keyid == made.key.keyid
            signer.public_key.verify_signature(signature, payload)
        assert tokens.look(token.uri("root")) == made
        assert pins.asked == [("pkcs11:token=root-a", None)]
        tokens.close()


def test_key_can_do_nothing_but_sign(token: SoftToken, tokens: Tokens) -> None:
    tokens.generate(token.uri("root"), scheme=keys.RSA_PSS)
    from pkcs11 import Attribute, ObjectClass

    with load_module(token.module).use() as library:
        session = library.get_token(token_label="root-a").open()
        (private,) = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
        can = {
            each.name
            for each in (
                Attribute.SIGN,
                Attribute.DECRYPT,
                Attribute.UNWRAP,
                Attribute.DERIVE,
                Attribute.EXTRACTABLE,
            )
            if private[each]
        }
        assert can == {"SIGN"}
        (public,) = session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY})
        assert public[Attribute.VERIFY]
        assert not public[Attribute.ENCRYPT]
        assert not public[Attribute.WRAP]
        session.close()


def test_every_attribute_of_a_uri_decides(token: SoftToken, tokens: Tokens) -> None:
    with load_module(token.module).use() as library:
        found = library.get_token(token_label="root-a")
        slot = found.slot
        right: dict[str, Any] = {
            "token": "root-a",
            "serial": token.serial,
            "manufacturer": found.manufacturer_id,
            "model": found.model,
            "slot_id": slot.slot_id,
            "slot_manufacturer": slot.manufacturer_id,
            "slot_description": slot.slot_description,
            "library_manufacturer": library.manufacturer_id,
            "library_description": library.library_description,
            "library_version": ".".join(map(str, library.library_version)),
        }
    assert tokens.present(str(TokenUri(**right)))
    major = right["library_version"].partition(".")[0]
    assert tokens.present(str(TokenUri(token="root-a", library_version=major)))
    for name, value in right.items():
        wrong = 4711 if name == "slot_id" else f"{value}1"
        assert not tokens.present(str(TokenUri(**{**right, name: wrong}))), name
        with pytest.raises(SignerError, match="no token matches"):
            tokens.open(str(TokenUri(**{**right, name: wrong})))


def test_token_that_is_not_there(token: SoftToken, tokens: Tokens, pins: Pins) -> None:
    with pytest.raises(SignerError) as caught:
        tokens.open("pkcs11:token=root-b;object=root")
    assert str(caught.value) == (
        f"no token matches pkcs11:token=root-b in {token.module}, which shows "
        f"pkcs11:token=root-a;serial={token.serial}"
    )
    with pytest.raises(SignerError, match="no token matches pkcs11:model=other in"):
        tokens.look("pkcs11:object=root;model=other")
    assert pins.asked == []


def test_two_tokens_with_one_label(
    tmp_path: Path, token: SoftToken, pins: Pins
) -> None:
    with soft_token(tmp_path, "root-a") as second:
        tokens = again(token, pins)
        with pytest.raises(
            SignerError, match="2 tokens match pkcs11:token=root-a: "
        ) as e:
            tokens.open(token.uri("root"))
        for serial in (token.serial, second.serial):
            assert f"pkcs11:token=root-a;serial={serial}" in str(e.value)
        assert pins.asked == []
        # Which of the two asks is said in the question, too.
        made = tokens.generate(second.uri("root", serial=True), scheme=keys.ED25519)
        (name,) = pins.names
        assert f";serial={second.serial};" in name
        (info,) = tokens.tokens(second.uri(serial=True))
        assert [key.uri for key in info.keys] == [made.uri]
        assert f"serial={second.serial}" in str(made.uri)
        tokens.open(str(made.uri), expect=made.key)
        with pytest.raises(SignerError, match="token root-a has no private key root"):
            tokens.open(token.uri("root", serial=True))
        tokens.close()


def test_slot_is_not_recorded(token: SoftToken, tokens: Tokens) -> None:
    """SoftHSM renumbers its slots: what is written down is the serial number."""
    with load_module(token.module).use() as library:
        slot = library.get_token(token_label="root-a").slot.slot_id
    made = tokens.generate(
        f"pkcs11:token=root-a;slot-id={slot};object=root;id=%07", scheme=keys.ED25519
    )
    assert made.uri == f"pkcs11:token=root-a;serial={token.serial};object=root;id=%07"


def test_keys_with_one_label(token: SoftToken, tokens: Tokens) -> None:
    token.make_key("root", id=b"\x01")
    token.make_key("root", id=b"\x02")
    listed = "object=root;id=%01, object=root;id=%02"
    for open_ in (tokens.open, tokens.look):
        with pytest.raises(SignerError, match="keys root: ") as caught:
            open_(token.uri("root"))
        assert set(str(caught.value).rpartition("root: ")[2].split(", ")) == set(
            listed.split(", ")
        )
        assert caught.value.hint == "name one by object= and id= together"
    first, second = (tokens.look(token.uri("root", id=bytes([n]))) for n in (1, 2))
    assert first.key.keyid != second.key.keyid


def test_keys_with_one_id(token: SoftToken, tokens: Tokens) -> None:
    token.make_key("one", id=b"\x01")
    token.make_key("two", id=b"\x01")
    with pytest.raises(SignerError, match="2 private keys id 01: object="):
        tokens.open(token.uri(id=b"\x01"))
    with pytest.raises(SignerError, match="key object=one;id=%01 has 2 public halves"):
        tokens.open(token.uri("one"))


def test_key_that_is_not_there(token: SoftToken, tokens: Tokens) -> None:
    for uri in (token.uri("root"), token.uri(id=b"\x09"), token.uri()):
        with pytest.raises(SignerError, match="token root-a has no private key") as e:
            tokens.open(uri)
        assert "key tokens" in str(e.value.hint)
    with pytest.raises(SignerError, match="has no public key root"):
        tokens.look(token.uri("root") + ";type=public", custody=False)


def test_public_key_cannot_sign(token: SoftToken, tokens: Tokens, pins: Pins) -> None:
    token.make_key("root")
    with pytest.raises(SignerError, match="object=root;type=public names a public key"):
        tokens.open(token.uri("root") + ";type=public")
    with pytest.raises(SignerError, match="which anybody can put into a token"):
        tokens.look(token.uri("root") + ";type=public")
    # Looking at it asks for nothing.
    record = tokens.look(token.uri("root") + ";type=public", custody=False)
    assert (record.custody, record.uri) == (None, token.uri("root", id=b"\x01"))
    assert tokens.look(token.uri("root"), custody=False) == record
    assert pins.asked == []
    found = tokens.look(token.uri("root"))
    assert (found.key, found.uri) == (record.key, record.uri)
    assert found.custody is not None
    assert pins.asked == [("pkcs11:token=root-a", None)]


def make_extractable(token: SoftToken) -> None:
    token.make_key("root", extractable=True)


def bring_in(token: SoftToken) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    token.import_key("root", pem)


@pytest.mark.parametrize(
    ("prepare", "text"), [(make_extractable, "extractable"), (bring_in, "imported")]
)
def test_custody_is_what_the_token_says(
    token: SoftToken, tokens: Tokens, prepare: Callable[[SoftToken], None], text: str
) -> None:
    prepare(token)
    custody = tokens.look(token.uri("root")).custody
    assert custody is not None
    assert custody.text == text
    assert not all(custody)


@pytest.mark.parametrize(
    ("scheme", "match"),
    [
        ("ecdsa-sha2-nistp521", "is on another curve than P-256 and P-384"),
        ("rsassa-pss-sha256-2048", "is rsa 2048, expected rsa 3072 or rsa 4096"),
    ],
)
def test_key_that_is_not_signed_with(
    token: SoftToken, tokens: Tokens, scheme: str, match: str
) -> None:
    token.make_key("root", scheme=scheme)
    for ask in (tokens.open, tokens.look):
        with pytest.raises(SignerError, match=match) as caught:
            ask(token.uri("root"))
        assert "P-256" in str(caught.value.hint)
    (info,) = tokens.tokens()
    (key,) = info.keys
    assert key.key is None
    assert match in str(key.problem)


def test_somebody_elses_key(token: SoftToken, tokens: Tokens, pins: Pins) -> None:
    made = tokens.generate(token.uri("root"), scheme=keys.ECDSA_P256)
    other = tokens.generate(token.uri("other"), scheme=keys.ECDSA_P256)
    tokens.close()
    second = again(token, pins)
    asked = len(pins.asked)
    with pytest.raises(SignerError, match=f"is key {made.key.keyid[:12]}, expected"):
        second.open(token.uri("root"), expect=other.key)
    assert len(pins.asked) == asked  # nobody types a PIN for the wrong key
    second.close()


def test_public_half_that_the_token_does_not_keep(
    token: SoftToken, tokens: Tokens
) -> None:
    made = tokens.generate(token.uri("root"), scheme=keys.ECDSA_P256)
    remove_public_half(token)
    with pytest.raises(SignerError, match="has no public half in the token"):
        tokens.look(token.uri("root"))
    signer = tokens.open(token.uri("root"), expect=made.key)
    made.key.verify_signature(signer.sign(b"payload"), b"payload")
    (info,) = tokens.tokens()
    (key,) = info.keys
    assert key.key is None
    assert "no public half" in str(key.problem)


def remove_public_half(token: SoftToken) -> None:
    from pkcs11 import Attribute, ObjectClass

    with load_module(token.module).use() as library:
        session = library.get_token(token_label=token.label).open(rw=True)
        wanted = {Attribute.CLASS: ObjectClass.PUBLIC_KEY}
        for each in list(session.get_objects(wanted)):
            each.destroy()
        session.close()


def test_wrong_public_half_signs_nothing(token: SoftToken, tokens: Tokens) -> None:
    """What is expected is not in the token, and the key is another's: no signature."""
    tokens.generate(token.uri("root"), scheme=keys.ECDSA_P256)
    other = keys.key_of(
        ec.generate_private_key(ec.SECP256R1()).public_key(), what="other"
    )
    remove_public_half(token)
    with pytest.raises(
        SignerError, match=r"the public key beside it .* is not its own"
    ):
        tokens.open(token.uri("root"), expect=other)


def test_name_that_is_taken(token: SoftToken, tokens: Tokens) -> None:
    made = tokens.generate(token.uri("root", id=b"\x01"), scheme=keys.ED25519)
    with pytest.raises(SignerError, match="the token has key object=root;id=%01") as e:
        tokens.generate(token.uri("root"), scheme=keys.ED25519)
    assert "the old one is lost" in str(e.value.hint)
    with pytest.raises(SignerError, match="is taken by key object=root;id=%01"):
        tokens.generate(token.uri("two", id=b"\x01"), scheme=keys.ED25519)
    with pytest.raises(SignerError, match="is taken by key object=root;id=%01"):
        tokens.generate(token.uri("two", id=b"\x01"), scheme=keys.ED25519, replace=True)
    assert tokens.look(token.uri("root")) == made


def test_what_would_be_lost_is_asked_for(token: SoftToken, tokens: Tokens) -> None:
    told: list[str | None] = []
    root = token.uri("root", id=b"\x01")
    made = tokens.generate(root, scheme=keys.ECDSA_P256, ask=told.append)
    assert told == [None]

    def keep(old: str | None) -> None:
        told.append(old)
        raise SignerError("it stays")

    for replace in (False, True):
        with pytest.raises(SignerError, match="it stays"):
            tokens.generate(root, scheme=keys.ED25519, replace=replace, ask=keep)
    name = f"key object=root;id=%01 (ecdsa P-256, key id {made.key.keyid[:12]})"
    assert told[1:] == [name, name]
    assert tokens.look(root) == made
    with pytest.raises(SignerError, match="already"):  # asking alone replaces nothing
        tokens.generate(root, scheme=keys.ED25519, ask=told.append)
    remove_public_half(token)
    with pytest.raises(SignerError, match="it stays"):
        tokens.generate(root, scheme=keys.ED25519, replace=True, ask=keep)
    assert told[-1] == "key object=root;id=%01"


def test_key_in_place_of_another(token: SoftToken, tokens: Tokens) -> None:
    old = tokens.generate(token.uri("root", id=b"\x01"), scheme=keys.ED25519)
    new = tokens.generate(
        token.uri("root", id=b"\x01"), scheme=keys.ECDSA_P256, replace=True
    )
    assert tokens.look(token.uri("root")) == new
    assert old.key.keyid != new.key.keyid
    (info,) = tokens.tokens()
    assert [key.key for key in info.keys] == [new.key]
    tokens.open(token.uri("root"), expect=new.key).sign(b"payload")


def test_replacing_one_of_several(token: SoftToken, tokens: Tokens) -> None:
    token.make_key("root", id=b"\x01")
    token.make_key("root", id=b"\x02")
    with pytest.raises(SignerError, match="several keys have that name"):
        tokens.generate(token.uri("root"), scheme=keys.ED25519, replace=True)
    (info,) = tokens.tokens(login=True)
    assert len(info.keys) == 2


@pytest.mark.parametrize(
    ("uri", "scheme", "bits", "match"),
    [
        ("pkcs11:object=root", keys.ED25519, None, "needs its token and its name"),
        ("pkcs11:token=root-a", keys.ED25519, None, "needs its token and its name"),
        ("pkcs11:token=a;object=b;type=public", keys.ED25519, None, "no type=public"),
        (f"pkcs11:token=a;object={'b' * 256}", keys.ED25519, None, "up to 255 bytes"),
        ("pkcs11:token=a;object=b", "ecdsa-sha2-nistp521", None, "for scheme 'ecdsa"),
        ("pkcs11:token=a;object=b", keys.ED25519, 3072, "3072 bits for ed25519"),
        ("pkcs11:token=a;object=b", keys.RSA_PSS, 2048, "2048 bits for rsassa"),
    ],
)
def test_keys_that_are_not_made(
    tokens: Tokens,
    pins: Pins,
    uri: str,
    scheme: str,
    bits: int | None,
    match: str,
) -> None:
    with pytest.raises(SignerError, match=match):
        tokens.generate(uri, scheme=scheme, bits=bits)
    assert pins.asked == []


def test_token_that_would_not_keep_the_key(
    token: SoftToken, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that the key could leave: the key is removed again."""
    from margo_supplychain.signing.pkcs11 import objects
    from margo_supplychain.signing.public_files import Custody

    loose = Custody(sensitive=True, never_extractable=False, local=True)
    monkeypatch.setattr(objects, "custody_of", lambda _: loose)
    with pytest.raises(SignerError, match="would not keep key object=root"):
        tokens.generate(token.uri("root"), scheme=keys.ED25519)
    monkeypatch.undo()
    (info,) = tokens.tokens()
    assert info.keys == ()


def test_what_key_tokens_shows(
    tmp_path: Path, token: SoftToken, tokens: Tokens, pins: Pins
) -> None:
    made = tokens.generate(token.uri("root", id=b"\x01"), scheme=keys.ED25519)
    tokens.close()
    with soft_token(tmp_path, "root-b", pin="654321") as second:
        second.make_key("spare")
        fresh = again(token, pins)
        before = len(pins.asked)
        shown = {info.label: info for info in fresh.tokens()}
        assert list(shown) == ["root-a", "root-b"]
        assert len(pins.asked) == before
        first = shown["root-a"]
        assert first == TokenInfo(
            module=token.module,
            label="root-a",
            serial=token.serial,
            manufacturer="SoftHSM project",
            model="SoftHSM v2",
            uri=token.uri(serial=True),
            state="",
            logged_in=False,
            keys=first.keys,
        )
        (key,) = first.keys
        assert (key.uri, key.key, key.custody, key.problem) == (
            token.uri("root", id=b"\x01"),
            made.key,
            None,
            None,
        )
        # After a login the private halves are seen, too.
        (first,) = fresh.tokens(token.uri(), login=True)
        assert first.logged_in
        (key,) = first.keys
        assert (key.key, key.custody) == (made.key, made.custody)
        assert fresh.tokens(token.uri("other"))[0].keys == ()
        (half,) = fresh.tokens(f"{token.uri()};type=public")[0].keys
        assert (half.key, half.custody) == (made.key, None)
        (whole,) = fresh.tokens(f"{token.uri()};type=private")[0].keys
        assert whole == key
        assert fresh.tokens("pkcs11:token=absent") == ()
        fresh.close()


def test_keys_without_an_id(token: SoftToken, tokens: Tokens) -> None:
    """They belong together by their label."""
    made = tokens.generate(token.uri("root", id=b"\x01"), scheme=keys.ECDSA_P256)
    from pkcs11 import Attribute, ObjectClass

    with load_module(token.module).use() as library:
        session = library.get_token(token_label="root-a").open(rw=True)
        for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):
            (each,) = session.get_objects({Attribute.CLASS: kind})
            each[Attribute.ID] = b""
        session.close()
    record = tokens.look(token.uri("root"))
    assert (record.key, record.uri) == (made.key, token.uri("root"))
    tokens.open(token.uri("root"), expect=made.key).sign(b"payload")
    (info,) = tokens.tokens()
    assert [key.uri for key in info.keys] == [token.uri("root")]


def test_closed_tokens(token: SoftToken, tokens: Tokens, pins: Pins) -> None:
    tokens.generate(token.uri("root"), scheme=keys.ECDSA_P256)
    signer = tokens.open(token.uri("root"))
    tokens.close()
    tokens.close()
    with pytest.raises(ValueError, match="this keyring is closed"):
        signer.sign(b"payload")
    with pytest.raises(ValueError, match="this keyring is closed"):
        tokens.open(token.uri("root"))
    # The last session of this process is closed: the token has logged out by itself.
    fresh = again(token, pins)
    (info,) = fresh.tokens()
    assert not info.logged_in
    fresh.close()


def test_imported_rsa_key(token: SoftToken, tokens: Tokens) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    token.import_key("root", pem)
    expected = keys.key_of(private.public_key(), what="root")
    assert tokens.look(token.uri("root")).key == expected
    signer = tokens.open(token.uri("root"), expect=expected)
    expected.verify_signature(signer.sign(b"payload"), b"payload")


def test_key_that_was_not_made_for_signatures(token: SoftToken, tokens: Tokens) -> None:
    from pkcs11 import Attribute, KeyType, MechanismFlag
    from pkcs11.util.ec import encode_named_curve_parameters

    with load_module(token.module).use() as library:
        session = library.get_token(token_label="root-a").open(
            rw=True, user_pin=token.pin
        )
        session.create_domain_parameters(
            KeyType.EC,
            {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")},
            local=True,
        ).generate_keypair(label="root", store=True, capabilities=MechanismFlag.DERIVE)
        session.close()
    for ask in (tokens.open, tokens.look):
        with pytest.raises(SignerError, match=r"key object=root in .* may not sign"):
            ask(token.uri("root"))


def test_key_that_can_not_be_read(
    token: SoftToken, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is listed all the same, with the code that its token gave."""
    from pkcs11.exceptions import FunctionFailed

    from margo_supplychain.signing.pkcs11 import objects

    token.make_key("root")

    def fail(_: object) -> None:
        raise FunctionFailed

    monkeypatch.setattr(objects, "public_key_of", fail)
    (info,) = tokens.tokens()
    assert [key.problem for key in info.keys] == ["CKR_FUNCTION_FAILED"]
    with pytest.raises(SignerError, match=r"^token root-a, key root: CKR_FUNCTION"):
        tokens.look(token.uri("root"))


def test_record_of_a_key_whose_public_half_is_gone(
    tmp_path: Path, token: SoftToken, tokens: Tokens, pins: Pins
) -> None:
    """The record has it: custody is proved by the key that stands there."""
    made = tokens.generate(token.uri("root"), scheme=keys.ECDSA_P256)
    remove_public_half(token)
    path = tmp_path / "root.pub"
    path.write_bytes(made.to_bytes())
    with open_keyring(pin=pins, pkcs11_module=token.module) as keyring:
        signer = keyring.open(str(path))
        made.key.verify_signature(signer.sign(b"payload"), b"payload")
    assert tokens.look(token.uri("root"), expect=made.key) == made


def test_key_is_proved_once(
    token: SoftToken, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    from margo_supplychain.signing.pkcs11 import signer

    token.make_key("root")
    real, probes = signer.probe, list[bytes]()

    def probe() -> bytes:
        probes.append(real())
        return probes[-1]

    monkeypatch.setattr(signer, "probe", probe)
    for _ in range(3):
        tokens.open(token.uri("root")).sign(b"payload")
        tokens.look(token.uri("root"))
    assert len(probes) == 1


def test_list_of_keys_that_can_not_be_proved(
    token: SoftToken, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that wants its PIN, and one that does not sign: nobody is asked for a PIN."""
    from pkcs11 import Attribute
    from pkcs11.exceptions import FunctionFailed

    from margo_supplychain.signing.pkcs11 import listing, objects

    token.make_key("root")
    token.make_key("rsa", id=b"\x02", scheme="rsassa-pss-sha256-3072")
    real = objects.read

    def read(key: Any, attribute: Attribute) -> Any:
        strict = attribute == Attribute.ALWAYS_AUTHENTICATE
        return True if strict else real(key, attribute)

    def refuse(*_: object, **__: object) -> bytes:
        raise FunctionFailed

    monkeypatch.setattr(objects, "read", read)
    (info,) = tokens.tokens(login=True)
    root, rsa_key = info.keys
    assert (root.key, root.problem) == (
        None,
        "not proved: it wants the PIN for each signature",
    )
    assert (rsa_key.key is not None, rsa_key.problem) == (True, None)
    monkeypatch.undo()
    monkeypatch.setattr(listing, "raw_signature", refuse)
    (info,) = tokens.tokens(login=True)
    assert {each.key for each in info.keys} == {None}
    assert "CKR_FUNCTION_FAILED" in str(info.keys[0].problem)


def test_session_that_is_opened_while_it_closes(
    token: SoftToken, tokens: Tokens
) -> None:
    """From the first moment of closing nobody opens one that would stay open."""
    token.make_key("root")
    signer = tokens.open(token.uri("root"))
    link = signer._link  # type: ignore[attr-defined]  # of TokenSigner
    real = link.drop

    def drop(epoch: int) -> None:
        with pytest.raises(ValueError, match="this keyring is closed"):
            link.session(None)
        real(epoch)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(link), "drop", lambda _, epoch: drop(epoch))
        patched.setattr(type(link), "is_current", lambda *_: False)
        tokens.close()
