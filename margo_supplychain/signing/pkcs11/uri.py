r"""PKCS#11 URIs (RFC 7512): which token, which key, which module, which PIN file.

Knows the text alone; loads no module and reads no file. Every attribute that is taken
is honoured by whoever uses the value. One that is unknown, repeated or badly escaped is
an error: a pin that is silently ignored (`serial=` in another tool) signs with another
token than the one that was meant. A PIN inside a URI would lie in the shell's history
and in the list of processes: `pin-value` is refused, and no message repeats a value.

Example:
    >>> uri = TokenUri.parse("pkcs11:token=root-a;object=root;id=%01")
    >>> uri.token, uri.id
    ('root-a', b'\x01')
    >>> str(uri)
    'pkcs11:token=root-a;object=root;id=%01'
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, final
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from margo_supplychain.errors import SignerError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_URI: Final = 4096  # characters
_SCHEME: Final = "pkcs11:"
_HINT: Final = (
    "write a PKCS#11 URI as RFC 7512 has it, such as 'pkcs11:token=root-a;object=root'"
)
_MAX_SLOT: Final = 2**64 - 1  # CK_SLOT_ID, an unsigned long

# RFC 7512 §2.3: pk11-res-avail, and what path and query have beyond it.
_RESERVED: Final = ":[]@!$'()*+,="
_IN_PATH: Final = _RESERVED + "&"
_IN_QUERY: Final = _RESERVED + "/?|"
_UNRESERVED: Final = "A-Za-z0-9._~"
_PATH_VALUE: Final = re.compile(
    rf"(?:[{_UNRESERVED}{re.escape(_IN_PATH)}-]|%[0-9A-Fa-f]{{2}})*", re.ASCII
)
_QUERY_VALUE: Final = re.compile(
    rf"(?:[{_UNRESERVED}{re.escape(_IN_QUERY)}-]|%[0-9A-Fa-f]{{2}})*", re.ASCII
)
_ESCAPES: Final = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*", re.ASCII)
_VERSION: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3})?", re.ASCII)
_DECIMAL: Final = re.compile(r"[0-9]{1,20}", re.ASCII)


def is_token_uri(text: str) -> bool:
    """Tell whether `text` names a key in a token: the scheme is pkcs11."""
    return text[: len(_SCHEME)].lower() == _SCHEME


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUri:
    """What a PKCS#11 URI says; None where it says nothing.

    The order of the fields is the order in which a URI is written.

    Args:
        token: the token's label.
        serial: its serial number.
        slot_id: the slot that it is in; some modules renumber slots at every start.
        object: the key's label (CKA_LABEL).
        id: the key's CKA_ID.
        type: `private` or `public`.
        module_path: the PKCS#11 module; not checked here, see `check_module`.
        pin_source: a file that holds the PIN.
    """

    token: str | None = None
    manufacturer: str | None = None
    serial: str | None = None
    model: str | None = None
    library_manufacturer: str | None = None
    library_description: str | None = None
    library_version: str | None = None
    slot_manufacturer: str | None = None
    slot_description: str | None = None
    slot_id: int | None = None
    object: str | None = None
    id: bytes | None = None
    type: Literal["private", "public"] | None = None
    module_path: Path | None = None
    pin_source: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a URI that a person or a file gave.

        Raises:
            SignerError: above 4 KiB, another scheme, an attribute that is unknown,
                repeated, empty or badly escaped, a PIN, or nothing named at all.
        """
        if len(text) > MAX_URI:
            raise SignerError(
                f"the PKCS#11 URI has {len(text)} characters, more than {MAX_URI}"
            )
        if not is_token_uri(text):
            raise SignerError("the key's URI does not begin with pkcs11:", hint=_HINT)
        path, _, query = text[len(_SCHEME) :].partition("?")
        found: dict[str, Any] = {}
        for part in path.split(";") if path else ():
            _take(part, _PATH, _PATH_VALUE, found)
        if not found:
            raise SignerError("the PKCS#11 URI names neither token nor key", hint=_HINT)
        for part in query.split("&") if query else ():
            _take(part, _QUERY, _QUERY_VALUE, found)
        return cls(**found)

    def __str__(self) -> str:
        """The URI in its one normal form: RFC order, least escapes, id in hex."""
        path, query = [], []
        for each in fields(self):
            value = getattr(self, each.name)
            if value is None:
                continue
            name = each.name.replace("_", "-")
            if name in _QUERY:
                query.append(f"{name}={_written(name, value)}")
            else:
                path.append(f"{name}={_written(name, value)}")
        return _SCHEME + ";".join(path) + ("?" + "&".join(query) if query else "")

    def without_query(self) -> str:
        """The URI without module and PIN file: what may be recorded or shown."""
        return str(replace(self, module_path=None, pin_source=None))

    @property
    def key(self) -> str:
        """The part that names the key, for people: `root`, `id 01`, `root, id 01`."""
        said = [] if self.object is None else [self.object]
        if self.id is not None:
            said.append(f"id {self.id.hex()}")
        return ", ".join(said) or "(any)"


