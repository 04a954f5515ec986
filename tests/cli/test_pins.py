"""`--pin-file`: the PIN of a token comes from where it was said, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from margo_supplychain.cli.passphrases import Passphrases
from margo_supplychain.errors import SignerError
from margo_supplychain.signing.keyring import generate_key

if TYPE_CHECKING:
    from pathlib import Path

ROOT_A = "pkcs11:token=root-a"
TWIN = "pkcs11:token=root-a;serial=0002"


def secret(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def handler(*pins: str, passphrase: str | None = None) -> Passphrases:
    files = [] if passphrase is None else [passphrase]
    return Passphrases.from_options(files, None, pins=pins)


def test_a_token_by_its_label_or_uri_or_any(tmp_path: Path) -> None:
    one, two, rest = (
        secret(tmp_path / name, f"{name}\nmore\n") for name in ("one", "two", "rest")
    )
    pin = handler(f"root-a={one}", f"pkcs11:token=root-b={two}", f"*={rest}")
    assert pin.pins_given
    assert not pin.given
    assert pin(token=ROOT_A, tries_left=None) == "one"
    assert pin(token=TWIN, tries_left=3) == "one"
    assert pin(token="pkcs11:token=root-b", tries_left=None) == "two"
    assert pin(token="pkcs11:token=root-c", tries_left=None) == "rest"
    # A login after the token was pulled out needs it once more.
    assert pin(token=ROOT_A, tries_left=None) == "one"


def test_two_tokens_of_one_label_by_serial_number(tmp_path: Path) -> None:
    one, two = (secret(tmp_path / name, name) for name in ("one", "two"))
    pin = handler(f"pkcs11:token=root-a;serial=0001={one}", f"pkcs11:serial=0002={two}")
    assert pin(token="pkcs11:token=root-a;serial=0001", tries_left=None) == "one"
    assert pin(token=TWIN, tries_left=None) == "two"
    with pytest.raises(SignerError, match="no terminal to ask for the PIN of token"):
        _without_terminal(pin, ROOT_A)


def _without_terminal(pin: Passphrases, token: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("os.open", _refuse)
        pin(token=token, tries_left=None)


def _refuse(*_: object, **__: object) -> int:
    raise OSError("no terminal")


def test_a_passphrase_is_never_sent_to_a_token(tmp_path: Path) -> None:
    pin = handler(passphrase=secret(tmp_path / "pass", "correct horse battery"))
    assert pin(token="a.key", tries_left=None) == "correct horse battery"
    with pytest.raises(SignerError, match="no terminal to ask for the PIN of token"):
        _without_terminal(pin, ROOT_A)


def test_the_last_try_is_left_to_a_person(tmp_path: Path) -> None:
    pin = handler(secret(tmp_path / "pin", "123456"))
    assert pin(token=ROOT_A, tries_left=2) == "123456"
    with pytest.raises(SignerError, match="token root-a has one try left") as caught:
        pin(token=ROOT_A, tries_left=1)
    assert caught.value.hint == "leave --pin-file out and type the PIN"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["root-a="], "--pin-file 'root-a=' names no file"),
        (["a", "b"], "--pin-file gives that of every token twice"),
        (["t=a", "t=b"], "--pin-file gives that of 't' twice"),
        (["t=a", "b"], "and gives a file for whatever token asks: name that one too"),
        (["*=a", "b"], "and gives a file for whatever token asks"),
        (["*=a", "*=b"], r"--pin-file gives that of '\*' twice"),
    ],
)
def test_contradictions(options: list[str], match: str) -> None:
    with pytest.raises(click.UsageError, match=match):
        handler(*options)


def test_tokens_that_are_named_wrongly() -> None:
    for name in ("pkcs11:token", "pkcs11:labl=a", "pkcs11:token=a?pin-value=1"):
        with pytest.raises(SignerError, match="the PKCS#11 URI"):
            handler(f"{name}=pin")
    with pytest.raises(click.UsageError, match="its PIN is given by --pin-file"):
        handler(passphrase="pkcs11:token=root-a=pass")


def test_one_line_of_standard_input_is_not_both(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="a passphrase or a PIN, not both"):
        handler("-", passphrase="-")
    with pytest.raises(click.UsageError, match="a passphrase or a PIN, not both"):
        handler("root-a=-", passphrase="a.key=-")
    with pytest.raises(click.UsageError, match="a passphrase or a PIN, not both"):
        Passphrases.from_options([], 0, pins=["-"])
    secret(tmp_path / "pin", "x")
    assert handler("root-a=-", passphrase=str(tmp_path / "pin")).pins_given


def test_a_pin_file_that_others_may_read(tmp_path: Path) -> None:
    path = tmp_path / "pin"
    path.write_text("123456")
    path.chmod(0o644)
    with pytest.raises(SignerError, match=r"PIN file .* may be used by others"):
        handler(str(path))(token=ROOT_A, tries_left=None)


def test_a_file_that_is_named_like_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its passphrase is asked for, and the PIN of a token of that name is not sent."""
    pin = handler(secret(tmp_path / "pin", "123456"), passphrase="/none")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SignerError, match="cannot read passphrase file /none"):
        generate_key("./pkcs11:token=root-a", pin=pin)


def test_the_last_try_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts: list[str] = []

    def ask(prompt: str, *_: str) -> str:
        prompts.append(prompt)
        return "123456"

    monkeypatch.setattr("margo_supplychain.cli.passphrases.ask", ask)
    for token in (TWIN, "pkcs11:serial=0002", "pkcs11:"):
        handler()(token=token, tries_left=1)
    assert prompts == [
        "PIN for token root-a (0002), 1 try left: ",
        "PIN for token 0002, 1 try left: ",
        "PIN for token without a label, 1 try left: ",
    ]


def test_messages_repeat_no_pin() -> None:
    for option in ("pkcs11:token=a?pin-value=123456=", "pkcs11:pin-value=123456=f"):
        with pytest.raises((click.UsageError, SignerError)) as caught:
            handler(option, option)
        assert "123456" not in str(caught.value)
    with pytest.raises(click.UsageError) as usage:
        handler(passphrase="pkcs11:token=a?pin-value=123456=f")
    assert "123456" not in str(usage.value)
