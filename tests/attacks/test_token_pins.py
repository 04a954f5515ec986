"""T-134 to T-136: PINs that reach another token, and tokens that keep PINs away."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
import pytest

from margo_supplychain.cli.passphrases import Passphrases
from margo_supplychain.errors import SignerError
from margo_supplychain.signing import secret_files
from margo_supplychain.signing.keyring import open_keyring
from margo_supplychain.signing.pkcs11 import Tokens
from margo_supplychain.signing.pkcs11.calls import Calls
from margo_supplychain.signing.pkcs11.module import load_module
from tests.signing.pins import Pins
from tests.softhsm import SoftToken, soft_module, soft_token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from margo_supplychain.signing.keyring import PinHandler


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
def ours(tmp_path: Path) -> Iterator[SoftToken]:
    with soft_token(tmp_path, "root-a") as token:
        token.make_key("root")
        yield token


@pytest.fixture
def theirs(tmp_path: Path, ours: SoftToken) -> Iterator[SoftToken]:
    del ours
    with soft_token(tmp_path, "root-b", pin="999999") as token:
        token.make_key("root")
        yield token
        load_module(token.module).refused.clear()


def handler(*pins: str) -> Passphrases:
    return Passphrases.from_options([], None, pins=pins)


def opens(token: SoftToken, pin: PinHandler) -> None:
    with open_keyring(pin=pin, pkcs11_module=token.module) as keyring:
        keyring.open(token.uri("root"))


# --- T-134: another token is sent the PIN ---------------------------------------------


@pytest.mark.parametrize(
    "name", ["slot-id=12345", "object=root", "library-version=2", "model=SoftHSM%20v2"]
)
def test_pin_file_that_names_no_token(
    ours: SoftToken, theirs: SoftToken, sent: list[bytes | None], name: str
) -> None:
    """What a person wrote to mean one token means every token to a program that reads
    half of it: another's token gets the PIN, counts a try, and may keep it."""
    opens(ours, handler(f"root-a={ours.pin_file}"))
    sent.clear()
    with pytest.raises(SignerError, match="--pin-file names"):
        handler(f"pkcs11:{name}={ours.pin_file}")
    assert sent == []
    opens(theirs, handler(f"root-b={theirs.pin_file}"))


def test_pin_of_the_token_that_is_named(
    ours: SoftToken, theirs: SoftToken, sent: list[bytes | None]
) -> None:
    """A token that is named with its serial number gets its own PIN, not the one for
    every other; nor does one with another serial number get a guess."""
    named = f"pkcs11:token=root-b;serial={theirs.serial}={theirs.pin_file}"
    opens(theirs, handler(named, f"*={ours.pin_file}"))
    opens(
        theirs, handler(f"pkcs11:serial={theirs.serial}={theirs.pin_file}", "*=/none")
    )
    opens(theirs, handler(f"root-b={ours.pin_file}", named))
    assert set(sent) == {b"999999"}
    sent.clear()
    mistyped = f"pkcs11:token=root-b;serial=4711={theirs.pin_file}"
    with pytest.raises(SignerError, match="a token with that label which is not token"):
        opens(theirs, handler(mistyped, f"*={ours.pin_file}"))
    made_by = f"pkcs11:token=root-b;model=SoftHSM%20v2={theirs.pin_file}"
    with pytest.raises(SignerError, match="2 values of --pin-file fit token root-b"):
        opens(theirs, handler(made_by, f"pkcs11:serial={theirs.serial}=/none"))
    with pytest.raises(click.UsageError, match="that of one token twice"):
        handler("root-b=/none", f"pkcs11:token=root-b={theirs.pin_file}")
    assert sent == []
    opens(theirs, handler(named))


