"""Signing with a token for hours: threads, forks, pulled tokens, other users of it."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import SignerError
from margo_supplychain.signing import keys
from margo_supplychain.signing.pkcs11 import Tokens
from margo_supplychain.signing.pkcs11.module import load_module
from tests.signing.pins import Pins
from tests.softhsm import restart_modules, soft_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securesystemslib.signer import Signer

    from tests.softhsm import SoftToken

ASKED = ("pkcs11:token=root-a", None)

# Python 3.12 warns of forks beside threads: what happens then is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(params=[False, True], ids=["module", "p11-kit"])
def token(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SoftToken]:
    with soft_token(tmp_path, "root-a", proxy=request.param) as token:
        yield token


@pytest.fixture
def pins() -> Pins:
    return Pins()


@pytest.fixture
def tokens(token: SoftToken, pins: Pins) -> Iterator[Tokens]:
    tokens = Tokens(pin=pins, module=token.module)
    yield tokens
    tokens.close()


@pytest.fixture
def signer(token: SoftToken, tokens: Tokens) -> Signer:
    made = tokens.generate(token.uri("root"), scheme=keys.ECDSA_P256)
    return tokens.open(token.uri("root"), expect=made.key)


def signs(signer: Signer, payload: bytes = b"payload") -> None:
    signer.public_key.verify_signature(signer.sign(payload), payload)


def test_one_pin_for_any_number_of_signatures(
    token: SoftToken, tokens: Tokens, signer: Signer, pins: Pins
) -> None:
    tokens.generate(token.uri("other"), scheme=keys.ED25519)
    other = tokens.open(token.uri("other"))
    for _ in range(200):
        signs(signer)
        signs(other)
    assert pins.asked == [ASKED]


def test_four_threads(signer: Signer, pins: Pins) -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for number in range(1500):
                signer.sign(str(number).encode())
        except BaseException as why:  # noqa: BLE001 - the test says what it was
            failed.append(why)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert pins.asked == [ASKED]


def test_threads_that_all_have_to_log_in(
    token: SoftToken, tokens: Tokens, signer: Signer, pins: Pins
) -> None:
    """Somebody ended the module: each thread notices, and one PIN is asked for."""
    failed: list[BaseException] = []
    gate = threading.Barrier(4)

    def work() -> None:
        try:
            gate.wait()
            for _ in range(50):
                signs(signer)
        except BaseException as why:  # noqa: BLE001 - the test says what it was
            failed.append(why)

    load_module(token.module).restart()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert pins.asked == [ASKED, ASKED]


def in_child(work: Callable[[], None]) -> int:
    """Run it in a forked child; return 0, 6 for a SignerError, or 1."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except SignerError:
            os._exit(6)
        except BaseException:  # noqa: BLE001 - a child must not come back
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_child_that_signs(signer: Signer, pins: Pins) -> None:
    """It asks for the PIN itself, once; the parent goes on without."""
    signs(signer)

    def work() -> None:
        assert len(pins.asked) == 1
        for _ in range(20):
            signs(signer)
        assert len(pins.asked) == 2

    for _ in range(3):
        assert in_child(work) == 0
        signs(signer)
    assert pins.asked == [ASKED]


def test_child_without_a_pin(token: SoftToken, signer: Signer, pins: Pins) -> None:
    """A login is not inherited: without a PIN the child can't sign."""
    signs(signer)
    pins.answer = "000000"
    # p11-kit starts itself anew in a child, and leaves SoftHSM as it was: logged in.
    inherited = "p11-kit" in token.module.name
    assert in_child(lambda: signs(signer)) == (0 if inherited else 6)
    signs(signer)


def test_child_that_only_closes(tokens: Tokens, signer: Signer) -> None:
    assert in_child(tokens.close) == 0
    signs(signer)


def test_forks_while_threads_sign(signer: Signer) -> None:
    failed: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        try:
            while not done.is_set():
                signs(signer)
        except BaseException as why:  # noqa: BLE001 - the test says what it was
            failed.append(why)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert [in_child(lambda: signs(signer)) for _ in range(8)] == [0] * 8
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failed == []


