"""PINs: asked for once, sent once, and a wrong one never a second time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import SignerError
from margo_supplychain.signing import keys
from margo_supplychain.signing.pkcs11 import Tokens, failures, slots
from margo_supplychain.signing.pkcs11.calls import Calls
from margo_supplychain.signing.pkcs11.module import load_module
from tests.signing.pins import Pins
from tests.softhsm import soft_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.softhsm import SoftToken

ASKED = ("pkcs11:token=root-a", None)
P11_KIT = pytest.mark.parametrize("proxy", [False, True], ids=["module", "p11-kit"])


@pytest.fixture
def token(tmp_path: Path) -> Iterator[SoftToken]:
    with soft_token(tmp_path, "root-a") as token:
        token.make_key("root")
        yield token


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[bytes | None]:
    """What reaches the token as a PIN."""
    real, sent = Calls.login, []

    def login(calls: Calls, session: int, pin: bytes | None) -> str:
        sent.append(pin)
        return real(calls, session, b"123456" if pin is None else pin)

    monkeypatch.setattr(Calls, "login", login)
    return sent


def flagged(monkeypatch: pytest.MonkeyPatch, *names: str, without: str = "") -> None:
    """Let tokens show flags that SoftHSM never shows."""
    from pkcs11 import TokenFlag

    class Flagged:
        def __init__(self, token: Any) -> None:
            self._token = token

        def __getattr__(self, name: str) -> Any:
            return getattr(self._token, name)

        @property
        def flags(self) -> TokenFlag:
            flags = self._token.flags
            for name in names:
                flags |= TokenFlag[name]
            return TokenFlag(flags & ~TokenFlag[without] if without else flags)

    real = slots.look_into_slots

    def look(library: Any) -> tuple[list[Any], list[str]]:
        tokens, silent = real(library)
        return [Flagged(token) for token in tokens], silent

    monkeypatch.setattr(slots, "look_into_slots", look)


@P11_KIT
def test_wrong_pin(tmp_path: Path, proxy: bool) -> None:
    with soft_token(tmp_path, "root-a", proxy=proxy) as token:
        token.make_key("root")
        pins = Pins("999999")
        tokens = Tokens(pin=pins, module=token.module)
        with pytest.raises(SignerError) as caught:
            tokens.open(token.uri("root"))
        assert str(caught.value) == "token root-a: wrong PIN: CKR_PIN_INCORRECT"
        assert "be sure before you run it again" in str(caught.value.hint)
        assert pins.asked == [ASKED]
        pins.answer = token.pin
        tokens.open(token.uri("root")).sign(b"payload")
        assert pins.asked == [ASKED, ASKED]
        tokens.close()


def test_wrong_pin_is_not_sent_again(
    token: SoftToken, sent: list[bytes | None]
) -> None:
    pins = Pins("999999")
    for _ in range(3):  # three keyrings, as three keys of one command
        tokens = Tokens(pin=pins, module=token.module)
        with pytest.raises(SignerError, match="CKR_PIN_INCORRECT"):
            tokens.open(token.uri("root"))
        with pytest.raises(SignerError, match="this PIN was refused before, and is n"):
            tokens.look(token.uri("root"))
        tokens.close()
    assert len(pins.asked) == 6
    assert sent == [b"999999"]
    # Once it lets somebody in, what was refused is forgotten.
    pins.answer = token.pin
    tokens = Tokens(pin=pins, module=token.module)
    tokens.open(token.uri("root"))
    assert load_module(token.module).refused == {}
    tokens.close()


def test_refused_pins_are_not_kept_in_the_clear(token: SoftToken) -> None:
    tokens = Tokens(pin=Pins("999999"), module=token.module)
    with pytest.raises(SignerError, match="wrong PIN"):
        tokens.open(token.uri("root"))
    assert "999999" not in repr(load_module(token.module).refused)
    tokens.close()
    load_module(token.module).refused.clear()


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        ("", "has 0 bytes, expected 1 to 255"),
        ("1" * 256, "has 256 bytes, expected 1 to 255"),
        ("\udc80", "the PIN is not UTF-8"),
    ],
)
def test_pin_that_is_none(
    token: SoftToken, sent: list[bytes | None], answer: str, match: str
) -> None:
    tokens = Tokens(pin=Pins(answer), module=token.module)
    with pytest.raises(SignerError, match=match):
        tokens.open(token.uri("root"))
    assert sent == []
    tokens.close()


def test_locked_token(
    token: SoftToken, sent: list[bytes | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    flagged(monkeypatch, "USER_PIN_LOCKED")
    pins = Pins()
    tokens = Tokens(pin=pins, module=token.module)
    with pytest.raises(SignerError, match="root-a: locked: CKR_PIN_LOCKED") as caught:
        tokens.open(token.uri("root"))
    assert "SO PIN or PUK" in str(caught.value.hint)
    assert (pins.asked, sent) == ([], [])
    (info,) = tokens.tokens()
    assert info.state == "locked: too many wrong PINs"
    tokens.close()


@pytest.mark.parametrize(
    "name", ["CKR_PIN_LOCKED", "CKR_PIN_EXPIRED", "CKR_HOST_MEMORY"]
)
def test_login_that_fails_otherwise(
    token: SoftToken, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(Calls, "login", lambda *_: name)
    tokens = Tokens(pin=Pins(), module=token.module)
    with pytest.raises(SignerError, match=f"^token root-a: the login failed: {name}$"):
        tokens.open(token.uri("root"))
    assert load_module(token.module).refused == {}
    tokens.close()


def test_session_that_is_gone_when_the_pin_is_typed(
    token: SoftToken, sent: list[bytes | None]
) -> None:
    """The token never saw the PIN: the same one goes to a new session."""

    class Slow(Pins):
        def __call__(self, *, token: str, tries_left: int | None) -> str:
            load_module(module).restart()
            return super().__call__(token=token, tries_left=tries_left)

    module, pins = token.module, Slow()
    tokens = Tokens(pin=pins, module=module)
    tokens.open(token.uri("root")).sign(b"payload")
    assert pins.asked == [ASKED]
    tokens.close()


def test_code_that_says_the_pin_was_not_tried(
    token: SoftToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, codes = Calls.login, ["CKR_SESSION_HANDLE_INVALID"]

    def login(calls: Calls, session: int, pin: bytes | None) -> str:
        return codes.pop() if codes else real(calls, session, pin)

    monkeypatch.setattr(Calls, "login", login)
    pins = Pins()
    tokens = Tokens(pin=pins, module=token.module)
    tokens.open(token.uri("root")).sign(b"payload")
    assert pins.asked == [ASKED]
    tokens.close()


def test_last_try(
    token: SoftToken, sent: list[bytes | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is asked is told; what lies in a file is not risked."""
    flagged(monkeypatch, "USER_PIN_FINAL_TRY", "USER_PIN_COUNT_LOW")
    pins = Pins("999999")
    tokens = Tokens(pin=pins, module=token.module)
    source = f"{token.uri('root')}?pin-source=file:{token.pin_file}"
    with pytest.raises(SignerError, match=r"one try is left, and .* not risked") as e:
        tokens.open(source)
    assert "type the PIN" in str(e.value.hint)
    assert (pins.asked, sent) == ([], [])
    with pytest.raises(SignerError, match="wrong PIN, and the next wrong one locks"):
        tokens.open(token.uri("root"))
    assert pins.asked == [("pkcs11:token=root-a", 1)]
    (info,) = tokens.tokens()
    assert info.state == "the next wrong PIN locks it"
    tokens.close()
    load_module(token.module).refused.clear()


