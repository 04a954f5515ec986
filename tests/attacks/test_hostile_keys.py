"""Mallory hands over key files, and writes the tree in which an honest person works:
whoever signs there must run no code of hers, ask no host of hers, lose no PIN, and take
no key for better kept than it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from margo_supplychain.cli.passphrases import Passphrases
from margo_supplychain.cli.settings import FILE_NAME, Settings
from margo_supplychain.errors import FormatError, KeyFormatError, SignerError
from margo_supplychain.signing.keyring import open_keyring
from margo_supplychain.signing.keys import key_of, public_pem
from margo_supplychain.signing.pkcs11 import module as pkcs11_module
from margo_supplychain.signing.public_files import Custody, KeyRecord
from tests.signing.asking import Asked
from tests.softhsm import SoftToken, soft_token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PIN = "123456"
INSIDE = Custody(sensitive=True, never_extractable=True, local=True)


@pytest.fixture
def token(tmp_path: Path) -> Iterator[SoftToken]:
    with soft_token(tmp_path, "root-a", pin=PIN) as found:
        yield found


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What is loaded as a PKCS#11 module from now on."""
    found: list[Path] = []
    real = pkcs11_module.load_module

    def note(path: Path) -> pkcs11_module.Module:
        found.append(path)
        return real(path)

    monkeypatch.setattr("margo_supplychain.signing.pkcs11.tokens.load_module", note)
    return found


def mallory() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


# --- T-104: a `.pub` file of somebody else ------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "module-path={place}/evil.so",
        "pin-source=file:{place}/pin",
        "pin-value=123456",
        "module%2dpath={place}/evil.so",
        "",
    ],
)
def test_public_key_that_names_code_or_a_pin(
    tmp_path: Path, token: SoftToken, loaded: list[Path], query: str
) -> None:
    """Her `.pub` file is fine but for what stands behind the `?`."""
    token.make_key("root")
    pin = Asked(PIN)
    with open_keyring(pin=pin, pkcs11_module=token.module) as keyring:
        good = keyring.look(token.uri("root"), custody=False)
        path = tmp_path / "her.pub"
        asked = query.format(place=tmp_path)
        path.write_bytes(f"uri: {good.uri}?{asked}\n".encode() + public_pem(good.key))
        loaded.clear()
        for use in (keyring.look, keyring.open, keyring.has_private):
            with pytest.raises(KeyFormatError, match="expected neither module nor PIN"):
                use(str(path))
        assert loaded == []
        assert pin.tokens == []
        path.write_bytes(good.to_bytes())
        keyring.open(str(path)).sign(b"payload")


@pytest.mark.parametrize(
    "uri",
    [
        "azurekms://evil.example/keys/root",
        "azurekms://acme.vault.azure.net@evil.example/keys/root",
        "azurekms://acme.vault.azure.net.evil.example/keys/root",
        "hv:../../sys/seal",
        "awskms://evil.example/root",
        "https://evil.example/root",
        "file:/srv/alice/offline.key",
    ],
)
def test_public_key_that_leads_credentials_elsewhere(tmp_path: Path, uri: str) -> None:
    """No library is even asked: the form of the URI names no key of that service."""
    path = tmp_path / "her.pub"
    key = key_of(mallory().public_key(), what="key")
    path.write_bytes(f"uri: {uri}\n".encode() + public_pem(key))
    with open_keyring(pin=Asked()) as keyring:
        with pytest.raises((KeyFormatError, SignerError)) as caught:
            keyring.open(str(path))
        assert "install" not in str(caught.value.hint)
        path.write_bytes(public_pem(key))
        assert keyring.look(str(path)).key == key


