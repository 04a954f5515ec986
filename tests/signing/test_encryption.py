"""How much work an encrypted key may be, read before it is opened."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.signing.encryption import (
    MAX_ROUNDS,
    MAX_SCRYPT_STEPS,
    parse_encrypted,
)
from tests.signing import pem


@pytest.mark.parametrize(
    "data",
    [
        pem.pbkdf2(1),
        pem.pbkdf2(MAX_ROUNDS),
        pem.pbkdf2(2048, pem.integer(32), pem.sequence(pem.oid("1.2.840.113549.2.9"))),
        pem.pbes1(MAX_ROUNDS),
        pem.scrypt(1 << 14, 8, 1),
        pem.scrypt(1 << 17, 8, 1, pem.integer(32)),
        b"Bag Attributes\n" + pem.pbkdf2(2048) + b"\n",
        pem.pbkdf2(2048).replace(b"\n", b"\r\n"),
    ],
)
def test_what_is_within_limits(data: bytes) -> None:
    assert parse_encrypted(data)[:1] == b"\x30"


SALT = pem.octets(b"12345678")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (pem.pbkdf2(MAX_ROUNDS + 1), "^demands 10000001 rounds, more than 10000000$"),
        (pem.pbkdf2(2**64 - 1), "^demands 18446744073709551615 rounds"),
        (pem.pbes1(2**31 - 1), "^demands 2147483647 rounds"),
        (pem.scrypt(1 << 22, 8, 1), "^demands scrypt with N=4194304, r=8, p=1, more"),
        (pem.scrypt(2, MAX_SCRYPT_STEPS, 1), "^demands scrypt with N=2, "),
        (pem.scrypt(2, 8, MAX_SCRYPT_STEPS), "^demands scrypt with N=2, r=8, p=8388"),
        (pem.scrypt(1 << 18, 10, 1), "or 268435456 bytes$"),
        (pem.pbkdf2(2**64), "is damaged"),
        (pem.pbkdf2(2**80), "is damaged"),
        (pem.pbkdf2(0), "is damaged"),
        (pem.pbes1(2048, pem.integer(1)), "is damaged"),
        (pem.encrypted(pem.sequence(pem.oid("1.2.3"), pem.sequence())), "not known"),
        (pem.pbes2(pem.sequence(pem.oid("1.2.3"), pem.sequence(SALT))), "not known"),
        (pem.encrypted(pem.sequence(pem.oid(pem.PBES2), SALT)), "is damaged"),
        (pem.in_pem(pem.sequence(pem.octets(b"x"))), "is damaged"),
        (pem.in_pem(b""), "is not one block of PEM"),
        (pem.in_pem(b"\x30"), "is damaged"),
        (pem.in_pem(b"\x30\x80\x00\x00"), "is damaged"),
        (pem.in_pem(b"\x30\x81\x01\x00"), "is damaged"),
        (pem.in_pem(b"\x30\x82\x00\x01\x00"), "is damaged"),
        (pem.in_pem(b"\x30\xff" + b"\x01" * 200), "is damaged"),
        (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "is not one block of PEM"),
        (pem.pbkdf2(1).replace(b"=", b""), "is not base64 inside"),
        (
            pem.pbkdf2(1).replace(b"KEY-----\n", b"KEY-----\nProc-Type: 4\n", 1),
            "is not one block of PEM",
        ),
    ],
)
def test_what_is_not(data: bytes, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        parse_encrypted(data)


@given(st.binary(max_size=80), st.integers(0, 200))
def test_nothing_else_is_raised(junk: bytes, place: int) -> None:
    der = parse_encrypted(pem.pbkdf2(2048))
    for data in (pem.in_pem(junk), pem.in_pem(der[:place] + junk + der[place:])):
        try:
            parse_encrypted(data)
        except ValueError:
            continue
