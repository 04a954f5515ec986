r"""A device's rules about how releases were made and what is attested to of them.

In a `device.toml`, beside `require` and `max-age`:

    require = ["signed", "provenance"]    a layout and its links, whoever else asks
    provenance = "summary"                a summary counts for the chain ("full": not)
    summary-keys = ["-----BEGIN …"]       of whom, besides whom the publisher names
    summary-max-age = "30d"               and since when

Only statements that count by the publisher's rules are looked at (`verify.attested`); a
rule that finds none of what it looks for is violated. Where clocks can't be believed,
a rule about time is inconclusive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from margo_supplychain.errors import FormatError
from margo_supplychain.formats.reports import Violation
from margo_supplychain.formats.times import parse_span
from margo_supplychain.verify.policy import ProvenanceDemand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securesystemslib.signer import Key

    from margo_supplychain.verify.policy import Facts, Rule

MAX_NAMES: Final = 64
_SUMMARY_KEYS: Final = ("summary-keys", "summary-max-age")
KEYS: Final = frozenset({"provenance", *_SUMMARY_KEYS})
"""Keys of a policy's table that are read here."""


class Provenance(NamedTuple):
    """How the release was made is proven, in a way that the device takes."""

    demands: ProvenanceDemand
    id: str = "provenance"

    def violations(self, facts: Facts) -> tuple[Violation, ...]:
        """Return a violation if a chain is required and none was proven."""
        proven = facts.proof is not None and facts.proof.layout is not None
        # check 5.20: step 4 proves it, and nothing else does
        if self.demands.required and not proven:
            text = "how the release was made is not proven"
            return (Violation(rule=self.id, text=text),)
        return ()


def rules_of(where: str, table: Mapping[str, Any], *, required: bool) -> list[Rule]:
    """Return the rules that a table of a policy asks for.

    Args:
        where: names the table in errors.
        table: with the keys that are read here, among others.
        required: whether its `require` has `provenance`.

    Raises:
        FormatError: a value that is none, or keys that go with others.
    """
    rules: list[Rule] = []
    if required or KEYS & table.keys():
        rules.append(Provenance(_demand(where, table, required=required)))
    return rules


def _demand(
    where: str, table: Mapping[str, Any], *, required: bool
) -> ProvenanceDemand:
    tier = table.get("provenance", "full")
    if tier not in ("full", "summary"):
        raise FormatError(
            f"{where}.provenance is {tier!r:.40}, expected 'full' or 'summary'"
        )
    named = [key for key in _SUMMARY_KEYS if key in table]
    if tier == "full" and named:
        raise FormatError(
            f'{where}.{named[0]} goes with provenance = "summary", which is not there'
        )
    # A key of the device's own has no maximum age in the publisher's policy.
    if named == ["summary-keys"]:
        raise FormatError(f"{where}.summary-keys needs a summary-max-age beside it")
    age = None
    if "summary-max-age" in table:
        age = parse_span(table["summary-max-age"], what=f"{where}.summary-max-age")
        if not age:
            raise FormatError(f"{where}.summary-max-age is 0, expected a time above 0")
    keys: tuple[Key, ...] = ()
    if "summary-keys" in table:
        texts = _texts(where, "summary-keys", table["summary-keys"])
        keys = tuple(_key(f"{where}.summary-keys", one) for one in texts)
    return ProvenanceDemand(
        required=required, tier=tier, summary_keys=keys, summary_age=age
    )


def _texts(where: str, key: str, value: Any) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or not 0 < len(value) <= MAX_NAMES
        or any(not isinstance(one, str) or not one for one in value)
    ):
        raise FormatError(
            f"{where}.{key} is {value!r:.40}, expected a list of 1 to {MAX_NAMES} texts"
        )
    return tuple(value)


def _key(where: str, pem: str) -> Key:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    try:
        return SSlibKey.from_crypto(load_pem_public_key(pem.encode()))
    except (ValueError, TypeError, UnsupportedAlgorithm) as why:
        raise FormatError(
            f"{where} has {pem[:40]!r}, expected a public key as PEM"
        ) from why
