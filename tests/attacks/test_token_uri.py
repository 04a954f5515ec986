"""T-100 to T-103: key URIs and tokens that Mallory had in her hands."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from margo_supplychain.errors import SignerError
from margo_supplychain.signing import keys
from margo_supplychain.signing.keyring import open_keyring
from margo_supplychain.signing.pkcs11 import Tokens
from margo_supplychain.signing.pkcs11.calls import Calls
from margo_supplychain.signing.pkcs11.module import load_module
from tests.signing.pins import Pins
from tests.softhsm import soft_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securesystemslib.signer import SSlibKey

    from tests.softhsm import SoftToken

PAYLOAD: Final = b"payload"


class Holder:
    """A key holder with a token, who signs what a command line tells her."""

    def __init__(self, token: SoftToken, sent: list[bytes | None]) -> None:
        self.token = token
        self.pins = Pins(token.pin)
        self.sent = sent
        tokens = Tokens(pin=self.pins, module=token.module)
        record = tokens.generate(token.uri("root"), scheme=keys.ECDSA_P256)
        tokens.close()
        self.key: SSlibKey = record.key
        self.forget()

    def forget(self) -> None:
        """Count from here what was asked and sent."""
        self.pins.asked.clear()
        self.sent.clear()

    def signs(self, uri: str | None = None) -> None:
        """Sign with a keyring of its own, as one run of a command does."""
        with open_keyring(pin=self.pins, pkcs11_module=self.token.module) as keyring:
            signer = keyring.open(uri or self.token.uri("root"), expect=self.key)
            self.key.verify_signature(signer.sign(PAYLOAD), PAYLOAD)

    def refuses(self, uri: str, match: str) -> None:
        """Fail as a signer does, before anybody is asked for a PIN."""
        self.forget()
        with pytest.raises(SignerError, match=match) as caught:
            self.signs(uri)
        assert caught.value.code == "signer"
        assert caught.value.hint
        assert (self.pins.asked, self.sent) == ([], [])


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[bytes | None]:
    """Every PIN that reached a token."""
    real, sent = Calls.login, []

    def login(calls: Calls, session: int, pin: bytes | None) -> str:
        sent.append(pin)
        return real(calls, session, pin)

    monkeypatch.setattr(Calls, "login", login)
    return sent


@pytest.fixture
def holder(tmp_path: Path, sent: list[bytes | None]) -> Iterator[Holder]:
    with soft_token(tmp_path, "root-a") as token:
        holder = Holder(token, sent)
        yield holder
        load_module(token.module).refused.clear()


def is_loaded(path: Path) -> bool:
    """Tell whether code of that file is part of this process."""
    maps = Path("/proc/self/maps").read_text("utf-8")
    return str(path) in maps or str(path.resolve()) in maps


def drop(tmp_path: Path, holder: Holder) -> Path:
    """A directory that everybody may write to, with a module that would work."""
    place = tmp_path / "drop"
    place.mkdir()
    place.chmod(0o1777)
    copy = place / "libevil.so"
    shutil.copyfile(holder.token.module, copy)
    copy.chmod(0o644)
    return copy


# --- T-100: code of hers as a module --------------------------------------------------


def test_module_in_a_world_writable_place(tmp_path: Path, holder: Holder) -> None:
    """Mallory puts a library where everybody may write, and hands out a key URI that
    names it; her code must not come to run where the PIN is typed."""
    evil = drop(tmp_path, holder)
    holder.signs(f"{holder.token.uri('root')}?module-path={holder.token.module}")
    holder.refuses(
        f"{holder.token.uri('root')}?module-path={evil}",
        r"libevil\.so is not loaded: .* can be changed by others than its owner",
    )
    assert not is_loaded(evil)
    holder.signs()


def test_module_behind_a_link_that_she_can_change(
    tmp_path: Path, holder: Holder
) -> None:
    """Likewise by a link to the system's own module: sound today, hers tomorrow."""
    evil = drop(tmp_path, holder)
    link = evil.parent / "libgood.so"
    link.symlink_to(holder.token.module)
    holder.signs()
    holder.refuses(
        f"{holder.token.uri('root')}?module-path={link}",
        r"libgood\.so is not loaded: .* can be changed by others than its owner",
    )
    holder.signs()