def test_session_that_somebody_closed(
    token: SoftToken, signer: Signer, pins: Pins
) -> None:
    signs(signer)
    link: Any = signer.__dict__["_link"]
    with load_module(token.module).use():
        link._session.close()
    signs(signer)
    # With the last session the token logged out; p11-kit's proxy keeps the login's.
    assert pins.asked[0] == ASKED
    assert len(pins.asked) == 2


def test_login_of_somebody_else(tmp_path: Path, pins: Pins) -> None:
    """Who is logged in already is not asked; who is logged out by others is."""
    with soft_token(tmp_path, "root-a") as token:
        token.make_key("root")
        with load_module(token.module).use() as library:
            other = library.get_token(token_label="root-a").open(user_pin=token.pin)
        tokens = Tokens(pin=pins, module=token.module)
        signer = tokens.open(token.uri("root"))
        signs(signer)
        assert pins.asked == []
        with load_module(token.module).use():
            other.close()  # calls C_Logout, as python-pkcs11 does
        signs(signer)
        assert pins.asked == [ASKED]
        tokens.close()


def test_closing_logs_nobody_out(token: SoftToken, tokens: Tokens, pins: Pins) -> None:
    made = tokens.generate(token.uri("root"), scheme=keys.ECDSA_P256)
    second = Tokens(pin=pins, module=token.module)
    signer = second.open(token.uri("root"), expect=made.key)
    assert pins.asked == [ASKED]  # this process is logged in already
    tokens.close()
    signs(signer)
    assert pins.asked == [ASKED]
    second.close()


def pull(token: SoftToken) -> Path:
    """Take the token out of its reader; SoftHSM looks again when it starts."""
    (home,) = token.directory.iterdir()
    away = token.directory.parent / "pulled"
    shutil.move(home, away)
    restart_modules()
    return away


def test_token_that_is_pulled_and_comes_back(
    token: SoftToken, signer: Signer, pins: Pins
) -> None:
    signs(signer)
    away = pull(token)
    for _ in range(2):
        with pytest.raises(SignerError, match=r"root-a .* is no longer there$"):
            signer.sign(b"payload")
    assert pins.asked == [ASKED]
    shutil.move(away, token.directory / "back")
    restart_modules()
    signs(signer)
    assert pins.asked == [ASKED, ASKED]


