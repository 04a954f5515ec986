"""How much work it is to open an encrypted private key, before anybody does it.

The file says how often its function is repeated and how much memory it takes (PKCS#5,
RFC 8018; scrypt, RFC 7914), before the passphrase is known to be right: two thousand
million rounds keep a machine busy for an hour, a scrypt of 2^30 takes all its memory.
So the parameters are read first, and what follows them is decrypted from the very bytes
that were read: two readers of PEM may disagree, of this DER they can not.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

# About three seconds of a small machine. OpenSSL writes 2048, advice goes to 1.3
# million (OWASP, PBKDF2-HMAC-SHA1).
MAX_ROUNDS: Final = 10_000_000
# OpenSSL writes N=2^14, r=8, p=1: 2^17 steps in 16 MiB. This is 2^23 and 256 MiB.
MAX_SCRYPT_STEPS: Final = 1 << 23
MAX_SCRYPT_MEMORY: Final = 256 * 1024 * 1024

_PEM: Final = re.compile(
    rb"-----BEGIN ENCRYPTED PRIVATE KEY-----\s([A-Za-z0-9+/=\s]+)"
    rb"-----END ENCRYPTED PRIVATE KEY-----"
)
_INTEGER: Final = 0x02
_OCTETS: Final = 0x04
_OID: Final = 0x06
_SEQUENCE: Final = 0x30
# Object identifiers in DER, without tag and length.
_PKCS5: Final = bytes.fromhex("2a864886f70d0105")
_PKCS12: Final = bytes.fromhex("2a864886f70d010c01")
_PBES2: Final = _PKCS5 + b"\x0d"
_PBKDF2: Final = _PKCS5 + b"\x0c"
_SCRYPT: Final = bytes.fromhex("2b06010401da47040b")


def parse_encrypted(data: bytes) -> bytes:
    """Return the DER of an encrypted PKCS#8 key in PEM whose work is within limits.

    Raises:
        ValueError: not one, encrypted in a way that is not known here, or too much.
    """
    found = _PEM.search(data)
    if found is None:
        raise ValueError("is not one block of PEM")
    try:
        der = base64.b64decode(b"".join(found.group(1).split()), validate=True)
    except binascii.Error as why:
        raise ValueError("is not base64 inside") from why
    outer = _Reader(_Reader(der).only(_SEQUENCE))
    algorithm = _Reader(outer.take(_SEQUENCE))
    outer.take(_OCTETS)
    outer.end()
    name = algorithm.take(_OID)
    parameters = _Reader(algorithm.only(_SEQUENCE))
    if name == _PBES2:
        _check_function(_Reader(parameters.take(_SEQUENCE)))
        parameters.take(_SEQUENCE)
        parameters.end()
    elif name.startswith((_PKCS5, _PKCS12)):  # PBES1 and its like in PKCS#12
        parameters.take(_OCTETS)
        _check_rounds(parameters.integer())
        parameters.end()
    else:
        raise ValueError("is encrypted in a way that is not known here")
    return der


def _check_function(function: _Reader) -> None:
    name = function.take(_OID)
    parameters = _Reader(function.only(_SEQUENCE))
    parameters.take(_OCTETS)  # the salt
    if name == _PBKDF2:
        _check_rounds(parameters.integer())
    elif name == _SCRYPT:
        cost, block, parallel = (parameters.integer() for _ in range(3))
        if (
            cost * block * parallel > MAX_SCRYPT_STEPS
            or 128 * block * (cost + parallel) > MAX_SCRYPT_MEMORY
        ):
            raise ValueError(
                f"demands scrypt with N={cost}, r={block}, p={parallel}, more than "
                f"{MAX_SCRYPT_STEPS} steps or {MAX_SCRYPT_MEMORY} bytes"
            )
    else:
        raise ValueError("is encrypted in a way that is not known here")


def _check_rounds(rounds: int) -> None:
    if rounds > MAX_ROUNDS:
        raise ValueError(f"demands {rounds} rounds, more than {MAX_ROUNDS}")


class _Reader:
    """Reads DER, one element after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, tag: int) -> bytes:
        """Return the content of the next element.

        Raises:
            ValueError: it has another tag, or no form that DER allows.
        """
        if len(self._data) < 2 or self._data[0] != tag:
            raise ValueError(_DAMAGED)
        length, start = self._data[1], 2
        if length >= 0x80:
            start += length - 0x80
            length = int.from_bytes(self._data[2:start], "big")
            # The shortest form alone, and no file has 4 GiB.
            if not 3 <= start <= 6 or length < 0x80 or self._data[2] == 0:
                raise ValueError(_DAMAGED)
        end = start + length
        if end > len(self._data):
            raise ValueError(_DAMAGED)
        content, self._data = self._data[start:end], self._data[end:]
        return content

    def only(self, tag: int) -> bytes:
        """Return the content of the last element.

        Raises:
            ValueError: as `take`; or something follows.
        """
        content = self.take(tag)
        self.end()
        return content

    def integer(self) -> int:
        """Return the next element, a number above 0 of at most 64 bits.

        Raises:
            ValueError: it is none.
        """
        content = self.take(_INTEGER)
        value = int.from_bytes(content, "big", signed=True)
        if not 1 <= len(content) <= 9 or not 1 <= value < 1 << 64:
            raise ValueError(_DAMAGED)
        return value

    def end(self) -> None:
        """Check that nothing follows.

        Raises:
            ValueError: something does.
        """
        if self._data:
            raise ValueError(_DAMAGED)


_DAMAGED: Final = "is damaged: it is no encrypted PKCS#8 key inside"