def test_module_by_the_environment_or_the_working_directory(
    tmp_path: Path, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mallory sets what other tools read (PYKCS11LIB), or leaves a library where the
    command is run; neither names a module here."""
    evil = drop(tmp_path, holder)
    holder.signs()
    monkeypatch.setenv("PYKCS11LIB", str(evil))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(evil.parent))
    monkeypatch.chdir(evil.parent)
    holder.signs()
    for relative in ("libevil.so", "./libevil.so"):
        holder.refuses(
            f"{holder.token.uri('root')}?module-path={relative}",
            "module-path that is not an absolute path",
        )
    with (
        open_keyring(pin=holder.pins) as keyring,
        pytest.raises(SignerError, match="no PKCS#11 module is named"),
    ):
        keyring.open(holder.token.uri("root"))
    assert not is_loaded(evil)


# --- T-101: PINs in the open, and attributes that nobody reads ------------------------


def test_pin_inside_the_uri(holder: Holder) -> None:
    """A URI with a PIN lies in histories, logs and the list of processes, where Mallory
    reads it; it is refused, so that nobody gets used to it, and not repeated."""
    holder.signs()
    uri = holder.token.uri("root")
    pin = holder.token.pin
    for hostile in (f"{uri}?pin-value={pin}", f"{uri};pin-value={pin}"):
        holder.refuses(hostile, "holds a PIN")
        with pytest.raises(SignerError) as caught:
            holder.signs(hostile)
        assert pin not in f"{caught.value} {caught.value.hint}"
    holder.signs()


def test_pin_file_that_others_can_read(holder: Holder) -> None:
    """Who can read the file has the PIN, and who can swap it chooses what is sent."""
    uri = f"{holder.token.uri('root')}?pin-source=file:{holder.token.pin_file}"
    holder.signs(uri)
    assert holder.pins.asked == []
    holder.token.pin_file.chmod(0o644)
    holder.refuses(uri, "may be used by others than its owner")
    for source in ("|cat%20/run/pin", "https://example.org/pin", "/run/pin"):
        holder.refuses(
            f"{holder.token.uri('root')}?pin-source={source}", "is not file:/PATH"
        )
    holder.token.pin_file.chmod(0o600)
    holder.signs(uri)


@pytest.mark.parametrize(
    "attribute", ["serail=0f1e", "x-serial=0f1e", "Serial=0f1e", "module-name=softhsm2"]
)
def test_attribute_that_nobody_knows(holder: Holder, attribute: str) -> None:
    """The serial number was meant to keep a swapped token out. Misspelt, it must not
    be skipped: Mallory's token would be asked instead."""
    good = f"pkcs11:token=root-a;serial={holder.token.serial};object=root"
    holder.signs(good)
    holder.refuses(
        f"pkcs11:token=root-a;{attribute};object=root", "unknown attr|use mod"
    )
    holder.refuses(good.replace(";serial", ";token=root-b;serial"), "token twice")
    holder.signs(good)


# --- T-102: wrong PINs until it locks -------------------------------------------------


def test_wrong_pin_in_a_loop(holder: Holder) -> None:
    """Mallory exchanges the PIN file, and a service signs again and again: after three
    wrong PINs a card is locked for good. One wrong PIN is sent, once."""
    holder.signs()
    holder.forget()
    holder.token.pin_file.write_text("000000\n", "utf-8")
    uri = f"{holder.token.uri('root')}?pin-source=file:{holder.token.pin_file}"
    for _ in range(10):
        with pytest.raises(SignerError, match="CKR_PIN_INCORRECT"):
            holder.signs(uri)
    assert holder.sent == [b"000000"]
    holder.signs()


def test_wrong_pin_for_several_keys(holder: Holder) -> None:
    """One command with several keys in one token, and a wrong answer each time."""
    holder.signs()
    holder.forget()
    holder.pins.answer = "000000"
    with open_keyring(pin=holder.pins, pkcs11_module=holder.token.module) as keyring:
        for name in ("root", "targets", "snapshot", "timestamp"):
            with pytest.raises(SignerError, match="CKR_PIN_INCORRECT"):
                keyring.open(holder.token.uri(name))
    assert holder.sent == [b"000000"]
    holder.pins.answer = holder.token.pin
    holder.signs()


# --- T-103: another token under the same name -----------------------------------------


def test_token_that_was_swapped_before_the_pin(tmp_path: Path, holder: Holder) -> None:
    """Mallory puts a token of hers, with the same label and a key of the same name,
    into the reader. The key that is expected is known: no PIN goes to hers."""
    holder.signs()
    holder.token.remove()
    with soft_token(tmp_path, "root-a") as hers:
        hers.make_key("root")
        holder.refuses(hers.uri("root"), f"expected {holder.key.keyid[:12]}")
        by_serial = f"pkcs11:token=root-a;serial={holder.token.serial};object=root"
        holder.refuses(by_serial, "no token matches pkcs11:token=root-a;serial=")


def test_token_that_is_swapped_while_it_signs(tmp_path: Path, holder: Holder) -> None:
    """Likewise in the middle of a long run, after the login: the PIN is not asked for
    again, and nothing is signed by her key."""
    with open_keyring(pin=holder.pins, pkcs11_module=holder.token.module) as keyring:
        signer = keyring.open(holder.token.uri("root"))
        signer.sign(PAYLOAD)
        holder.token.remove()
        with soft_token(tmp_path, "root-a") as hers:
            hers.make_key("root")
            holder.forget()
            with pytest.raises(SignerError, match="no longer there, but ") as caught:
                signer.sign(PAYLOAD)
            assert f"serial={hers.serial} is there" in str(caught.value)
            assert (holder.pins.asked, holder.sent) == ([], [])


def test_second_token_with_the_same_label(tmp_path: Path, holder: Holder) -> None:
    """Both are plugged in: the command does not choose, and lists both."""
    holder.signs()
    with soft_token(tmp_path, "root-a") as hers:
        hers.make_key("root")
        holder.refuses(hers.uri("root"), "2 tokens match pkcs11:token=root-a: ")
        holder.signs(holder.token.uri("root", serial=True))


def test_planted_key_of_the_same_name(holder: Holder) -> None:
    """Who had the token for a minute made a second key with the same label and id."""
    holder.signs()
    with open_keyring(pin=holder.pins, pkcs11_module=holder.token.module) as keyring:
        uri = str(keyring.look(holder.token.uri("root")).uri)
    identifier = bytes.fromhex(uri.rpartition("id=")[2].replace("%", ""))
    holder.token.make_key("root", id=identifier)
    for name in (uri, holder.token.uri("root")):
        holder.refuses(name, "has 2 public keys root")
