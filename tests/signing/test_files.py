"""Private keys in files: never in the clear, never readable by others."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from margo_supplychain.errors import SignerError, StorageError
from margo_supplychain.signing import files, keys
from margo_supplychain.storage import durable
from tests.signing.asking import PASSPHRASE

if TYPE_CHECKING:
    from pathlib import Path

SECRET = PASSPHRASE.encode()


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.mark.parametrize("scheme", keys.SCHEMES)
def test_generated_key_is_encrypted_private_and_signs(
    made: dict[str, Path], scheme: str
) -> None:
    path = made[scheme]
    assert mode_of(path) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    public = keys.parse_public_key(path.with_suffix(".pub").read_bytes(), what="pub")
    assert public.scheme == scheme
    signer = files.open_signer(path, passphrase=PASSPHRASE, expect=public)
    signature = signer.sign(b"payload")
    public.verify_signature(signature, b"payload")
    assert signature.keyid == public.keyid
    assert signer.public_key == public


def test_rsa_keys_have_3072_bits(made: dict[str, Path]) -> None:
    data = made["rsassa-pss-sha256"].with_suffix(".pub").read_bytes()
    assert keys.describe(keys.parse_public_key(data, what="pub")) == "rsa 3072"


def test_mode_is_0600_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files.generate(tmp_path / "a.key", scheme=keys.ED25519, passphrase=PASSPHRASE)
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a.key") == 0o600


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("offline.key", "offline.pub"),
        ("offline.pem", "offline.pub"),
        ("offline", "offline.pub"),
        ("acme.2026", "acme.2026.pub"),
    ],
)
def test_public_half_lies_beside(tmp_path: Path, name: str, public: str) -> None:
    assert files.public_path(tmp_path / name) == tmp_path / public


@pytest.mark.parametrize("there", ["a.key", "a.pub"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_bytes(b"mine")
    with pytest.raises(SignerError, match=rf"{there} exists$") as caught:
        files.generate(tmp_path / "a.key", scheme=keys.ED25519, passphrase=PASSPHRASE)
    assert caught.value.hint is not None
    assert "--force" in caught.value.hint
    assert [each.name for each in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_bytes() == b"mine"


def test_a_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "a.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SignerError, match=r"a\.key exists"):
        files.generate(tmp_path / "a.key", scheme=keys.ED25519, passphrase=PASSPHRASE)
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_appears_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.key").write_bytes(b"mine")
    monkeypatch.setattr(files, "check_new", lambda path: None)
    with pytest.raises(SignerError, match=r"a\.key exists"):
        files.generate(tmp_path / "a.key", scheme=keys.ED25519, passphrase=PASSPHRASE)
    assert (tmp_path / "a.key").read_bytes() == b"mine"
    assert not (tmp_path / "a.pub").exists()


def test_replacing_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    first = files.generate(path, scheme=keys.ED25519, passphrase=PASSPHRASE)
    second = files.generate(
        path, scheme=keys.ED25519, passphrase=PASSPHRASE, replace=True
    )
    assert first.keyid != second.keyid
    files.open_signer(path, passphrase=PASSPHRASE, expect=second)
    assert mode_of(path) == 0o600


def test_public_half_is_written_only_when_the_private_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes, *, mode: int = 0o644) -> None:
        raise StorageError("disk full", path=str(path))

    monkeypatch.setattr(durable, "write_new_file", full)
    with pytest.raises(StorageError, match="disk full"):
        files.generate(tmp_path / "a.key", scheme=keys.ED25519, passphrase=PASSPHRASE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("passphrase", "match"),
    [
        ("", r"has 0 characters, expected at least 12"),
        ("eleven char", r"has 11 characters, expected at least 12"),
        ("x" * 1024, r"has more than 1023 bytes"),
        ("twelve chars\udcff", r"the new passphrase is not UTF-8"),
    ],
)
def test_weak_passphrases_are_refused(
    tmp_path: Path, passphrase: str, match: str
) -> None:
    with pytest.raises(SignerError, match=match):
        files.generate(tmp_path / "a.key", scheme=keys.ED25519, passphrase=passphrase)
    assert list(tmp_path.iterdir()) == []


def test_longest_passphrase_opens_again(tmp_path: Path) -> None:
    longest = "ü" * 511 + "x"
    path = tmp_path / "a.key"
    key = files.generate(path, scheme=keys.ED25519, passphrase=longest)
    files.open_signer(path, passphrase=longest, expect=key)


@pytest.mark.parametrize("scheme", ["ecdsa-sha2-nistp521", "dsa", ""])
def test_other_schemes_are_not_made(tmp_path: Path, scheme: str) -> None:
    with pytest.raises(SignerError, match=f"cannot make a key for scheme '{scheme}'"):
        files.generate(tmp_path / "a.key", scheme=scheme, passphrase=PASSPHRASE)


def test_private_key_is_not_named_like_a_public_one(tmp_path: Path) -> None:
    with pytest.raises(SignerError, match="is named like a public key"):
        files.check_new(tmp_path / "a.pub")


@pytest.mark.parametrize(
    ("passphrase", "match"),
    [
        ("wrong horse battery", "does not open with this passphrase"),
        ("", "the passphrase of .*ed25519.key is empty"),
        ("\udcff", "the passphrase of .*ed25519.key is not UTF-8"),
    ],
)
def test_wrong_passphrase(made: dict[str, Path], passphrase: str, match: str) -> None:
    with pytest.raises(SignerError, match=match) as caught:
        files.open_signer(made["ed25519"], passphrase=passphrase)
    assert not passphrase or passphrase not in str(caught.value)


def test_key_of_somebody_else(made: dict[str, Path]) -> None:
    data = made["ed25519"].with_suffix(".pub").read_bytes()
    other = keys.parse_public_key(data, what="pub")
    with pytest.raises(
        SignerError, match=rf"is key [0-9a-f]{{12}}, expected {other.keyid[:12]}"
    ):
        files.open_signer(made[keys.ECDSA_P256], passphrase=PASSPHRASE, expect=other)


def test_expected_key_is_compared_by_material(made: dict[str, Path]) -> None:
    path = made[keys.ECDSA_P256]
    public = keys.parse_public_key(path.with_suffix(".pub").read_bytes(), what="pub")
    public.keyid = "00" * 32
    public.keyval["public"] = public.keyval["public"].strip()
    files.open_signer(path, passphrase=PASSPHRASE, expect=public)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644])
def test_key_that_others_may_use_is_not_opened(
    tmp_path: Path, made: dict[str, Path], mode: int
) -> None:
    path = tmp_path / "a.key"
    shutil.copy(made["ed25519"], path)
    path.chmod(mode)
    with pytest.raises(
        SignerError, match=rf"by others than its owner \(mode 0{mode:o}\)"
    ) as caught:
        files.open_signer(path, passphrase=PASSPHRASE)
    assert caught.value.hint is not None
    assert f"chmod 600 {path}" in caught.value.hint


def private_file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    "form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL]
)
def test_unencrypted_key_is_refused(tmp_path: Path, form: PrivateFormat) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    data = private.private_bytes(Encoding.PEM, form, NoEncryption())
    path = private_file(tmp_path / "a.key", data)
    with pytest.raises(SignerError, match="is not an encrypted PKCS#8 key") as caught:
        files.open_signer(path, passphrase=PASSPHRASE)
    assert caught.value.hint is not None
    assert "openssl pkcs8 -topk8 -scrypt" in caught.value.hint


def test_encrypted_and_open_key_in_one_file_is_refused(
    tmp_path: Path, made: dict[str, Path]
) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    clear = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = private_file(tmp_path / "a.key", made["ed25519"].read_bytes() + clear)
    with pytest.raises(SignerError, match="is not an encrypted PKCS#8 key"):
        files.open_signer(path, passphrase=PASSPHRASE)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x30\x00"])
def test_what_is_no_key_says_so(tmp_path: Path, data: bytes) -> None:
    path = private_file(tmp_path / "a.key", data)
    with pytest.raises(SignerError, match=r"a\.key is not a private key"):
        files.open_signer(path, passphrase=PASSPHRASE)


def test_damaged_key_is_like_a_wrong_passphrase(
    tmp_path: Path, made: dict[str, Path]
) -> None:
    data = bytearray(made["ed25519"].read_bytes())
    data[120] ^= 1
    path = private_file(tmp_path / "a.key", bytes(data))
    with pytest.raises(SignerError, match="does not open with this passphrase"):
        files.open_signer(path, passphrase=PASSPHRASE)


def test_large_absent_and_odd_files(tmp_path: Path) -> None:
    large = private_file(tmp_path / "large", b"x" * (64 * 1024 + 1))
    with pytest.raises(SignerError, match="has more than 65536 bytes"):
        files.read_private(large)
    with pytest.raises(SignerError, match=r"cannot read private key .*: no such file"):
        files.read_private(tmp_path / "absent")
    with pytest.raises(SignerError, match="is not a file"):
        files.read_private(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(SignerError, match="is not a private key"):
        files.read_private(tmp_path / "pipe")  # nobody writes to it: no wait


@pytest.mark.parametrize(
    ("private", "match"),
    [
        (ec.generate_private_key(ec.SECP256K1()), "on the curve secp256k1"),
        (x25519.X25519PrivateKey.generate(), "is a key of type X25519"),
    ],
)
def test_keys_that_are_not_for_signing(
    tmp_path: Path,
    private: ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey,
    match: str,
) -> None:
    data = private.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(SECRET)
    )
    path = private_file(tmp_path / "a.key", data)
    with pytest.raises(SignerError, match=f"^cannot sign: .*{match}"):
        files.open_signer(path, passphrase=PASSPHRASE)


OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(
    OPENSSL is None, reason="the program openssl is not installed"
)


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@needs_openssl
@pytest.mark.parametrize(
    ("scheme", "algorithm"),
    [
        (keys.ECDSA_P256, ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        (keys.ECDSA_P384, ["EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
        (keys.ED25519, ["ED25519"]),
        (keys.RSA_PSS, ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    ],
)
@pytest.mark.parametrize(
    "protection",
    [
        ["-v2", "aes-256-cbc"],
        ["-v2", "aes-128-cbc", "-iter", "100000"],
        ["-scrypt"],
    ],
    ids=["aes-256", "more-rounds", "scrypt"],
)
def test_keys_of_openssl_open(
    tmp_path: Path, scheme: str, algorithm: list[str], protection: list[str]
) -> None:
    clear, path, public = (tmp_path / each for each in ("clear", "a.key", "a.pub"))
    openssl("genpkey", "-algorithm", *algorithm, "-out", str(clear))
    openssl("pkey", "-in", str(clear), "-pubout", "-out", str(public))
    openssl(
        "pkcs8", "-topk8", *protection, "-in", str(clear), "-out", str(path),
        "-passout", f"pass:{PASSPHRASE}",
    )  # fmt: skip
    path.chmod(0o600)
    key = keys.parse_public_key(public.read_bytes(), what="a.pub")
    assert key.scheme == scheme
    signer = files.open_signer(path, passphrase=PASSPHRASE, expect=key)
    key.verify_signature(signer.sign(b"payload"), b"payload")


@needs_openssl
def test_our_keys_open_in_openssl(tmp_path: Path, made: dict[str, Path]) -> None:
    for path in made.values():
        openssl(
            "pkey", "-in", str(path), "-passin", f"pass:{PASSPHRASE}",
            "-pubout", "-out", str(tmp_path / "out.pub"),
        )  # fmt: skip
        assert (tmp_path / "out.pub").read_bytes() == path.with_suffix(
            ".pub"
        ).read_bytes()
