"""Layouts as files: made from a plan, signed by several people one after the other.

A layout is a payload until its first signature, and an envelope from then on; its bytes
never change while it goes from hand to hand. What is wrong with it is an error of
whoever made the file, not an alarm: nothing here is a device's verdict.

Example:
    >>> made = LayoutFile.parse(data, what="layout.json")  # doctest: +SKIP
    >>> made.signed([signer]).to_bytes()  # doctest: +SKIP
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

from margo_supplychain.errors import (
    MetadataFormatError,
    ProvenanceError,
    RefusedError,
)
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.dsse import PAYLOAD, Envelope
from margo_supplychain.provenance.layouts import (
    MAX_LAYOUT,
    Layout,
    parse_layout,
    read_layout,
)
from margo_supplychain.provenance.revocation import names_of
from margo_supplychain.threshold import computed_keyids

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from securesystemslib.signer import Key, Signer

    from margo_supplychain.authoring.layout_plan import LayoutPlan

_ERRORS: Final = 5  # in one line
_REMARKS: Final = 20
_LONG: Final = 400  # characters of one
_HINT: Final = "correct what it was built from, and build it again: layout build FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutFile:
    """A layout in a file, signed or not yet.

    Args:
        layout: what it says; who signed it was not looked at.
        payload: the exact bytes that are signed.
        envelope: with its signatures; None while nobody has signed.
    """

    layout: Layout
    payload: bytes
    envelope: Envelope | None

    @classmethod
    def parse(cls, data: bytes, *, what: str) -> Self:
        """Parse the unverified bytes of a file.

        Raises:
            FormatError: neither a layout nor an envelope with one; one that no device
                would take, such as one with inspections; or one that lists a key under
                an id that is not its own.
        """
        try:
            value = strict_json.parse(
                data, what=what, limit=MAX_LAYOUT, error=MetadataFormatError
            )
        except MetadataFormatError as why:
            if not data.lstrip().startswith(b"{"):
                why.hint = (
                    "name what `layout build` made of the plan: layout build FILE"
                )
            raise
        if "signed" in value:
            raise MetadataFormatError(
                f"{what} is of in-toto's older form, which has no exact bytes to sign",
                hint="build it anew: layout build FILE; or write it as DSSE",
            )
        with _said_of_a_file():
            if "payloadType" in value:
                layout, envelope = read_layout(data, what=what)
                found = cls(layout=layout, payload=envelope.payload, envelope=envelope)
            else:
                layout = parse_layout(data, what=what)
                found = cls(layout=layout, payload=data, envelope=None)
        require_own_ids(layout, what)
        return found

    @classmethod
    def build(cls, plan: LayoutPlan, *, what: str) -> Self:
        """Make an unsigned layout of a plan.

        Raises:
            FormatError: in-toto does not take it, or no device would.
        """
        from margo_supplychain.provenance.in_toto_models import layout_payload

        payload = layout_payload(
            plan.steps,
            keys={key.keyid: key for key in plan.functionaries.values()},
            expires=plan.expires,
            readme=_readme(plan),
        )
        with _said_of_a_file():
            layout = parse_layout(payload, what=what)
        return cls(layout=layout, payload=payload, envelope=None)

    def signed(self, signers: Sequence[Signer]) -> Self:
        """Return it with more signatures; the bytes that are signed stay.

        Raises:
            SignerError: a key does not sign.
        """
        from margo_supplychain.signing.envelopes import add_signatures, sign_envelope

        if self.envelope is None:
            data = sign_envelope(PAYLOAD, self.payload, signers)
        else:
            data = add_signatures(self.envelope.to_bytes(), signers)
        return replace(self, envelope=Envelope.parse(data, what="layout"))

    def merged(self, other: Self) -> Self:
        """Return it with the signatures of a copy as well.

        Raises:
            RefusedError: another layout.
        """
        if other.payload != self.payload:
            raise RefusedError(
                "the file holds another layout, and may hold signatures of it",
                hint="name a file that is not there; nothing was written",
            )
        if self.envelope is None or other.envelope is None:
            return other if self.envelope is None else self
        # in-toto-python refuses two signatures that name one key.
        named = {one.keyid for one in self.envelope.signatures}
        more = [
            one
            for one in other.envelope.signatures
            if one not in self.envelope.signatures
            and (one.keyid is None or one.keyid not in named)
        ]
        signatures = (*self.envelope.signatures, *more)
        return replace(self, envelope=self.envelope._replace(signatures=signatures))

    def signers(self, keys: Mapping[str, Key]) -> tuple[str, ...]:
        """Return which of some keys have validly signed, as their ids."""
        from margo_supplychain.threshold import distinct_signers

        if self.envelope is None:
            return ()
        found = distinct_signers(self.envelope.pae, self.envelope.signatures, keys)
        return tuple(keyid for keyid in keys if keyid in found.values())

    def to_bytes(self) -> bytes:
        """Return the file."""
        return self.payload if self.envelope is None else self.envelope.to_bytes()

    @property
    def digest(self) -> Digest:
        """The digest of what is signed: what holders compare."""
        return Digest.of(self.payload)


def check(
    layout: Layout, *, expires: datetime | None = None, until: datetime | None = None
) -> list[str]:
    """Return what a layout's author may not have meant.

    Args:
        layout: well-formed.
        expires: what a publisher policy says instead of the file.
        until: until when the releases that it serves are supported, if that is known.

    Raises:
        RefusedError: it proves nothing, or ends before their support.
    """
    from margo_supplychain.provenance.lint import lint

    if expires is not None:
        layout = layout._replace(expires=expires)
    found = lint(layout, support_until=until)
    errors = [one for one in found if one.severity == "error"]
    if errors:
        text = "; ".join(_few([_cut(one.text) for one in errors], _ERRORS))
        # One that ends too early proves all that it should, until then.
        if any(one.reason != "expires-early" for one in errors):
            text = f"the layout proves nothing: {text}"
        raise RefusedError(text, hint=_HINT)
    return _few([_cut(one.text) for one in found], _REMARKS)


def _few(texts: list[str], limit: int) -> list[str]:
    """Return as many as somebody reads, and how many there are more."""
    more = len(texts) - limit
    return texts if more <= 0 else [*texts[:limit], f"and {more} more"]


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def require_own_ids(layout: Layout, what: str) -> None:
    """Refuse keys under ids of others: people compare ids, and devices take the keys.

    Raises:
        MetadataFormatError: an id is a mere label.
    """
    for keyid, key in layout.keys.items():
        if keyid.lower() not in names_of(key):
            own = computed_keyids(key)[0]
            raise MetadataFormatError(
                f"{what} lists key {own[:12]} as {keyid[:12]}, which is not its id: "
                "whoever compares ids would take it for another key",
                hint="build it anew of the functionaries' own .pub files, and ask "
                "whoever made it why: nothing was changed",
            )


@contextmanager
def _said_of_a_file() -> Iterator[None]:
    """Turn the verdict of a device into an error of the file that somebody named."""
    try:
        yield
    except ProvenanceError as why:
        raise MetadataFormatError(str(why), hint=_HINT) from why


def _readme(plan: LayoutPlan) -> str:
    """Return the text for people; the layout itself has no names of functionaries."""
    names = ", ".join(
        f"{name} {key.keyid[:12]}" for name, key in plan.functionaries.items()
    )
    said = f"functionaries: {names}"
    return f"{plan.readme}\n\n{said}" if plan.readme else said