def _take(
    part: str,
    known: dict[str, Callable[[str, bytes], Any]],
    grammar: re.Pattern[str],
    found: dict[str, Any],
) -> None:
    name, equals, value = part.partition("=")
    field = name.replace("-", "_")
    if name == "pin-value":
        raise SignerError(
            "the PKCS#11 URI holds a PIN (pin-value), which others can see",
            hint="take it out, and change the PIN if others may know it; the PIN is "
            "asked for, or read from pin-source=file:/PATH or --pin-file",
        )
    if not equals:
        # It could be anything, a PIN as well: it is not repeated.
        raise SignerError("the PKCS#11 URI has a part without =", hint=_HINT)
    if name not in known:
        raise SignerError(f"the PKCS#11 URI {_reproach(name, known)}", hint=_HINT)
    if field in found:
        raise SignerError(f"the PKCS#11 URI has {name} twice", hint=_HINT)
    if not value:
        raise SignerError(f"the PKCS#11 URI has an empty {name}", hint=_HINT)
    if grammar.fullmatch(value) is None:
        raise SignerError(
            f"the PKCS#11 URI has {name} with a character or escape that RFC 7512 "
            "does not allow",
            hint="write letters, digits and -._~ as they are, other bytes as %XX",
        )
    found[field] = known[name](name, unquote_to_bytes(value))


def _reproach(name: str, known: dict[str, Any]) -> str:
    shown = re.sub(r"[^A-Za-z0-9-].*", "…", name[:32], flags=re.DOTALL)
    if name in _PATH or name in _QUERY:
        where = "after" if name in _QUERY else "before"
        return f"has {name} on the wrong side: it belongs {where} the ?"
    if name == "module-name":
        return "has module-name, which names no file: use module-path"
    return f"has an unknown attribute {shown!r}, expected one of {', '.join(known)}"


def _text(name: str, value: bytes) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as why:
        raise SignerError(f"the PKCS#11 URI has {name} that is not UTF-8") from why
    if not text.isprintable():
        raise SignerError(f"the PKCS#11 URI has {name} with a control character")
    return text


def _bytes(name: str, value: bytes) -> bytes:
    if len(value) > 255:
        raise SignerError(f"the PKCS#11 URI has {name} of more than 255 bytes")
    return value


def _slot(name: str, value: bytes) -> int:
    text = _text(name, value)
    if _DECIMAL.fullmatch(text) is None or int(text) > _MAX_SLOT:
        raise SignerError(f"the PKCS#11 URI has {name} that is no slot's number")
    return int(text)


def _version(name: str, value: bytes) -> str:
    text = _text(name, value)
    if _VERSION.fullmatch(text) is None:
        raise SignerError(f"the PKCS#11 URI has {name} that is not like 2 or 2.6")
    return text


def _type(name: str, value: bytes) -> str:
    text = _text(name, value)
    if text not in ("private", "public"):
        raise SignerError(
            f"the PKCS#11 URI has {name}={text[:40]}, expected private or public"
        )
    return text


def _path(name: str, value: bytes) -> Path:
    text = _text(name, value)
    if not text.startswith("/"):
        raise SignerError(f"the PKCS#11 URI has {name} that is not an absolute path")
    return Path(text)


def _pin_source(name: str, value: bytes) -> Path:
    """RFC 7512 leaves the form open; here it is a `file:` URI (RFC 8089), as written.

    The attribute's value is a URI of its own, so its path is escaped once more.
    """
    text = _text(name, value)
    if text[:5].lower() != "file:":
        raise SignerError(
            f"the PKCS#11 URI has {name} that is not file:/PATH",
            hint="a program is never run for a PIN; write it to a file of mode 0600",
        )
    path = text[5:]
    if path.startswith("//"):
        path = path[2:] if path.startswith("///") else ""
    if not path.startswith("/") or _ESCAPES.fullmatch(path) is None:
        raise SignerError(f"the PKCS#11 URI has {name} that is not file:/PATH")
    return Path(_text(name, unquote_to_bytes(path)))


def _written(name: str, value: Any) -> str:
    if name == "id":
        return "".join(f"%{byte:02X}" for byte in value)
    if name == "pin-source":
        return quote("file:" + quote(str(value), safe="/" + _RESERVED), safe=_IN_QUERY)
    if name == "module-path":
        return quote_from_bytes(str(value).encode("utf-8"), safe=_IN_QUERY)
    return quote(str(value), safe=_IN_PATH)


_PATH: Final[dict[str, Callable[[str, bytes], Any]]] = {
    "token": _text,
    "manufacturer": _text,
    "serial": _text,
    "model": _text,
    "library-manufacturer": _text,
    "library-description": _text,
    "library-version": _version,
    "slot-manufacturer": _text,
    "slot-description": _text,
    "slot-id": _slot,
    "object": _text,
    "id": _bytes,
    "type": _type,
}
_QUERY: Final[dict[str, Callable[[str, bytes], Any]]] = {
    "module-path": _path,
    "pin-source": _pin_source,
}
