"""What a `.pub` file holds: a public key, and where its private half is said to be.

The key is PEM. A key in a token or a key service has no private file whose name one
could type, so the URI stands in front of it, as explanatory text (RFC 7468 §2, §5.2):
every tool that reads PEM skips it, and commands open the URI when they are given the
file. Who hands over a `.pub` file must not choose what is loaded on another machine: a
recorded URI names neither a PKCS#11 module nor a file with a PIN.

Example:
    >>> record = KeyRecord(key=key, uri="pkcs11:token=root-a;object=root")
    >>> print(record.to_bytes().decode().splitlines()[0])
    uri: pkcs11:token=root-a;object=root
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from margo_supplychain.errors import KeyFormatError
from margo_supplychain.signing.keys import parse_public_key, public_pem
from margo_supplychain.signing.redacting import is_bare, redacted

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

MAX_URI: Final = 4096  # characters
# A path is of one machine, so only what means the same on every machine is recorded.
RECORDED: Final = ("pkcs11", "awskms", "gcpkms", "azurekms", "hv")
NEVER_EXTRACTABLE: Final = "never-extractable"
"""The custody of a key that was made in its token and can't leave it."""
IMPORTED: Final = "imported"
EXTRACTABLE: Final = "extractable"

_BEGIN: Final = b"-----BEGIN "
_FIELD: Final = re.compile(rb"(uri|custody):[ \t]*(.*?)[ \t]*\r?", re.DOTALL)
_SCHEME: Final = re.compile(r"([a-z0-9]+):[!-~]+", re.ASCII)


class Custody(NamedTuple):
    """What a token says about a private key (PKCS#11 3.1, 4.9).

    Args:
        sensitive: it can't be read out in the clear (CKA_SENSITIVE).
        never_extractable: nor ever could be, not even wrapped (CKA_NEVER_EXTRACTABLE).
        local: it was made inside the token (CKA_LOCAL).
    """

    sensitive: bool
    never_extractable: bool
    local: bool

    @property
    def text(self) -> str:
        """The custody in one word; `never-extractable` demands all three."""
        if all(self):
            return NEVER_EXTRACTABLE
        return EXTRACTABLE if self.local else IMPORTED

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what such a word promises at least.

        Raises:
            ValueError: another word.
        """
        promised = {
            NEVER_EXTRACTABLE: cls(sensitive=True, never_extractable=True, local=True),
            EXTRACTABLE: cls(sensitive=False, never_extractable=False, local=True),
            IMPORTED: cls(sensitive=False, never_extractable=False, local=False),
        }
        if text not in promised:
            raise ValueError(f"{text!r} is no custody")
        return promised[text]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A public key, and what is known of its private half.

    Args:
        key: the public key, with its computed id.
        uri: where the private half is, without module and PIN source; None for a file.
        custody: what its token said when it was asked; a claim of whoever wrote it.
    """

    key: SSlibKey
    uri: str | None = None
    custody: Custody | None = None

    @classmethod
    def parse(cls, data: bytes, *, what: str) -> Self:
        """Parse unverified bytes of a public key file.

        Args:
            data: PEM with or without a record, DER, or a TUF key object.
            what: names the file in errors.

        Raises:
            KeyFormatError: not one public key, or a record that names a module, a PIN,
                a path, or anything twice.
        """
        key = parse_public_key(data, what=what)
        found = _fields(data, what)
        uri, custody = found.get("uri"), found.get("custody")
        if uri is not None:
            check_recorded(uri, what=what)
        return cls(
            key=key,
            uri=uri,
            custody=None if custody is None else _custody(custody, what),
        )

    def to_bytes(self) -> bytes:
        """Return the content of a `.pub` file."""
        lines = []
        if self.uri is not None:
            check_recorded(self.uri, what="the record")
            lines.append(f"uri: {self.uri}\n")
        if self.custody is not None:
            lines.append(f"custody: {self.custody.text}\n")
        return "".join(lines).encode("ascii") + public_pem(self.key)


def check_recorded(uri: str, *, what: str) -> None:
    """Check that a URI may stand in a `.pub` file.

    Raises:
        KeyFormatError: too long, of another kind, or it names a module or a PIN.
    """
    found = _SCHEME.fullmatch(uri)
    if len(uri) > MAX_URI or found is None or found.group(1) not in RECORDED:
        raise KeyFormatError(
            f"{what} records the key URI {redacted(uri)!r}, expected one of "
            f"{', '.join(f'{each}:' for each in RECORDED)} up to {MAX_URI} characters",
            hint="make the file anew: margo-supplychain key import URI --out FILE.pub",
        )
    if not is_bare(uri):
        raise KeyFormatError(
            f"{what} records more than the key URI {redacted(uri)!r}, expected neither "
            "module nor PIN",
            hint="the module is named by this machine's settings (pkcs11-module); do "
            "not use the file if it is not your own",
        )


def _fields(data: bytes, what: str) -> dict[str, str]:
    """Return the fields before a PEM block; other explanatory text is anybody's."""
    text, begin, _ = data.partition(_BEGIN)
    found: dict[str, str] = {}
    # DER and JSON have no block, and nothing before it.
    for line in text.split(b"\n") if begin else ():
        field = _FIELD.fullmatch(line)
        if field is None:
            continue
        name = field.group(1).decode("ascii")
        if name in found:
            raise KeyFormatError(f"{what} records {name} twice")
        found[name] = field.group(2).decode("ascii", "replace")
    return found


def _custody(text: str, what: str) -> Custody:
    try:
        return Custody.parse(text)
    except ValueError as why:
        raise KeyFormatError(
            f"{what} records the custody {text[:40]!r}, expected one of "
            f"{NEVER_EXTRACTABLE}, {EXTRACTABLE}, {IMPORTED}"
        ) from why
