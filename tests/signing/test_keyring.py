"""The keyring: keys by URI, each secret asked for once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from margo_supplychain.errors import FormatError, SignerError
from margo_supplychain.signing import keys
from margo_supplychain.signing.keyring import generate_key, open_keyring, path_of
from margo_supplychain.signing.public_files import KeyRecord
from tests.signing.asking import PASSPHRASE, Asked
from tests.softhsm import soft_token


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


# --- `.pub` files, and keys in tokens -------------------------------------------------


def test_look_reads_the_public_half_and_opens_only_what_has_none(
    tmp_path: Path, made: dict[str, Path]
) -> None:
    path = made["ed25519"]
    pin = Asked()
    with open_keyring(pin=pin) as keyring:
        record = keyring.look(str(path.with_suffix(".pub")))
        assert record == keyring.look(str(path)) == keyring.look(f"file:{path}")
        assert pin.tokens == []
        alone = tmp_path / "alone.key"
        alone.write_bytes(path.read_bytes())
        alone.chmod(0o600)
        assert keyring.look(str(alone)) == record
        assert keyring.look(str(alone)) == record
        assert pin.tokens == [str(alone)]


def test_look_at_an_opened_key_believes_no_file_beside_it(
    tmp_path: Path, made: dict[str, Path]
) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(made["ed25519"].read_bytes())
    path.chmod(0o600)
    other = made[keys.ECDSA_P256].with_suffix(".pub").read_bytes()
    (tmp_path / "a.pub").write_bytes(other)
    with open_keyring(pin=Asked()) as keyring:
        assert keyring.look(str(path)).key.scheme == keys.ECDSA_P256
        keyring.open(str(path))
        assert keyring.look(str(path)).key.scheme == keys.ED25519


def test_look_at_what_is_no_key(tmp_path: Path, made: dict[str, Path]) -> None:
    (tmp_path / "a.key").write_bytes(made["ed25519"].read_bytes())
    (tmp_path / "a.pub").write_bytes(made["ed25519"].read_bytes())
    (tmp_path / "text").write_bytes(b"hello")
    (tmp_path / "large").write_bytes(b"-" * 70_000)
    with open_keyring(pin=Asked()) as keyring:
        for name, match in (
            ("a.key", r"a\.pub holds a private key, expected a public"),
            ("text", "is not a public key"),
            ("large", "has more than 65536 bytes"),
            ("absent", "no such file, expected a key"),
        ):
            with pytest.raises(FormatError, match=match):
                keyring.look(str(tmp_path / name))


def test_which_files_have_a_private_half(tmp_path: Path, made: dict[str, Path]) -> None:
    (tmp_path / "text").write_bytes(b"hello")
    os.mkfifo(tmp_path / "pipe", 0o600)
    with open_keyring(pin=Asked()) as keyring:
        assert keyring.has_private(str(made["ed25519"]))
        assert keyring.has_private(str(tmp_path / "pipe"))  # `open` may read it
        assert not keyring.has_private(str(made["ed25519"].with_suffix(".pub")))
        assert not keyring.has_private(str(tmp_path / "absent"))
        assert keyring.has_private("awskms:alias/release")
        with pytest.raises(FormatError, match="is not a public key"):
            keyring.has_private(str(tmp_path / "text"))


def test_a_public_key_alone_does_not_sign(made: dict[str, Path]) -> None:
    path = made["ed25519"].with_suffix(".pub")
    with (
        open_keyring(pin=Asked()) as keyring,
        pytest.raises(SignerError, match="does not say where its private half is"),
    ):
        keyring.open(str(path))


def test_a_private_and_a_public_key_in_one_file(
    tmp_path: Path, made: dict[str, Path]
) -> None:
    """Whatever stands beside it, a private key is opened from a file of its own."""
    path = tmp_path / "both.key"
    path.write_bytes(
        made["ed25519"].with_suffix(".pub").read_bytes() + made["ed25519"].read_bytes()
    )
    path.chmod(0o644)
    with open_keyring(pin=Asked()) as keyring:
        with pytest.raises(SignerError, match="may be used by others"):
            keyring.open(str(path))
        path.chmod(0o600)
        with pytest.raises(SignerError, match="is not an encrypted PKCS#8 key"):
            keyring.open(str(path))


PIN = "123456"


@pytest.mark.parametrize("scheme", keys.SCHEMES)
def test_a_key_in_a_token_from_its_making_to_a_signature(
    tmp_path: Path, scheme: str
) -> None:
    with soft_token(tmp_path, "root-a", pin=PIN) as token:
        pin = Asked(PIN)
        record = generate_key(
            token.uri("root"), scheme=scheme, pin=pin, pkcs11_module=token.module
        )
        assert record.custody is not None
        assert record.custody.text == "never-extractable"
        assert record.uri is not None
        path = tmp_path / "root-a.pub"
        path.write_bytes(record.to_bytes())
        pin = Asked(PIN)
        with open_keyring(pin=pin, pkcs11_module=token.module) as keyring:
            for uri in (token.uri("root"), record.uri, str(path)):
                assert keyring.has_private(uri)
                assert keyring.look(uri, custody=False).key == record.key
            assert pin.tokens == []
            for uri in (str(path), token.uri("root"), record.uri):
                signer = keyring.open(uri, expect=record.key)
                record.key.verify_signature(signer.sign(b"payload"), b"payload")
            assert keyring.look(token.uri("root")) == record
            (name,) = pin.tokens
            assert name.startswith("pkcs11:token=root-a;manufacturer=SoftHSM")


def test_a_record_of_a_token_that_is_elsewhere(
    tmp_path: Path, made: dict[str, Path]
) -> None:
    key = keys.parse_public_key(
        made["ed25519"].with_suffix(".pub").read_bytes(), what="pub"
    )
    path = tmp_path / "their.pub"
    record = KeyRecord(key=key, uri="pkcs11:token=theirs;object=root")
    path.write_bytes(record.to_bytes())
    pin = Asked(PIN)
    with open_keyring(pin=pin) as keyring:  # without any module
        assert not keyring.has_private(str(path))
        assert keyring.look(str(path)) == record
        with pytest.raises(SignerError, match="no PKCS#11 module is named"):
            keyring.open(str(path))
        with pytest.raises(SignerError, match="no PKCS#11 module is named"):
            keyring.has_private("pkcs11:token=theirs;object=root")
    with soft_token(tmp_path, "ours", pin=PIN) as token:
        token.make_key("root")
        with open_keyring(pin=pin, pkcs11_module=token.module) as keyring:
            assert not keyring.has_private(str(path))
            with pytest.raises(SignerError, match="no token matches"):
                keyring.open(str(path))
    assert pin.tokens == []


def test_a_token_is_let_go_with_its_keyring(tmp_path: Path) -> None:
    with soft_token(tmp_path, "root-a", pin=PIN) as token:
        token.make_key("root")
        with open_keyring(pin=Asked(PIN), pkcs11_module=token.module) as keyring:
            signer = keyring.open(token.uri("root"))
        with pytest.raises(ValueError, match="this keyring is closed"):
            keyring.open(token.uri("root"))
        with pytest.raises((ValueError, SignerError)):
            signer.sign(b"payload")
