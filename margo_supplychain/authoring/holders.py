"""Who holds a key and how it is kept: `x-holders`, signed beside the key objects.

Never inside them: other tools compute key ids over every field of a key, and a name
that changes would make another key of it. Root says it of the top-level roles' keys,
`targets` of the publishers', a publisher of its applications'. Devices ignore it.

Example:
    >>> field = holders_field({"4f1a…": Holder(name="holder B", place="token root-b")})
    >>> field["x-holders"]["4f1a…"]
    {'name': 'holder B', 'place': 'token root-b'}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.formats.fields import Fields, line
from margo_supplychain.formats.plain_text import plain, quoted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tuf.api.metadata import Root, Targets

HOLDERS: Final = "x-holders"
"""A field of root, targets and publishers: key id → who holds the key, and how."""
MAX_TEXT: Final = 200  # characters of a name, a custody or a place
MAX_HOLDERS: Final = 4_096  # entries of one field
_FIELDS: Final = ("name", "custody", "place")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a key, and how it is kept; what is None is not known.

    Args:
        name: the person or post: `holder B`.
        custody: how well the key is kept, such as `never-extractable`.
        place: where it lies: `file`, `token root-b`, `awskms`.

    Raises:
        MetadataFormatError: a text is not one printable line.
    """

    name: str | None = None
    custody: str | None = None
    place: str | None = None

    def __post_init__(self) -> None:
        for field, text in self.to_dict().items():
            line(text, what=f"{field} of a key's holder", limit=MAX_TEXT)

    def to_dict(self) -> dict[str, str]:
        """Return what is known, as it is signed."""
        found = ((field, getattr(self, field)) for field in _FIELDS)
        return {field: text for field, text in found if text is not None}

    def updated(self, newer: Holder) -> Holder:
        """Return what is known with `newer`; what that leaves out stays."""
        return Holder(**{**self.to_dict(), **newer.to_dict()})

    @property
    def text(self) -> str:
        """What is known, for people: `holder B, token root-b, never-extractable`."""
        known = (self.name, self.place, self.custody)
        return ", ".join(_told(one) for one in known if one is not None)


def _told(text: str) -> str:
    # A name like "Ada, never-extractable" must not say how her key is kept.
    return quoted(text) if "," in text else plain(text)


NOBODY: Final = Holder()


def holders_of(signed: Root | Targets) -> Mapping[str, Holder]:
    """Return what a role says of the keys that it defines; empty if nothing.

    Raises:
        MetadataFormatError: the field is there, and not what `holders_field` gives.
    """
    value = signed.unrecognized_fields.get(HOLDERS)
    if value is None:
        return {}
    fields = Fields({HOLDERS: value}, what=signed.type).object(HOLDERS)
    if len(fields.value) > MAX_HOLDERS:
        raise MetadataFormatError(
            f"{fields.what} has {len(fields.value)} entries, more than {MAX_HOLDERS}"
        )
    return {keyid: _holder(fields.object(keyid)) for keyid in fields.value}


def known_holders(signed: Root | Targets) -> Mapping[str, Holder]:
    """Return what a role says of its keys, or nothing where that can't be read.

    For what is shown: the names that a vendor wrote must not end everybody's `status`.
    """
    try:
        return holders_of(signed)
    except MetadataFormatError:
        return {}


def _holder(fields: Fields) -> Holder:
    known = {name: fields.optional(name, str) for name in _FIELDS}
    fields.done()
    return Holder(**known)


def holders_field(
    holders: Mapping[str, Holder], keyids: Collection[str] | None = None
) -> dict[str, Any]:
    """Return the field of a role that signs these holders; none if nothing is known.

    Args:
        holders: by key id.
        keyids: the keys that the role defines; holders of others are left out.
    """
    given = {
        keyid: holder.to_dict()
        for keyid, holder in sorted(holders.items())
        if holder != NOBODY and (keyids is None or keyid in keyids)
    }
    return {HOLDERS: given} if given else {}


def named(keyid: str, holders: Mapping[str, Holder]) -> str:
    """Return a holder's name, or the short key id where nobody is named."""
    return holders.get(keyid, NOBODY).name or keyid[:12]


def place_of(uri: str | None) -> str | None:
    """Return where a key's private half lies, by its URI: `token root-b`, `awskms`."""
    if uri is None:
        return None
    from margo_supplychain.signing.pkcs11.uri import TokenUri, is_token_uri

    if not is_token_uri(uri):
        return uri.partition(":")[0]
    label = TokenUri.parse(uri).token
    return "token" if label is None else f"token {label}"
