"""Which keys a command opens: those that are given, else those of this place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from margo_supplychain.cli.invocation import Invocation
from margo_supplychain.cli.key_tokens import _lines
from margo_supplychain.cli.passphrases import Passphrases
from margo_supplychain.cli.signing_keys import (
    as_setting,
    keyring_of,
    open_key,
    open_signers,
    read_public,
)
from margo_supplychain.errors import FormatError, SignerError
from margo_supplychain.signing.keyring import generate_key
from margo_supplychain.signing.pkcs11 import TokenInfo
from margo_supplychain.signing.public_files import KeyRecord
from tests.cli.running import PASSPHRASE
from tests.signing.asking import Asked
from tests.softhsm import SoftToken, soft_token

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def token(place: Path) -> Iterator[SoftToken]:
    with soft_token(place, "ci") as found:
        found.make_key("online")
        yield found


def settings(place: Path, text: str) -> None:
    (place / "margo-supplychain.toml").write_text(text)


def opened(pin: Passphrases, *names: str, given: tuple[str, ...] = ()) -> list[str]:
    """Return the key ids that a command would sign with."""
    invocation = Invocation()
    with keyring_of(invocation, pin) as keyring:
        signers = open_signers(keyring, invocation, given=given, settings=names)
        for signer in signers:
            signer.public_key.verify_signature(signer.sign(b"x"), b"x")
        return [signer.public_key.keyid for signer in signers]


def pins(token: SoftToken, secret: str) -> Passphrases:
    return Passphrases.from_options([secret], None, pins=[f"ci={token.pin_file}"])


def test_files_and_tokens_by_settings(
    place: Path, token: SoftToken, secret: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = generate_key("a.key", pin=Asked(PASSPHRASE)).key.keyid
    settings(
        place,
        f'release-key = ["a.key", "a.pub"]\nonline-key = "{token.uri("online")}"\n',
    )
    found = opened(pins(token, secret), "release-key", "online-key")
    assert found[0] == made
    assert len(found) == 2
    assert capsys.readouterr().err == (
        "note: release-key a.pub is not on this machine: left out\n"
    )
    assert opened(pins(token, secret), "release-key", given=("a.key", "a.key")) == [
        made
    ]


def test_what_is_not_here_is_left_out_and_said(
    place: Path,
    token: SoftToken,
    secret: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings(
        place,
        'root-key = "pkcs11:token=root-a;object=root"\ntargets-key = "absent.key"\n',
    )
    monkeypatch.setenv(
        "MARGO_SUPPLYCHAIN_ONLINE_KEY", "pkcs11:token=ci;label=x?pin-value=4242"
    )
    names = ("root-key", "targets-key", "online-key")
    assert opened(pins(token, secret), *names) == []
    text = capsys.readouterr().err
    assert "note: root-key pkcs11:token=root-a;object=root is not on this mach" in text
    assert "note: targets-key absent.key is not on this machine: left out\n" in text
    assert "online-key pkcs11:token=ci;…?… can't be used (the PKCS#11 URI" in text
    assert "4242" not in text
    monkeypatch.delenv("MARGO_SUPPLYCHAIN_PKCS11_MODULE")
    assert opened(pins(token, secret), "root-key") == []
    assert "can't be used (no PKCS#11 module is named" in capsys.readouterr().err
    with pytest.raises(click.UsageError, match="--key is missing, and neither MARGO"):
        opened(pins(token, secret), "publisher-key")


def test_a_setting_that_is_no_key_is_an_error(place: Path, secret: str) -> None:
    settings(place, 'release-key = "margo-supplychain.toml"\n')
    with pytest.raises(FormatError, match="is not a public key"):
        opened(Passphrases.from_options([secret], None), "release-key")


def test_keys_that_a_role_shall_have(
    place: Path, token: SoftToken, secret: str
) -> None:
    made = generate_key("a.key", pin=Asked(PASSPHRASE))
    their = Path("their.pub")
    their.write_bytes(
        KeyRecord(key=made.key, uri="pkcs11:token=theirs;object=a").to_bytes()
    )
    invocation = Invocation()
    with keyring_of(invocation, pins(token, secret)) as keyring:
        record, signer = open_key(keyring, "a.key")
        assert record == made
        assert signer is not None
        for uri in ("a.pub", "their.pub"):
            record, signer = open_key(keyring, uri)
            assert record.key == made.key
            assert signer is None
        record, signer = open_key(keyring, token.uri("online"))
        assert signer is not None
        assert record.custody is not None
        assert signer.public_key == record.key
        assert read_public(keyring, token.uri("online")) == record
        with pytest.raises(SignerError, match="no token matches"):
            read_public(keyring, "pkcs11:token=theirs;object=a")


def test_how_settings_name_keys() -> None:
    assert as_setting("file:../a.key", lambda path: f"<{path}>") == "<../a.key>"
    assert as_setting("hv:release/3", lambda path: f"<{path}>") == "hv:release/3"
    with pytest.raises(SignerError, match="is of the unknown kind"):
        as_setting("hsm:2", str)


def test_the_state_of_a_token_is_said() -> None:
    token = TokenInfo(
        module=Path("/usr/lib/module.so"),
        label="a",
        serial="1",
        manufacturer="ACME",
        model="",
        uri="pkcs11:token=a;serial=1",
        state="the next wrong PIN locks it",
        logged_in=False,
        keys=(),
    )
    assert _lines(token) == [
        "pkcs11:token=a;serial=1",
        "  ACME, shown by /usr/lib/module.so",
        "  the next wrong PIN locks it",
        "  private keys show after a login: --login",
    ]