def test_pin_that_locked_it(token: SoftToken, monkeypatch: pytest.MonkeyPatch) -> None:
    class Locking(Pins):
        def __call__(self, *, token: str, tries_left: int | None) -> str:
            flagged(monkeypatch, "USER_PIN_LOCKED")
            return super().__call__(token=token, tries_left=tries_left)

    tokens = Tokens(pin=Locking("999999"), module=token.module)
    with pytest.raises(SignerError, match="wrong PIN, and the token is locked now"):
        tokens.open(token.uri("root"))
    tokens.close()
    load_module(token.module).refused.clear()


def test_token_that_is_pulled_after_a_wrong_pin(
    token: SoftToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    def login(calls: Calls, session: int, pin: bytes | None) -> str:
        monkeypatch.setattr(slots, "look_into_slots", lambda _: ([], []))
        return failures.PIN_INCORRECT

    monkeypatch.setattr(Calls, "login", login)
    tokens = Tokens(pin=Pins("999999"), module=token.module)
    with pytest.raises(SignerError, match=r"^token root-a: wrong PIN: CKR_PIN"):
        tokens.open(token.uri("root"))
    monkeypatch.undo()
    tokens.close()
    load_module(token.module).refused.clear()


def test_token_with_a_pad_of_its_own(
    token: SoftToken, sent: list[bytes | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    flagged(monkeypatch, "PROTECTED_AUTHENTICATION_PATH")
    pins = Pins()
    tokens = Tokens(pin=pins, module=token.module)
    tokens.open(token.uri("root")).sign(b"payload")
    assert (pins.asked, sent) == ([], [None])
    tokens.close()


def test_token_without_a_login(
    token: SoftToken, sent: list[bytes | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    flagged(monkeypatch, without="LOGIN_REQUIRED")
    pins = Pins()
    tokens = Tokens(pin=pins, module=token.module)
    with pytest.raises(SignerError, match="has no private key"):
        tokens.open(token.uri("root"))  # SoftHSM hides it all the same
    assert (pins.asked, sent) == ([], [])
    tokens.close()


def test_token_without_a_pin(token: SoftToken, monkeypatch: pytest.MonkeyPatch) -> None:
    flagged(monkeypatch, without="USER_PIN_INITIALIZED")
    tokens = Tokens(pin=Pins(), module=token.module)
    (info,) = tokens.tokens()
    assert info.state == "it has no user PIN yet"
    tokens.close()


# --- pin-source ----------------------------------------------------------------------


def test_pin_from_a_file(token: SoftToken) -> None:
    pins = Pins("999999")
    tokens = Tokens(pin=pins, module=None)
    tokens.open(token.uri("root", query=True)).sign(b"payload")
    assert pins.asked == []
    tokens.close()


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\nmore\n"])
def test_end_of_line_of_a_pin_file(token: SoftToken, ending: str) -> None:
    token.pin_file.write_bytes((token.pin + ending).encode())
    tokens = Tokens(pin=Pins(), module=None)
    tokens.open(token.uri("root", query=True))
    tokens.close()


def readable(path: Path) -> None:
    path.chmod(0o640)


def absent(path: Path) -> None:
    path.unlink()


def large(path: Path) -> None:
    path.write_bytes(b"1" * 300)


def binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\n")


def empty(path: Path) -> None:
    path.write_bytes(b"\n")


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (readable, "may be used by others than its owner"),
        (absent, "no such file"),
        (large, "has more than 257 bytes"),
        (binary, "is not UTF-8"),
        (empty, "the PIN has 0 bytes"),
    ],
)
def test_pin_file_that_is_not_used(
    token: SoftToken,
    sent: list[bytes | None],
    spoil: Callable[[Path], None],
    match: str,
) -> None:
    spoil(token.pin_file)
    pins = Pins()
    tokens = Tokens(pin=pins, module=None)
    with pytest.raises(SignerError, match=match):
        tokens.open(token.uri("root", query=True))
    assert (pins.asked, sent) == ([], [])
    tokens.close()


# --- CKA_ALWAYS_AUTHENTICATE ---------------------------------------------------------


def make_strict_key(token: SoftToken) -> None:
    """A key that wants the PIN for each signature, as PIV's slot 9c does."""
    from pkcs11 import Attribute, KeyType, MechanismFlag
    from pkcs11.util.ec import encode_named_curve_parameters

    with load_module(token.module).use() as library:
        session = library.get_token(token_label=token.label).open(
            rw=True, user_pin=token.pin
        )
        session.create_domain_parameters(
            KeyType.EC,
            {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")},
            local=True,
        ).generate_keypair(
            id=b"\x9c",
            label="strict",
            store=True,
            capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
            private_template={Attribute.ALWAYS_AUTHENTICATE: True},
        )
        session.close()


@P11_KIT
def test_key_that_wants_the_pin_each_time(tmp_path: Path, proxy: bool) -> None:
    with soft_token(tmp_path, "root-a", proxy=proxy) as token:
        make_strict_key(token)
        pins = Pins()
        tokens = Tokens(pin=pins, module=token.module)
        signer = tokens.open(token.uri("strict"))
        assert len(pins.asked) == 2  # to log in, and to prove which key it is
        tokens.look(token.uri("strict"))
        for count in (3, 4, 5):
            signer.public_key.verify_signature(signer.sign(b"payload"), b"payload")
            assert len(pins.asked) == count
        tokens.close()


@P11_KIT
def test_wrong_pin_for_one_signature(tmp_path: Path, proxy: bool) -> None:
    """It is refused, it is not sent again, and the next right one works."""
    with soft_token(tmp_path, "root-a", proxy=proxy) as token:
        make_strict_key(token)
        pins = Pins()
        tokens = Tokens(pin=pins, module=token.module)
        signer = tokens.open(token.uri("strict"))
        pins.answer = "999999"
        with pytest.raises(SignerError, match="root-a: wrong PIN: CKR_PIN_INCORRECT"):
            signer.sign(b"payload")
        with pytest.raises(SignerError, match="this PIN was refused before"):
            signer.sign(b"payload")
        assert len(pins.asked) == 4
        pins.answer = token.pin
        signer.sign(b"payload")
        assert load_module(token.module).refused == {}
        tokens.close()


def test_strict_key_after_a_restart(token: SoftToken) -> None:
    make_strict_key(token)
    pins = Pins()
    tokens = Tokens(pin=pins, module=token.module)
    signer = tokens.open(token.uri("strict"))
    load_module(token.module).restart()
    signer.sign(b"payload")
    # To log in and to prove the key, to log in again, and to sign.
    assert pins.asked == [ASKED] * 4
    tokens.close()


def test_what_was_proved_ends_with_the_session(token: SoftToken) -> None:
    tokens = Tokens(pin=Pins(), module=token.module)
    tokens.look(token.uri("root"))
    (link,) = tokens._links.values()
    (proved,) = link.proven
    load_module(token.module).restart()
    with link.module.use() as library:
        link.session(library)
    assert link.proven == set()
    tokens.look(token.uri("root"))
    assert link.proven == {proved}
    tokens.close()


def test_strict_key_behind_a_pad(
    token: SoftToken, sent: list[bytes | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_strict_key(token)
    flagged(monkeypatch, "PROTECTED_AUTHENTICATION_PATH")
    tokens = Tokens(pin=Pins(), module=token.module)
    with pytest.raises(SignerError, match="for each signature on the token's own pad"):
        tokens.open(token.uri("strict"))
    assert sent == [None]
    tokens.close()


def test_new_strict_key_is_not_tried(
    token: SoftToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some tokens make nothing else; the PIN is not asked for to try it out."""
    from pkcs11 import Attribute

    from margo_supplychain.signing.pkcs11 import objects

    real = objects.read

    def read(key: Any, attribute: Attribute) -> Any:
        if attribute == Attribute.ALWAYS_AUTHENTICATE:
            return True
        return real(key, attribute)

    monkeypatch.setattr(objects, "read", read)
    pins = Pins()
    tokens = Tokens(pin=pins, module=token.module)
    tokens.generate(token.uri("new"), scheme=keys.ECDSA_P256)
    assert pins.asked == [ASKED]
    tokens.close()
