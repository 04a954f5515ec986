"""Encrypted keys whose parameters somebody changed; no passphrase opens them."""

from __future__ import annotations

import base64
from typing import Final

PBES2: Final = "1.2.840.113549.1.5.13"
PBES1: Final = "1.2.840.113549.1.12.1.3"
PBKDF2: Final = "1.2.840.113549.1.5.12"
SCRYPT: Final = "1.3.6.1.4.1.11591.4.11"
AES256_CBC: Final = "2.16.840.1.101.3.4.1.42"


def pbkdf2(rounds: int, *more: bytes) -> bytes:
    """Return what asks for so many rounds."""
    salt = octets(b"salt-of-this-test")
    return pbes2(sequence(oid(PBKDF2), sequence(salt, integer(rounds), *more)))


def pbes1(rounds: int, *more: bytes) -> bytes:
    """Return what asks for so many rounds in the oldest way."""
    salt = octets(b"12345678")
    return encrypted(sequence(oid(PBES1), sequence(salt, integer(rounds), *more)))


def scrypt(cost: int, block: int, parallel: int, *more: bytes) -> bytes:
    """Return what asks for so much scrypt."""
    salt = octets(b"salt-of-this-test")
    numbers = [integer(each) for each in (cost, block, parallel)]
    return pbes2(sequence(oid(SCRYPT), sequence(salt, *numbers, *more)))


def pbes2(function: bytes) -> bytes:
    """Return an encrypted key with such a key derivation function."""
    cipher = sequence(oid(AES256_CBC), octets(bytes(16)))
    return encrypted(sequence(oid(PBES2), sequence(function, cipher)))


def encrypted(algorithm: bytes) -> bytes:
    """Return an encrypted key, in PEM."""
    return in_pem(sequence(algorithm, octets(bytes(64))))


def in_pem(der: bytes) -> bytes:
    """Return DER as PEM."""
    text = base64.encodebytes(der)
    return (
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
        + text
        + b"-----END ENCRYPTED PRIVATE KEY-----\n"
    )


def sequence(*parts: bytes) -> bytes:
    """Return a SEQUENCE."""
    return element(0x30, b"".join(parts))


def octets(data: bytes) -> bytes:
    """Return an OCTET STRING."""
    return element(0x04, data)


def integer(value: int) -> bytes:
    """Return an INTEGER that is not negative."""
    return element(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER."""
    first, second, *rest = (int(each) for each in dotted.split("."))
    data = bytearray([40 * first + second])
    for number in rest:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        data += bytes(reversed(groups))
    return element(0x06, bytes(data))


def element(tag: int, content: bytes) -> bytes:
    """Return one element of DER."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content