def test_public_key_that_claims_to_be_kept_better(
    tmp_path: Path, token: SoftToken
) -> None:
    """The key was made outside and brought in; its record says it never was out."""
    private = mallory()
    token.import_key(
        "root",
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
    path = tmp_path / "root.pub"
    with open_keyring(pin=Asked(PIN), pkcs11_module=token.module) as keyring:
        honest = keyring.look(token.uri("root"))
        assert honest.custody is not None
        assert honest.custody.text == "imported"
        path.write_bytes(
            KeyRecord(key=honest.key, uri=honest.uri, custody=INSIDE).to_bytes()
        )
        with pytest.raises(SignerError, match="says imported") as caught:
            keyring.open(str(path))
        assert str(caught.value).startswith(f"{path} records the custody never-extr")
        path.write_bytes(honest.to_bytes())
        keyring.open(str(path)).sign(b"payload")


def test_public_key_of_hers_behind_the_name_of_mine(
    tmp_path: Path, token: SoftToken
) -> None:
    """Who takes her file for a key of a role must not sign with another; no PIN yet."""
    token.make_key("root")
    pin = Asked(PIN)
    hers = key_of(mallory().public_key(), what="key")
    path = tmp_path / "her.pub"
    with open_keyring(pin=pin, pkcs11_module=token.module) as keyring:
        mine = keyring.look(token.uri("root"), custody=False)
        path.write_bytes(KeyRecord(key=hers, uri=mine.uri).to_bytes())
        with pytest.raises(SignerError, match=f"expected {hers.keyid[:12]}"):
            keyring.open(str(path))
        assert pin.tokens == []
        keyring.open(token.uri("root"), expect=mine.key).sign(b"payload")


# --- T-105: the tree that somebody works in -------------------------------------------


@pytest.mark.parametrize(
    "setting",
    [
        'pkcs11-module = "{place}/evil.so"',
        'pkcs11-module = "evil.so"',
        'pkcs11-module = "/usr/../{place}/evil.so"',
        'pkcs11-module = "{place}/link.so"',
        'online-key = "pkcs11:token=a;object=b?module-path={place}/evil.so"',
        'root-key = ["a.key", "PKCS11:token=a?module-path={place}/evil.so"]',
    ],
)
def test_tree_that_names_its_own_code(
    tmp_path: Path, loaded: list[Path], setting: str
) -> None:
    """The file is owned by whoever checked it out, and so is the library beside it."""
    (tmp_path / "evil.so").write_bytes(b"\x7fELF")
    (tmp_path / "link.so").symlink_to(tmp_path / "evil.so")
    path = tmp_path / FILE_NAME
    path.write_text(setting.format(place=tmp_path) + "\n")
    settings = Settings(tmp_path, {})
    with pytest.raises(FormatError, match="names the PKCS#11 module"):
        _ = settings.pkcs11_module, settings.find("online-key")
    assert loaded == []
    # Who means it says so where no file of the tree can: in the environment.
    named = {"MARGO_SUPPLYCHAIN_PKCS11_MODULE": "/srv/hsm/module.so"}
    path.write_text('online-key = "pkcs11:token=a;object=b"\n')
    settings = Settings(tmp_path, named)
    assert str(settings.pkcs11_module) == "/srv/hsm/module.so"
    assert settings.find("online-key") is not None


def test_tree_that_wants_a_passphrase_sent_to_a_token(
    tmp_path: Path, token: SoftToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its settings name a token in place of the file that the passphrase is for: the
    token would learn it, and count a wrong PIN.
    """
    token.make_key("root")
    for name in ("pass", "pin"):
        (tmp_path / name).write_text(PIN)
        (tmp_path / name).chmod(0o600)

    def no_terminal(*_: object) -> int:
        raise OSError("none")

    for files, pins, works in (("pass", None, False), ("pass", "pin", True)):
        handler = Passphrases.from_options(
            [str(tmp_path / files)],
            None,
            pins=[] if pins is None else [f"root-a={tmp_path / pins}"],
        )
        with open_keyring(pin=handler, pkcs11_module=token.module) as keyring:
            if works:
                keyring.open(token.uri("root")).sign(b"payload")
                continue
            with monkeypatch.context() as patched:
                patched.setattr(
                    "margo_supplychain.cli.secret_input.os.open", no_terminal
                )
                with pytest.raises(SignerError, match="no terminal to ask for the PIN"):
                    keyring.open(token.uri("root"))


def test_tree_that_uses_up_the_tries_of_a_token(tmp_path: Path) -> None:
    """A script that runs again and again must not lock the token: before the last try
    only a person is asked.
    """
    file = tmp_path / "pin"
    file.write_text("654321")
    file.chmod(0o600)
    handler = Passphrases.from_options([], None, pins=[str(file)])
    assert handler(token="pkcs11:token=root-a", tries_left=2) == "654321"
    with pytest.raises(SignerError, match="root-a has one try left, and the PIN"):
        handler(token="pkcs11:token=root-a", tries_left=1)
