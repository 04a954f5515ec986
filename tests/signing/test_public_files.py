"""What `.pub` files record, and that everybody else's tools still read them."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import KeyFormatError
from margo_supplychain.signing.keys import key_of, parse_public_key, public_pem
from margo_supplychain.signing.public_files import Custody, KeyRecord

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

URI = "pkcs11:token=root-a;object=root;id=%01"
INSIDE = Custody(sensitive=True, never_extractable=True, local=True)
KEYS = [
    key_of(each.public_key(), what="key")
    for each in (
        ec.derive_private_key(2026, ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(public_exponent=65537, key_size=3072),
    )
]
P256 = KEYS[0]


@pytest.mark.parametrize("key", KEYS, ids=[each.scheme for each in KEYS])
@pytest.mark.parametrize("uri", [None, URI, "awskms:alias/release", "hv:release/3"])
@pytest.mark.parametrize("custody", [None, INSIDE])
def test_a_record_comes_back_and_anybody_reads_the_key(
    key: SSlibKey, uri: str | None, custody: Custody | None
) -> None:
    record = KeyRecord(key=key, uri=uri, custody=custody)
    data = record.to_bytes()
    assert KeyRecord.parse(data, what="a.pub") == record
    assert KeyRecord.parse(data.replace(b"\n", b"\r\n"), what="a.pub") == record
    assert parse_public_key(data, what="a.pub") == key
    assert key_of(load_pem_public_key(data), what="a.pub") == key
    if uri is None and custody is None:
        assert data == public_pem(key)


@pytest.mark.skipif(
    shutil.which("openssl") is None, reason="the program openssl is not installed"
)
def test_openssl_reads_a_record() -> None:
    for key in KEYS:
        ran = subprocess.run(
            ["openssl", "pkey", "-pubin", "-outform", "PEM"],
            input=KeyRecord(key=key, uri=URI, custody=INSIDE).to_bytes(),
            capture_output=True,
            check=True,
        )
        assert ran.stdout == public_pem(key)


def test_what_a_record_looks_like() -> None:
    data = KeyRecord(key=P256, uri=URI, custody=INSIDE).to_bytes()
    assert data.decode().splitlines()[:3] == [
        f"uri: {URI}",
        "custody: never-extractable",
        "-----BEGIN PUBLIC KEY-----",
    ]


def test_text_of_others_is_nothing_to_us() -> None:
    text = b"Public key of ACME\nUri: x\nnot a uri: y\n uri: z\n"
    assert KeyRecord.parse(text + public_pem(P256), what="a") == KeyRecord(key=P256)
    after = public_pem(P256) + b"uri: hv:release/1\n"
    assert KeyRecord.parse(after, what="a") == KeyRecord(key=P256)


def test_other_forms_record_nothing() -> None:
    der = load_pem_public_key(public_pem(P256))
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    data = der.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert KeyRecord.parse(data, what="a") == KeyRecord(key=P256)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("uri: offline.key", "records the key URI 'offline.key', expected one of"),
        ("uri: file:offline.key", "expected one of pkcs11:, awskms:"),
        ("uri: ../offline.key", "expected one of"),
        ("uri: PKCS11:token=a", "expected one of"),
        ("uri: ", "records the key URI ''"),
        ("uri: hv:a b", "expected one of"),
        ("uri: hv:a\x1b[2J", r"records the key URI 'hv:a\\x1b"),
        ("uri: hv:ä", "expected one of"),
        (f"uri: hv:{'a' * 4096}", "up to 4096 characters"),
        (f"uri: {URI}\nuri: {URI}", "records uri twice"),
        (f"uri: {URI}?module-path=/tmp/x.so", "expected neither module nor PIN"),
        (f"uri: {URI}?pin-source=file:/etc/passwd", "expected neither module nor PIN"),
        (f"uri: {URI}?pin-value=1234", "expected neither module nor PIN"),
        (f"uri: {URI}?", "expected neither module nor PIN"),
        ("custody: sealed", "records the custody 'sealed', expected one of never-ext"),
        ("custody: imported\ncustody: never-extractable", "records custody twice"),
    ],
)
def test_records_that_are_refused(text: str, match: str) -> None:
    data = text.encode() + b"\n" + public_pem(P256)
    with pytest.raises(KeyFormatError, match=match):
        KeyRecord.parse(data, what="a.pub")


@pytest.mark.parametrize("uri", ["offline.key", f"{URI}?module-path=/x.so", "hv:a\nb"])
def test_what_may_not_be_read_is_not_written(uri: str) -> None:
    with pytest.raises(KeyFormatError, match="the record records"):
        KeyRecord(key=P256, uri=uri).to_bytes()


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("never", [True, False])
@pytest.mark.parametrize("sensitive", [True, False])
def test_custody_in_a_word_never_promises_more(
    sensitive: bool, never: bool, local: bool
) -> None:
    custody = Custody(sensitive=sensitive, never_extractable=never, local=local)
    promised = Custody.parse(custody.text)
    assert promised.text == custody.text
    assert all(said or not more for said, more in zip(custody, promised, strict=True))
    assert (custody.text == "never-extractable") == all(custody)


def test_other_words_are_no_custody() -> None:
    with pytest.raises(ValueError, match="'inside' is no custody"):
        Custody.parse("inside")


@given(st.binary(max_size=200))
def test_any_text_before_a_key_gives_an_error_or_a_record(text: bytes) -> None:
    try:
        found = KeyRecord.parse(text + b"\n" + public_pem(P256), what="a.pub")
    except KeyFormatError:
        return
    assert found.key == P256
    assert KeyRecord.parse(found.to_bytes(), what="again") == found
