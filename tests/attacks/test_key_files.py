"""T-143 to T-145: files that hold keys, and services that answer for them.

Mallory hands over a private key's file, a `.pub` file, or the answers of a key service;
or an honest person's own names collide. Nobody waits for hours, loses the public half
of another key, believes a claim, or shows a credential to whoever reads the log.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import pytest
import securesystemslib.signer
from cryptography.hazmat.primitives.asymmetric import ec

from margo_supplychain.errors import SignerError, StorageError
from margo_supplychain.signing import kms
from margo_supplychain.signing.encryption import MAX_ROUNDS
from margo_supplychain.signing.keyring import generate_key, open_keyring
from margo_supplychain.signing.keys import key_of, parse_public_key
from margo_supplychain.signing.public_files import Custody, KeyRecord
from margo_supplychain.storage import durable
from tests.cli.running import PASSPHRASE, run, run_json
from tests.signing.asking import Asked
from tests.signing.pem import pbkdf2, scrypt
from tests.signing.services import AZURE, AZURE_FULL, Cloud
from tests.softhsm import SoftToken, soft_token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INSIDE: Final = Custody(sensitive=True, never_extractable=True, local=True)
SECRET: Final = "hvs.CAESIJ"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in, with a key in a file and its passphrase."""
    for name in list(os.environ):
        if name.startswith("MARGO_SUPPLYCHAIN_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    generate_key("ci.key", pin=Asked(PASSPHRASE))
    for name, line in (("words", PASSPHRASE), ("words.new", f"{PASSPHRASE} staple")):
        (tmp_path / name).write_text(f"{line}\n")
        (tmp_path / name).chmod(0o600)
    return tmp_path


@pytest.fixture
def token(place: Path) -> Iterator[SoftToken]:
    with soft_token(place, "root-a") as found:
        yield found


def id_of(path: Path) -> str:
    return parse_public_key(path.read_bytes(), what=str(path)).keyid


# --- T-143: key services --------------------------------------------------------------


def test_service_that_makes_the_log_show_a_credential(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The library's own text holds the header that it could not send, or the token
    that a hostile service sent back.
    """
    monkeypatch.setenv("VAULT_TOKEN", SECRET)
    cloud = Cloud(AZURE_FULL)
    monkeypatch.setattr(securesystemslib.signer, "AzureSigner", cloud)
    assert kms.look(AZURE).uri == AZURE_FULL

    def echoes(*_: str) -> Any:
        raise ValueError(f"invalid header value b'{SECRET}\\n'")

    monkeypatch.setattr(cloud, "import_", echoes)
    for form in ("text", "json"):
        ran = run("-v", "--format", form, "key", "show", AZURE)
        assert ran.status == 6
        assert "ValueError" in ran.out + ran.err
        assert SECRET not in ran.out + ran.err
    monkeypatch.setenv("VAULT_TOKEN", f"{SECRET}\n")
    ran = run("-v", "key", "show", "hv:release")
    assert ran.status == 6
    assert "VAULT_TOKEN has white space around it" in ran.err
    assert SECRET not in ran.out + ran.err


def test_service_that_answers_with_a_key_elsewhere(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it answers is what would be recorded, and opened with our credentials."""
    monkeypatch.setattr(securesystemslib.signer, "AzureSigner", Cloud(AZURE_FULL))
    assert run("key", "import", AZURE, "--out", "release.pub").status == 0
    honest = (place / "release.pub").read_bytes()
    for full in (
        "azurekms://mallory.vault.azure.net/keys/release/1",
        "azurekms://mallory.example/keys/release/1",
        f"{AZURE}/1\nuri: hv:release/1",
    ):
        cloud = Cloud(full)
        monkeypatch.setattr(securesystemslib.signer, "AzureSigner", cloud)
        ran = run("key", "import", AZURE, "--out", "release.pub", "--force")
        assert ran.status == 6
        assert "Azure Key Vault answers with another key than" in ran.err
        assert (place / "release.pub").read_bytes() == honest
        with open_keyring(pin=Asked()) as keyring, pytest.raises(SignerError):
            keyring.open(AZURE)
        assert cloud.calls == [("acme", "release")] * 2


# --- T-144: files of private keys -----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("rounds", "demands 2147483647 rounds, more than"),
        ("memory", "demands scrypt with N=1073741824, r=8, p=1, more than"),
        ("cut", "is damaged"),
    ],
)
def test_key_file_that_takes_hours_to_open(place: Path, name: str, says: str) -> None:
    """It says itself how much work its passphrase is; nobody is even asked for it."""
    path = place / "ci.key"
    with open_keyring(pin=Asked(PASSPHRASE)) as keyring:
        keyring.open("ci.key").sign(b"payload")
    good = path.read_bytes()
    made = {
        "rounds": pbkdf2(2**31 - 1),
        "memory": scrypt(2**30, 8, 1),
        "cut": good.replace(b"\nM", b"\nT", 1),
    }
    path.write_bytes(made[name])
    pin = Asked(PASSPHRASE)
    with open_keyring(pin=pin) as keyring:
        with pytest.raises(SignerError, match=says):
            keyring.open("ci.key")
        assert pin.tokens == []
        path.write_bytes(pbkdf2(MAX_ROUNDS + 1))
        with pytest.raises(SignerError, match=r"more than 10000000$"):
            keyring.open("ci.key")
        path.write_bytes(good)
        keyring.open("ci.key").sign(b"payload")


