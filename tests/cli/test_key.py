"""`key generate`, `key show`, `key import`, and where passphrases come from."""

from __future__ import annotations

import io
import os
import stat
import sys
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.cli import key_generate
from margo_supplychain.signing import files, keys
from tests.cli.running import PASSPHRASE, Ran, Terminal, run, run_json, spawn

if TYPE_CHECKING:
    from pathlib import Path


def make(name: str, secret: str, *options: str) -> Ran:
    ran = run("key", "generate", name, "--passphrase-file", secret, *options)
    assert ran.status == 0, ran.err
    return ran


def key_id(path: Path) -> str:
    return keys.parse_public_key(path.read_bytes(), what=path.name).keyid


def test_generate_as_printed_in_the_first_hour(place: Path, secret: str) -> None:
    ran = make("offline.key", secret)
    assert ran.out == (
        "wrote offline.key (ecdsa P-256, encrypted, 0600) and offline.pub\n"
        f"  key id  {key_id(place / 'offline.pub')}\n"
        "keep offline.key secret, on the machine that signs with it alone; give away "
        "offline.pub: docs/how-to/keys.md\n"
    )
    assert ran.err == ""
    assert stat.S_IMODE((place / "offline.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((place / "offline.pub").stat().st_mode) == 0o644
    files.open_signer(place / "offline.key", passphrase=PASSPHRASE)


@pytest.mark.parametrize(
    ("scheme", "text"),
    [
        ("ecdsa-sha2-nistp256", "ecdsa P-256"),
        ("ecdsa-sha2-nistp384", "ecdsa P-384"),
        ("ed25519", "ed25519"),
        ("rsassa-pss-sha256", "rsa 3072"),
    ],
)
def test_schemes(place: Path, secret: str, scheme: str, text: str) -> None:
    out = make("a.key", secret, "--scheme", scheme).out
    assert out.startswith(
        f"wrote a.key ({text}, encrypted, 0600) and a.pub\n  key id  "
    )
    document = run_json("key", "key", "show", "a.pub")
    assert document["result"]["scheme"] == scheme
    assert f"  type     {text}, scheme {scheme}\n" in run("key", "show", "a.pub").out


def test_the_offered_schemes_are_those_that_can_be_made() -> None:
    assert key_generate._SCHEMES == keys.SCHEMES


def test_existing_files_are_kept_without_force(place: Path, secret: str) -> None:
    make("a.key", secret)
    before = (place / "a.key").read_bytes()
    ran = run("key", "generate", "a.key", "--passphrase-file", "absent")
    assert ran.status == 6
    assert ran.err.startswith("error: a.key exists [signer]\nhint: ")
    assert "--force" in ran.err
    assert (place / "a.key").read_bytes() == before
    make("a.key", secret, "--force")
    assert (place / "a.key").read_bytes() != before


def test_json_documents_fit_the_schema(place: Path, secret: str) -> None:
    made = run_json("key", "key", "generate", "a.key", "--passphrase-file", secret)
    assert made["result"]["privateFile"] == "a.key"
    assert made["result"]["publicFile"] == "a.pub"
    assert made["result"]["keyId"] == key_id(place / "a.pub")
    assert made["result"]["publicKey"] == (place / "a.pub").read_text()
    shown = run_json("key", "key", "show", "a.key")
    assert shown == made
    shown = run_json("key", "key", "show", "a.pub")
    assert shown["result"]["privateFile"] is None
    taken = run_json("key", "key", "import", "a.pub", "--out", "b.pub")
    assert taken["result"]["publicFile"] == "b.pub"
    run_json("error", "key", "show", "absent")


def test_show_opens_a_private_key_only_if_it_must(place: Path, secret: str) -> None:
    make("a.key", secret)
    identity = key_id(place / "a.pub")
    ran = run("key", "show", "a.key")
    assert ran.out == (
        f"key {identity[:12]}\n"
        "  type     ecdsa P-256, scheme ecdsa-sha2-nistp256\n"
        f"  id       {identity}\n"
        "  private  a.key, not opened: the id is that of a.pub\n"
    )
    ran = run("key", "show", "a.key", "--passphrase-file", secret)
    assert ran.out.endswith("  private  a.key, opens\n")
    (place / "a.pub").unlink()
    ran = run("key", "show", "a.key", "--passphrase-file", secret)
    assert ran.out.startswith(f"key {identity[:12]}\n")
    assert spawn("key", "show", "a.key", cwd=place).returncode == 6


def test_show_finds_a_public_half_of_another_key(place: Path, secret: str) -> None:
    make("a.key", secret)
    make("b.key", secret)
    (place / "b.pub").replace(place / "a.pub")
    ran = run("key", "show", "a.key", "--passphrase-file", secret)
    assert ran.status == 6
    assert "error: a.key is key " in ran.err


@pytest.mark.parametrize("form", ["pem", "der", "tuf"])
def test_import_brings_any_form_into_ours(
    place: Path, secret: str, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    make("a.key", secret)
    pem = (place / "a.pub").read_bytes()
    key = keys.parse_public_key(pem, what="a.pub")
    if form == "der":
        import base64

        data = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
    elif form == "tuf":
        import json

        data = json.dumps(key.to_dict()).encode()
    else:
        data = pem.replace(b"\n", b"\r\n")
    (place / "in").write_bytes(data)
    ran = run("key", "import", "in", "--out", "b.pub")
    assert ran.out == f"wrote b.pub (ecdsa P-256); key id {key.keyid[:12]}\n"
    assert (place / "b.pub").read_bytes() == pem
    stream = io.TextIOWrapper(io.BytesIO(data))
    monkeypatch.setattr(sys, "stdin", stream)
    assert run("key", "import", "-", "--out", "c.pub").status == 0
    assert (place / "c.pub").read_bytes() == pem


def test_import_refuses(
    place: Path, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("a.key", secret)
    make("b.key", secret)
    cases = [
        (
            ["a.key", "--out", "c.pub"],
            2,
            "a.key holds a private key, expected a public",
        ),
        (["a.pub", "--out", "c.key"], 2, "--out c.key does not end in .pub"),
        (["a.pub", "--out", "a.pub"], 2, "--out a.pub is the file that is read"),
        (["a.pub", "--out", "b.pub"], 2, "b.pub exists and holds something else"),
        (["absent", "--out", "c.pub"], 2, "absent: no such file"),
        (["absent", "--out", "b.pub"], 2, "absent: no such file"),
        ([".", "--out", "c.pub"], 4, ". is not a regular file"),
    ]
    for arguments, status, message in cases:
        ran = run("key", "import", *arguments)
        assert (ran.status, ran.out) == (status, "")
        assert ran.err.startswith(f"error: {message}"), ran.err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b" " * 20000)))
    ran = run("key", "import", "-", "--out", "c.pub")
    assert "the standard input has more than 16384 bytes [key-format]" in ran.err
    assert not (place / "c.pub").exists()
    assert run("key", "import", "a.pub", "--out", "b.pub", "--force").status == 0
    assert key_id(place / "b.pub") == key_id(place / "a.pub")


def test_prompts_twice_on_a_terminal_and_shows_nothing(place: Path) -> None:
    terminal = Terminal("key", "generate", "offline.key", cwd=place, NO_COLOR="1")
    status = terminal.answer(
        [("passphrase: ", PASSPHRASE + "\n"), ("repeat: ", PASSPHRASE + "\n")]
    )
    assert status == 0
    assert PASSPHRASE not in terminal.text
    assert terminal.text.splitlines()[:2] == ["passphrase: ", "repeat: "]
    assert f"  key id  {key_id(place / 'offline.pub')}" in terminal.text
    files.open_signer(place / "offline.key", passphrase=PASSPHRASE)


def test_two_different_passphrases_make_no_key(place: Path) -> None:
    terminal = Terminal("key", "generate", "a.key", cwd=place, NO_COLOR="1")
    status = terminal.answer(
        [("passphrase: ", PASSPHRASE + "\n"), ("repeat: ", "something else\n")]
    )
    assert status == 6
    assert "error: the two passphrases differ [signer]" in terminal.text
    assert list(place.iterdir()) == []


def test_prompts_once_to_open(place: Path, secret: str) -> None:
    make("a.key", secret)
    (place / "a.pub").unlink()
    terminal = Terminal("key", "show", "a.key", cwd=place, NO_COLOR="1")
    assert terminal.answer([("passphrase for a.key: ", PASSPHRASE + "\n")]) == 0
    assert "  private  a.key, opens" in terminal.text
    terminal = Terminal("key", "show", "a.key", cwd=place, NO_COLOR="1")
    assert terminal.answer([("passphrase for a.key: ", "wrong\n")]) == 6
    assert "a.key does not open with this passphrase [signer]" in terminal.text
    terminal = Terminal("key", "show", "a.key", cwd=place, NO_COLOR="1")
    assert terminal.answer([("passphrase for a.key: ", "\x04")]) == 6
    assert "no passphrase given for a.key [signer]" in terminal.text


def test_a_key_in_the_prompt_cannot_act_on_the_terminal(
    place: Path, secret: str
) -> None:
    name = "a\x1b[2J.key"
    make(name, secret)
    (place / "a\x1b[2J.pub").unlink()
    terminal = Terminal("key", "show", name, cwd=place, NO_COLOR="1")
    dialogue = [("passphrase for a\\x1b[2J.key: ", PASSPHRASE + "\n")]
    assert terminal.answer(dialogue) == 0


def test_typed_bytes_that_are_no_text(place: Path, secret: str) -> None:
    make("a.key", secret)
    (place / "a.pub").unlink()
    terminal = Terminal("key", "show", "a.key", cwd=place, NO_COLOR="1")
    if "passphrase for a.key: " not in terminal.text:
        terminal.wait_for("passphrase for a.key: ")
    terminal.type_bytes(b"\xff\xfe\n")
    assert terminal.finish() == 6
    assert "Traceback" not in terminal.text
    assert "error: what was typed is not text in the terminal's" in terminal.text


def test_no_terminal_no_prompt(place: Path) -> None:
    """Neither an empty nor a talking standard input is asked for a passphrase."""
    for stdin in (b"", f"{PASSPHRASE}\n{PASSPHRASE}\n".encode()):
        ran = spawn("key", "generate", "a.key", cwd=place, stdin=stdin)
        assert ran.returncode == 6
        assert ran.stdout == b""
        assert ran.stderr == (
            b"error: no terminal to ask for the passphrase of a.key [signer]\n"
            b"hint: give it by --passphrase-file FILE or --passphrase-fd N\n"
        )
    assert list(place.iterdir()) == []


def test_environment_gives_no_passphrase(place: Path) -> None:
    ran = spawn(
        "key",
        "generate",
        "a.key",
        cwd=place,
        env={
            "MARGO_SUPPLYCHAIN_PASSPHRASE": PASSPHRASE,
            "MARGO_SUPPLYCHAIN_PASSPHRASE_FILE": "/dev/null",
        },
    )
    assert ran.returncode == 6


def test_passphrase_from_descriptor_and_standard_input(place: Path) -> None:
    line = f"{PASSPHRASE}\nthe rest".encode()
    for name, *options in (
        ("a.key", "--passphrase-fd", "0"),
        ("b.key", "--passphrase-file", "-"),
    ):
        ran = spawn("key", "generate", name, *options, cwd=place, stdin=line)
        assert ran.returncode == 0, ran.stderr
        files.open_signer(place / name, passphrase=PASSPHRASE)
    reading, writing = os.pipe()
    os.write(writing, line)
    os.close(writing)
    ran = spawn(
        "key",
        "generate",
        "c.key",
        "--passphrase-fd",
        str(reading),
        cwd=place,
        pass_fds=[reading],
    )
    assert ran.returncode == 0
    assert os.read(reading, 100) == b"the rest"
    os.close(reading)


def test_descriptors_that_give_none(place: Path) -> None:
    ran = spawn("key", "generate", "a.key", "--passphrase-fd", "99", cwd=place)
    assert ran.returncode == 6
    assert (
        b"cannot read the passphrase from descriptor 99: bad file descriptor"
        in ran.stderr
    )
    ran = spawn("key", "generate", "a.key", "--passphrase-fd", str(2**31), cwd=place)
    assert ran.returncode == 6
    assert b"from descriptor 2147483648: no descriptor [signer]" in ran.stderr
    ran = spawn("key", "generate", "a.key", "--passphrase-fd", "0", cwd=place)
    assert b"the first line of descriptor 0 is empty [signer]" in ran.stderr
    terminal = Terminal(
        "key", "generate", "a.key", "--passphrase-fd", "0", cwd=place, NO_COLOR="1"
    )
    assert terminal.finish() == 6
    assert "descriptor 0 is a terminal, which shows what is typed" in terminal.text


@pytest.mark.parametrize(
    ("data", "mode", "message"),
    [
        (b"", 0o600, "the first line of passphrase file pw is empty"),
        (b"\nsecret", 0o600, "the first line of passphrase file pw is empty"),
        (
            b"\xff\xfe secret words",
            0o600,
            "the first line of passphrase file pw is not",
        ),
        (b"x" * 5000, 0o600, "passphrase file pw has more than 4096 bytes"),
        (b"x" * 4096, 0o600, "the first line of passphrase file pw is not a passphra"),
        (b"short", 0o600, "the passphrase has 5 characters, expected at least 12"),
        (b"correct horse", 0o640, "passphrase file pw may be used by others than its"),
    ],
)
def test_bad_passphrase_files(
    place: Path, data: bytes, mode: int, message: str
) -> None:
    (place / "pw").write_bytes(data)
    (place / "pw").chmod(mode)
    ran = run("key", "generate", "a.key", "--passphrase-file", "pw")
    assert ran.status == 6
    assert ran.err.startswith(f"error: {message}"), ran.err
    assert not (place / "a.key").exists()


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\nanother line\n"])
def test_first_line_is_the_passphrase(place: Path, ending: str) -> None:
    (place / "pw").write_bytes((PASSPHRASE + ending).encode())
    (place / "pw").chmod(0o600)
    make("a.key", "pw")
    files.open_signer(place / "a.key", passphrase=PASSPHRASE)


def test_each_key_can_have_its_own_passphrase_file(place: Path, secret: str) -> None:
    other = place / "with=sign"
    other.write_text("another passphrase")
    other.chmod(0o600)
    make("a.key", f"./a.key={secret}")
    files.open_signer(place / "a.key", passphrase=PASSPHRASE)
    os.link(other, place / "other")
    run_options = ["--passphrase-file", f"file:a.key={secret}"]
    ran = run("key", "generate", "b.key", *run_options, "--passphrase-file", "other")
    assert ran.status == 0
    files.open_signer(place / "b.key", passphrase="another passphrase")
    ran = run("key", "generate", "c.key", "--passphrase-file", "=other")
    assert ran.status == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--passphrase-file", "a.key="], "--passphrase-file 'a.key=' names no file"),
        (
            ["--passphrase-file", "x", "--passphrase-file", "y"],
            "--passphrase-file gives that of every key twice",
        ),
        (
            ["--passphrase-file", "k=x", "--passphrase-file", "k=y"],
            "--passphrase-file gives that of 'k' twice",
        ),
        (
            ["--passphrase-file", "x", "--passphrase-fd", "3"],
            "--passphrase-file and --passphrase-fd both answer for every key",
        ),
    ],
)
def test_contradicting_passphrase_options(
    place: Path, options: list[str], message: str
) -> None:
    ran = run("key", "generate", "a.key", *options)
    assert ran.status == 2
    assert ran.err.startswith(f"error: {message} [usage]\n")