def test_copy_of_a_token(
    token: SoftToken, signer: Signer, pins: Pins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tokens that are the same to the last digit: which one is meant?"""
    from margo_supplychain.signing.pkcs11 import slots

    signs(signer)
    # SoftHSM itself would crash: it makes the slot's number from the serial number.
    real = slots.look_into_slots
    monkeypatch.setattr(
        slots, "look_into_slots", lambda library: (real(library)[0] * 2, [])
    )
    load_module(token.module).restart()
    with pytest.raises(SignerError, match="2 tokens call themselves root-a") as caught:
        signer.sign(b"payload")
    assert "slot-id" in str(caught.value.hint)
    assert pins.asked == [ASKED]


def test_token_that_does_not_answer(
    token: SoftToken, signer: Signer, pins: Pins, monkeypatch: pytest.MonkeyPatch
) -> None:
    from margo_supplychain.signing.pkcs11 import slots

    monkeypatch.setattr(slots, "look_into_slots", lambda _: ([], ["CKR_GENERAL_ERROR"]))
    load_module(token.module).restart()
    with pytest.raises(SignerError, match=r"no longer there or .*\(CKR_GENERAL_ERROR"):
        signer.sign(b"payload")
    fresh = Tokens(pin=pins, module=token.module)
    with pytest.raises(SignerError, match=r"does not get on with another \(CKR_GEN"):
        fresh.open(token.uri("root"))
    assert pins.asked == [ASKED]
    fresh.close()


def test_key_that_is_gone(token: SoftToken, tokens: Tokens, signer: Signer) -> None:
    """Removed and made anew: a name is not a key."""
    signs(signer)
    tokens.generate(token.uri("root"), scheme=keys.ECDSA_P256, replace=True)
    with pytest.raises(SignerError, match="token root-a has no private key root, id"):
        signer.sign(b"payload")


def test_other_key_in_its_place(token: SoftToken, tokens: Tokens, pins: Pins) -> None:
    made = tokens.generate(token.uri("root", id=b"\x01"), scheme=keys.ECDSA_P256)
    signer = tokens.open(token.uri("root"), expect=made.key)
    tokens.generate(token.uri("root", id=b"\x01"), scheme=keys.ECDSA_P256, replace=True)
    expected = made.key.keyid[:12]
    with pytest.raises(SignerError, match=f"now is key .*, expected {expected}"):
        signer.sign(b"payload")


def refusing(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[bytes]:
    """Let the token refuse, with one code after the other; returns what was signed."""
    from pkcs11 import exceptions

    from margo_supplychain.signing.pkcs11 import signer

    real, left, seen = signer.raw_signature, list(names), []

    def sign(key: Any, scheme: str, data: bytes, *, pin: str | None) -> bytes:
        seen.append(data)
        if left:
            raise vars(exceptions)[left.pop(0)]
        return real(key, scheme, data, pin=pin)

    monkeypatch.setattr(signer, "raw_signature", sign)
    return seen


@pytest.mark.parametrize(
    "name",
    [
        "SessionHandleInvalid",
        "SessionClosed",
        "DeviceRemoved",
        "DeviceError",
        "GeneralError",
        "OperationActive",
        "ObjectHandleInvalid",
        "TokenNotPresent",
        "UserNotLoggedIn",
    ],
)
def test_stale_handle_is_looked_up_once(
    signer: Signer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    seen = refusing(monkeypatch, name)
    signs(signer)
    assert len(seen) == 2
    seen = refusing(monkeypatch, name, name)
    with pytest.raises(SignerError, match=r"^token root-a, key object=root;\S+: CKR_"):
        signer.sign(b"payload")
    assert len(seen) == 2
    signs(signer)


@pytest.mark.parametrize(
    ("name", "ckr", "hint"),
    [
        ("KeyTypeInconsistent", "CKR_KEY_TYPE_INCONSISTENT", "manual"),
        ("MechanismInvalid", "CKR_MECHANISM_INVALID", "kind of signature"),
        ("DataLenRange", "CKR_DATA_LEN_RANGE", "payload of this size"),
        ("FunctionCancelled", "CKR_FUNCTION_CANCELED", "manual"),
    ],
)
def test_refusal_is_told_at_once(
    signer: Signer, monkeypatch: pytest.MonkeyPatch, name: str, ckr: str, hint: str
) -> None:
    seen = refusing(monkeypatch, name)
    with pytest.raises(SignerError, match=f": {ckr}$") as caught:
        signer.sign(b"payload")
    assert hint in str(caught.value.hint)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda raw: bytes([raw[0] ^ 1]) + raw[1:], "does not verify with key"),
        (lambda raw: raw[:-1], "a signature of 63 bytes, expected 64"),
        (lambda raw: b"", "a signature of 0 bytes, expected 64"),
    ],
)
def test_faulty_token(
    signer: Signer,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[bytes], bytes],
    match: str,
) -> None:
    from margo_supplychain.signing.pkcs11 import signer as module

    real = module.raw_signature
    monkeypatch.setattr(
        module,
        "raw_signature",
        lambda *args, pin: spoil(real(*args, pin=pin)),
    )
    with pytest.raises(SignerError, match=match) as caught:
        signer.sign(b"payload")
    assert "do not go on" in str(caught.value.hint)


def test_digest_of_another_length(
    signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SoftHSM would sign a part of it and say nothing."""
    from margo_supplychain.signing.pkcs11 import signer as module

    seen = refusing(monkeypatch)
    wrong = module.WAYS[keys.ECDSA_P256]._replace(hash="sha512")
    monkeypatch.setitem(module.WAYS, keys.ECDSA_P256, wrong)
    with pytest.raises(SignerError, match="a digest of 64 bytes for ecdsa-sha2-nist"):
        signer.sign(b"payload")
    assert seen == []


def test_signer_stays_where_it_is(signer: Signer) -> None:
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="does not leave its process"):
            leave(signer)
    with pytest.raises(NotImplementedError, match="open_keyring"):
        type(signer).from_priv_key_uri("pkcs11:token=a", signer.public_key)