@pytest.mark.parametrize("name", ["root-B", "root-b ", "pkcs11:serial=4711"])
def test_pin_of_one_token_beside_a_mistyped_name(
    ours: SoftToken, theirs: SoftToken, sent: list[bytes | None], name: str
) -> None:
    """A name that no token has leaves its token to the file for any: that one would
    get the PIN of another. So a file for any stands alone, or says that it is meant."""
    opens(theirs, handler(f"root-b={theirs.pin_file}", f"*={ours.pin_file}"))
    sent.clear()
    with pytest.raises(click.UsageError, match="for every other token"):
        handler(f"{name}={theirs.pin_file}", str(ours.pin_file))
    assert sent == []
    opens(ours, handler(f"root-b={theirs.pin_file}", f"*={ours.pin_file}"))
    assert set(sent) == {ours.pin.encode()}


def test_refused_pin_by_another_module(
    tmp_path: Path, sent: list[bytes | None]
) -> None:
    """A PIN that the token refused is not tried again, whatever module leads there."""
    proxy = soft_module(proxy=True)
    with soft_token(tmp_path, "root-a") as token:
        token.make_key("root")
        opens(token, Pins(token.pin))
        sent.clear()
        wrong = Pins("000000")
        for module, match in (
            (token.module, "wrong PIN"),
            (proxy, "this PIN was refused before"),
        ):
            with (
                open_keyring(pin=wrong, pkcs11_module=module) as keyring,
                pytest.raises(SignerError, match=match),
            ):
                keyring.open(token.uri("root"))
        assert sent == [b"000000"]
        opens(token, Pins(token.pin))


# --- T-135: a foreign token in the reader ---------------------------------------------


@pytest.mark.parametrize("label", ["a\x1b[31mb", "x\u202ey", ""])
def test_token_with_a_name_that_nobody_can_type(
    tmp_path: Path, ours: SoftToken, sent: list[bytes | None], label: str
) -> None:
    """Mallory plugs in a token whose label plays with terminals, or has none. The
    others are listed and logged in to as before, and hers gets no PIN of theirs."""
    answers = handler(f"root-a={ours.pin_file}")
    tokens = Tokens(pin=answers, module=ours.module)
    ((key,),) = [info.keys for info in tokens.tokens(login=True)]
    tokens.close()
    with soft_token(tmp_path, label, pin="999999") as hers:
        hers.make_key("root")
        sent.clear()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("margo_supplychain.cli.passphrases.ask", _refuse)
            tokens = Tokens(pin=answers, module=ours.module)
            shown = {info.serial: info for info in tokens.tokens(login=True)}
            tokens.close()
        assert sent == [ours.pin.encode()]
        assert shown[ours.serial].keys == (key,)
        bad = shown[hers.serial]
        assert (bad.logged_in, bad.state) == (False, "nobody is here")
        assert (bad.label + bad.uri).isprintable()
        # By its serial number even such a token is named.
        named = f"pkcs11:serial={hers.serial};object=root"
        pin = handler(f"pkcs11:serial={hers.serial}={hers.pin_file}")
        with open_keyring(pin=pin, pkcs11_module=hers.module) as keyring:
            record = keyring.look(named)
            keyring.open(str(record.uri), expect=record.key).sign(b"payload")
    opens(ours, answers)


def _refuse(*_: str) -> str:
    raise SignerError("nobody is here")


# --- T-136: a PIN that never comes ----------------------------------------------------


def test_pipe_that_says_nothing(
    ours: SoftToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mallory holds the other end of the pipe that a PIN is read from: a service that
    signs must not wait for ever, and tells why it did not sign."""
    monkeypatch.setattr(secret_files, "PIPE_PATIENCE", 0.2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    held = os.open(pipe, os.O_RDWR)
    try:
        os.write(held, ours.pin.encode() + b"\n")  # and it stays open
        with pytest.raises(SignerError, match="is a pipe that did not end") as caught:
            opens(ours, handler(str(pipe)))
        assert caught.value.hint == "whoever writes to it must close it"
    finally:
        os.close(held)
    opens(ours, handler(str(ours.pin_file)))
