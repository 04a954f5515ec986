"""The keyring: keys by URI, each secret asked for once."""

from __future__ import annotations

from pathlib import Path

import pytest

from margo_supplychain.errors import SignerError
from margo_supplychain.signing import keys
from margo_supplychain.signing.keyring import generate_key, open_keyring, path_of
from tests.signing.asking import PASSPHRASE, Asked


def test_same_key_is_asked_for_once(
    made: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made["ed25519"]
    monkeypatch.chdir(path.parent)
    pin = Asked()
    with open_keyring(pin=pin) as keyring:
        first = keyring.open(path.name)
        others = [
            keyring.open(uri)
            for uri in (
                str(path),
                f"file:{path.name}",
                f"file:{path}",
                f"file://{path}",
                f"FILE:./{path.name}",
            )
        ]
        assert all(each is first for each in others)
        assert pin.tokens == [path.name]
        keyring.open(str(made[keys.ECDSA_P256]))
    assert pin.tokens == [path.name, str(made[keys.ECDSA_P256])]


def test_expected_key_is_checked_also_the_second_time(made: dict[str, Path]) -> None:
    data = made[keys.ECDSA_P256].with_suffix(".pub").read_bytes()
    other = keys.parse_public_key(data, what="pub")
    with open_keyring(pin=Asked()) as keyring:
        keyring.open(str(made["ed25519"]))
        with pytest.raises(SignerError, match=f"expected {other.keyid[:12]}"):
            keyring.open(str(made["ed25519"]), expect=other)


def test_wrong_passphrase_can_be_asked_again(made: dict[str, Path]) -> None:
    pin = Asked("wrong horse battery")
    with open_keyring(pin=pin) as keyring:
        with pytest.raises(SignerError, match="does not open"):
            keyring.open(str(made["ed25519"]))
        pin.answer = PASSPHRASE
        keyring.open(str(made["ed25519"]))
    assert len(pin.tokens) == 2


def test_nobody_is_asked_about_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    pin = Asked()
    with open_keyring(pin=pin) as keyring:
        with pytest.raises(SignerError, match="no such file"):
            keyring.open(str(tmp_path / "absent.key"))
        (tmp_path / "pub").write_bytes(b"hello")
        (tmp_path / "pub").chmod(0o600)
        with pytest.raises(SignerError, match="is not a private key"):
            keyring.open(str(tmp_path / "pub"))
    assert pin.tokens == []


def test_closed_keyring_opens_no_more(made: dict[str, Path]) -> None:
    with open_keyring(pin=Asked()) as keyring:
        keyring.open(str(made["ed25519"]))
    with pytest.raises(ValueError, match="this keyring is closed"):
        keyring.open(str(made["ed25519"]))


def test_kinds_that_are_none() -> None:
    pin = Asked()
    for uri in ("https://example.org/key", "hsm:2", "file2:a.key", "gnupg:ab"):
        with open_keyring(pin=pin) as keyring:
            for use in (keyring.open, keyring.look, keyring.has_private):
                with pytest.raises(SignerError, match="is of the unknown kind"):
                    use(uri)
        with pytest.raises(SignerError, match="is of the unknown kind"):
            generate_key(uri, pin=pin)
    assert pin.tokens == []


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("a.key", "a.key"),
        ("./a:b", "a:b"),
        ("c:key", "c:key"),
        ("//srv/a.key", "//srv/a.key"),
        ("file:a.key", "a.key"),
        ("file:///srv/a.key", "/srv/a.key"),
    ],
)
def test_paths_of_uris(uri: str, path: str) -> None:
    assert path_of(uri) == Path(path)


@pytest.mark.parametrize("uri", ["", "file:", "file://host/a.key", "file://", "a\0b"])
def test_uris_that_name_no_file(uri: str) -> None:
    with pytest.raises(SignerError, match="names no file"):
        path_of(uri)


def test_generate_asks_once_and_only_when_it_can(tmp_path: Path) -> None:
    pin = Asked()
    made = generate_key(f"file:{tmp_path / 'a.key'}", pin=pin)
    assert made.key.scheme == "ecdsa-sha2-nistp256"
    assert (made.uri, made.custody) == (None, None)
    assert pin.tokens == [str(tmp_path / "a.key")]
    with pytest.raises(SignerError, match="exists"):
        generate_key(str(tmp_path / "a.key"), pin=pin)
    assert len(pin.tokens) == 1
    other = generate_key(str(tmp_path / "a.key"), pin=pin, replace=True)
    assert other.key.keyid != made.key.keyid


def test_linked_key_is_one_key(tmp_path: Path, made: dict[str, Path]) -> None:
    """Secrets are often mounted as links."""
    (tmp_path / "link.key").symlink_to(made["ed25519"])
    pin = Asked()
    with open_keyring(pin=pin) as keyring:
        assert keyring.open(str(tmp_path / "link.key")) is keyring.open(
            str(made["ed25519"])
        )
    assert len(pin.tokens) == 1