def test_key_that_takes_the_public_half_of_another(place: Path) -> None:
    """`ci.key` and `ci.pem` would both have `ci.pub`; whoever delegates to that would
    delegate to the wrong one of them.
    """
    ours = id_of(place / "ci.pub")
    before = {each.name: each.read_bytes() for each in place.iterdir()}
    generate = ("key", "generate", "--passphrase-file", "words")
    for name in ("ci.pem", "ci"):
        for force in ((), ("--force",)):
            ran = run(*generate, name, *force)
            assert ran.status == 6
            assert "ci.key is there: it and" in ran.err
    (place / "ci.key").rename(place / "kept")
    ran = run(*generate, "ci.pem", "--force")
    assert "ci.pub exists, and ci.pem does not: it is another key's" in ran.err
    (place / "kept").rename(place / "ci.key")
    record = KeyRecord.parse(before["ci.pub"], what="ci.pub")
    (place / "ci.pub").write_bytes(
        KeyRecord(key=record.key, uri="hv:release/1").to_bytes()
    )
    ran = run(*generate, "ci.key", "--force")
    assert "ci.pub is the public half of hv:release/1, not of ci.key" in ran.err
    (place / "ci.pub").write_bytes(before["ci.pub"])
    assert {each.name: each.read_bytes() for each in place.iterdir()} == before
    # Its own is what --force is for.
    assert run(*generate, "ci.key", "--force").status == 0
    assert id_of(place / "ci.pub") != ours


def test_power_fails_while_a_key_is_replaced(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never does an old public half lie beside a new private one."""
    public = place / "ci.pub"
    old = id_of(public)
    real = durable.write_file
    for kept in (0, 1):
        written: list[Path] = []

        def fails(
            where: Path,
            data: bytes,
            *,
            mode: int = 0o644,
            written: list[Path] = written,
            kept: int = kept,
        ) -> None:
            if len(written) == kept:
                raise StorageError("power fails", path=str(where))
            written.append(where)
            real(where, data, mode=mode)

        with monkeypatch.context() as patched:
            patched.setattr(durable, "write_file", fails)
            with pytest.raises(StorageError, match="power fails"):
                generate_key("ci.key", pin=Asked(PASSPHRASE), replace=True)
        assert len(written) == kept
        with open_keyring(pin=Asked(PASSPHRASE)) as keyring:
            shown = keyring.look("ci.key").key
            signature = keyring.open("ci.key").sign(b"payload")
            shown.verify_signature(signature, b"payload")
            assert (shown.keyid == old) == (kept == 0)
        assert not public.exists()


# --- T-145: what only a file says -----------------------------------------------------


def test_custody_that_only_a_file_claims(place: Path, token: SoftToken) -> None:
    """Her key lies in a file of hers; her `.pub` file says that it never left a token,
    and an honest person is shown that as if somebody had asked.
    """
    make = ("key", "generate", "--uri", token.uri("root"), "--out", "root.pub")
    assert run(*make, "--pin-file", str(token.pin_file)).status == 0
    asked = run_json(
        "key", "key", "show", "root.pub", "--pin-file", str(token.pin_file)
    )
    assert asked["result"]["custodySaidBy"] == "token"
    hers = key_of(ec.generate_private_key(ec.SECP256R1()).public_key(), what="key")
    uri = "pkcs11:token=hers;object=root"
    for name, record in (
        ("with.pub", KeyRecord(key=hers, uri=uri, custody=INSIDE)),
        ("without.pub", KeyRecord(key=hers, custody=INSIDE)),
    ):
        (place / name).write_bytes(record.to_bytes())
        shown = run("key", "show", name)
        assert (
            f"  custody  never-extractable, recorded in {name}: its token was not"
            in shown.out
        )
        shown = run("key", "import", name, "--out", f"in-{name}")
        assert (
            "  custody  never-extractable, as it was recorded: no token was asked\n"
            in shown.out
        )
        for command in (
            ("show", name),
            ("import", name, "--out", f"in-{name}", "--force"),
        ):
            found = run_json("key", "key", *command)["result"]
            assert found["custody"] == "never-extractable"
            assert found["custodySaidBy"] == "file"


def test_key_that_is_made_and_can_not_be_recorded(
    place: Path, token: SoftToken
) -> None:
    """Nothing is made in a token before it is sure where its public key goes."""
    (place / "link.pub").symlink_to(place / "nowhere" / "root.pub")
    (place / "place.pub").mkdir()
    make = ("key", "generate", "--pin-file", str(token.pin_file))
    for out, says in (
        ("nodir/root.pub", "nodir is not a directory"),
        ("link.pub", "link.pub is a directory, or a link to nothing"),
        ("place.pub", "place.pub is a directory, or a link to nothing"),
    ):
        ran = run(*make, "--uri", token.uri("root"), "--out", out)
        assert ran.status == 4
        assert says in ran.err
    listed = run("key", "tokens", token.uri(), "--pin-file", str(token.pin_file))
    assert "  no keys" in listed.out
    ran = run(*make, "--uri", token.uri("root"), "--out", "root.pub")
    assert ran.status == 0
