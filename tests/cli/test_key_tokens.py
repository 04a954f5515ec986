"""Keys in tokens by the command line: made, listed, shown, recorded; SoftHSM."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import StorageError
from margo_supplychain.signing.public_files import KeyRecord
from margo_supplychain.storage import durable
from tests.cli.running import Terminal, run, run_json, spawn
from tests.softhsm import SoftToken, soft_token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def token(place: Path) -> Iterator[SoftToken]:
    with soft_token(place, "root-a") as found:
        yield found


def generate(token: SoftToken, name: str, *options: str) -> KeyRecord:
    out = f"{name}.pub"
    ran = run(
        *("key", "generate", "--uri", token.uri(name), "--out", out),
        *("--pin-file", str(token.pin_file), *options),
    )
    assert ran.status == 0, ran.err
    path = token.directory.parents[1] / out
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    return KeyRecord.parse(path.read_bytes(), what=out)


def test_made_inside_shown_and_recorded(place: Path, token: SoftToken) -> None:
    ran = run(
        *("key", "generate", "--uri", token.uri("root"), "--out", "root-a.pub"),
        *("--pin-file", f"root-a={token.pin_file}"),
    )
    record = KeyRecord.parse((place / "root-a.pub").read_bytes(), what="root-a.pub")
    short, uri = record.key.keyid[:12], record.uri
    assert ran.out == (
        f"made {uri} (ecdsa P-256, never-extractable)\n"
        f"  key id  {record.key.keyid}\n"
        "wrote root-a.pub: give it as KEY, and to whoever needs the public key\n"
    )
    shown = (
        f"key {short}\n"
        "  type     ecdsa P-256, scheme ecdsa-sha2-nistp256\n"
        f"  id       {record.key.keyid}\n"
    )
    # No PIN is needed to look at a public key.
    ran = run("key", "show", token.uri("root"))
    assert ran.out == f"{shown}  private  {uri}\n"
    ran = run("key", "show", "root-a.pub")
    assert ran.out == (
        f"{shown}  private  {uri}\n"
        "  custody  never-extractable, recorded in root-a.pub: its token was not "
        "asked\n"
    )
    ran = run("key", "show", "root-a.pub", "--pin-file", str(token.pin_file))
    assert f"  private  {uri}, opens\n" in ran.out
    ran = run(
        *("key", "import", token.uri("root"), "--out", "again.pub"),
        *("--pin-file", str(token.pin_file)),
    )
    assert ran.out == (
        f"wrote again.pub (ecdsa P-256); key id {short}\n"
        f"  private  {uri}, never-extractable\n"
    )
    again = (place / "again.pub").read_bytes()
    assert again == (place / "root-a.pub").read_bytes()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--scheme", "ecdsa-sha2-nistp384"], "ecdsa P-384"),
        (["--scheme", "ed25519"], "ed25519"),
        (["--scheme", "rsassa-pss-sha256"], "rsa 3072"),
        (["--scheme", "rsassa-pss-sha256", "--bits", "4096"], "rsa 4096"),
    ],
)
def test_kinds(place: Path, token: SoftToken, options: list[str], text: str) -> None:
    generate(token, "key", *options)
    document = run_json("key", "key", "show", "key.pub")
    assert document["result"]["custody"] == "never-extractable"
    assert document["result"]["privateFile"] is None
    assert document["result"]["publicFile"] == "key.pub"
    assert document["result"]["privateUri"].startswith("pkcs11:token=root-a;object=key")
    assert f"  type     {text}, scheme " in run("key", "show", "key.pub").out


def test_tokens_and_their_keys(place: Path, token: SoftToken) -> None:
    ran = run("key", "tokens")
    assert ran.out.splitlines() == [
        f"pkcs11:token=root-a;serial={token.serial}",
        f"  SoftHSM project SoftHSM v2, shown by {token.module}",
        "  private keys show after a login: --login",
    ]
    record = generate(token, "root")
    token.make_key("weak", id=b"\x07", extractable=True)
    row = f"  {record.uri}  {record.key.keyid[:12]}  ecdsa P-256"
    assert f"{row}  public half\n" in run("key", "tokens").out
    document = run_json(
        *("key-tokens", "key", "tokens", token.uri()),
        *("--pin-file", str(token.pin_file)),
    )
    (found,) = document["result"]["tokens"]
    assert found["loggedIn"]
    assert {each["uri"]: each["custody"] for each in found["keys"]} == {
        record.uri: "never-extractable",
        "pkcs11:token=root-a;object=weak;id=%07": "extractable",
    }
    with soft_token(place, "root-b"):
        uris = {
            each["label"]
            for each in run_json("key-tokens", "key", "tokens")["result"]["tokens"]
        }
        assert uris == {"root-a", "root-b"}
        ran = run("key", "tokens", "pkcs11:token=root-b")
        assert "root-a" not in ran.out
        # One PIN is of one token: which one is not guessed at the cost of tries.
        ran = run("key", "tokens", "--pin-file", str(token.pin_file))
        assert ran.status == 2
        assert "2 tokens are there, and a PIN is of one of them" in ran.err
        named = f"root-a={token.pin_file}"
        ran = run("key", "tokens", token.uri(), "--pin-file", named)
        assert "never-extractable" in ran.out
    assert run("key", "tokens", "pkcs11:token=none").out == "no token is there\n"


def test_an_unusable_key_is_listed_with_the_reason(
    place: Path, token: SoftToken
) -> None:
    token.make_key("large", scheme="ecdsa-sha2-nistp521")
    document = run_json("key-tokens", "key", "tokens")
    (key,) = document["result"]["tokens"][0]["keys"]
    assert key["keyId"] is None
    assert "another curve than P-256 and P-384" in key["problem"]


def test_what_is_there_is_kept_without_force(place: Path, token: SoftToken) -> None:
    before = generate(token, "root")
    key = f"key object=root;id={before.uri[-24:] if before.uri else ''}"
    key += f" (ecdsa P-256, key id {before.key.keyid[:12]})"
    pins = ("--pin-file", str(token.pin_file))
    make = ("key", "generate", "--uri", token.uri("root"), *pins)
    lost = f"{key} is lost, and nothing brings it back"
    # The token is asked first: whoever follows the hint knows all that goes.
    ran = run(*make, "--out", "root.pub")
    assert ran.status == 6
    assert ran.err == (
        f"error: the token has {key} already, and root.pub exists [signer]\n"
        f"hint: choose another object=. With --force {lost}; root.pub is overwritten\n"
    )
    ran = run(*make, "--out", "other.pub")
    assert ran.status == 6
    assert ran.err.endswith(f"hint: choose another object=. With --force {lost}\n")
    assert not (place / "other.pub").exists()
    other = ("key", "generate", "--uri", token.uri("other"), *pins)
    ran = run(*other, "--out", "root.pub")
    assert ran.status == 2  # before a key is made that nobody would know of
    assert ran.err.startswith("error: root.pub exists [key-format]\n")
    again = KeyRecord.parse((place / "root.pub").read_bytes(), what="root.pub")
    assert again == before
    assert len(run("key", "tokens", token.uri(), *pins).out.splitlines()) == 3


def test_a_key_in_a_token_is_not_lost_silently(place: Path, token: SoftToken) -> None:
    before = generate(token, "root")
    pins = ("--pin-file", str(token.pin_file))
    make = ("key", "generate", "--uri", token.uri("root"), *pins, "--out", "root.pub")
    ran = spawn(*make, "--force", cwd=place, env=token.environment)
    assert ran.returncode == 2
    assert b"is lost, and nothing brings it back; root.pub is overwr" in ran.stderr
    assert b"error: there is no terminal to ask for confirmation: give" in ran.stderr
    env = {**token.environment, "NO_COLOR": "1"}
    terminal = Terminal(*make, "--force", cwd=place, **env)
    question = "make a new key in its place? [y/N] "
    assert terminal.answer([(question, "no\n")]) == 2
    ran = spawn("key", "show", "root.pub", *pins, cwd=place, env=token.environment)
    assert f"id       {before.key.keyid}\n".encode() in ran.stdout
    assert b", opens\n" in ran.stdout
    terminal = Terminal(*make, "--force", cwd=place, **env)
    assert terminal.answer([(question, "y\n")]) == 0
    after = generate(token, "root", "--force", "--yes")
    assert after.key.keyid != before.key.keyid
    assert run("key", "show", "root.pub", *pins).status == 0


def test_a_key_whose_record_can_not_be_written(
    place: Path, token: SoftToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise StorageError("disk full", path=str(path))

    monkeypatch.setattr(durable, "write_new_file", full)
    ran = run(
        *("key", "generate", "--uri", token.uri("root"), "--out", "root.pub"),
        *("--pin-file", str(token.pin_file)),
    )
    assert ran.status == 4
    assert "hint: the key was made: margo-supplychain key import 'pkcs11:tok" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either PATH or --uri"),
        (["a.key", "--uri", "pkcs11:token=a"], "give either PATH or --uri"),
        (["pkcs11:token=a;object=b"], "is not a file: give it by --uri"),
        (["--uri", "a.key"], "a.key is a key in a file: give it as PATH"),
        (["a.key", "--out", "b.pub"], "--out goes with --uri"),
        (["--uri", "pkcs11:token=a;object=b", "--out", "b"], "does not end in .pub"),
    ],
)
def test_contradictions(place: Path, arguments: list[str], message: str) -> None:
    ran = run("key", "generate", *arguments)
    assert ran.status == 2
    assert message in ran.err


def test_bits_are_of_rsa(place: Path, secret: str) -> None:
    make = ("key", "generate", "a.key", "--passphrase-file", secret)
    ran = run(*make, "--bits", "4096")
    assert ran.status == 6
    assert "cannot make a key of 4096 bits for ecdsa-sha2-nistp256 [signer]" in ran.err
    assert not (place / "a.key").exists()


def test_the_module_by_setting_and_environment(
    place: Path, token: SoftToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MARGO_SUPPLYCHAIN_PKCS11_MODULE")
    ran = run("key", "tokens")
    assert ran.status == 2
    assert "and neither MARGO_SUPPLYCHAIN_PKCS11_MODULE nor a margo-" in ran.err
    ran = run("key", "show", token.uri("root"))
    assert ran.status == 6
    assert "no PKCS#11 module is named" in ran.err
    (place / "margo-supplychain.toml").write_text(f'pkcs11-module = "{token.module}"\n')
    assert run("key", "tokens").status == 0
    (place / "below").mkdir()
    monkeypatch.chdir(place / "below")
    assert run("key", "tokens").status == 0


def test_the_pin_is_asked_for_once_and_not_shown(place: Path, token: SoftToken) -> None:
    env = {**token.environment, "NO_COLOR": "1"}
    terminal = Terminal("key", "tokens", "--login", cwd=place, **env)
    question = f"PIN for token root-a ({token.serial}): "
    assert terminal.answer([(question, token.pin + "\n")]) == 0
    assert token.pin not in terminal.text
    assert "  no keys" in terminal.text
    terminal = Terminal("key", "tokens", "--login", cwd=place, **env)
    assert terminal.answer([(question, "654321\n")]) == 6
    assert "CKR_PIN_INCORRECT" in terminal.text


def test_no_terminal_no_pin(place: Path, token: SoftToken) -> None:
    ran = spawn(
        *("key", "tokens", "--login"),
        cwd=place,
        stdin=f"{token.pin}\n".encode(),
        env={**token.environment, "MARGO_SUPPLYCHAIN_PIN": token.pin},
    )
    assert ran.returncode == 6
    assert ran.stderr.decode() == (
        f"error: no terminal to ask for the PIN of token root-a ({token.serial}) "
        "[signer]\n"
        "hint: give it by --pin-file FILE or --pin-file TOKEN=FILE\n"
    )


def test_import_of_a_file_leaves_out_where_the_key_is(
    place: Path, token: SoftToken
) -> None:
    record = generate(token, "root")
    assert run("key", "import", "root.pub", "--out", "their.pub").status == 0
    found = KeyRecord.parse((place / "their.pub").read_bytes(), what="their.pub")
    assert found == KeyRecord(key=record.key, custody=record.custody)
