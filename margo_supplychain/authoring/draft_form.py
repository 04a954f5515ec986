"""What a draft of targets may say where its holder can compare it with nothing.

Apart from the repository a person sees what a screen shows: whole key ids, thresholds,
and what is said of keys that left. So nothing else may be in what is signed there: no
key under another one's id, no other paths, no field that no row is about.

Example:
    >>> require_plain(draft.file)  # doctest: +SKIP
    >>> field_rows(draft.file)  # doctest: +SKIP
    (('left', 'acme  ["71c5…"]'),)
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.authoring.acceptance_rules import (
    delegated,
    require_exact,
    require_plain_delegations,
    role_keys,
)
from margo_supplychain.authoring.delegator_fields import CUT_OFF, LEFT
from margo_supplychain.authoring.evidence import COUNTED
from margo_supplychain.authoring.holders import HOLDERS
from margo_supplychain.authoring.key_rules import check_form
from margo_supplychain.errors import FormatError, RefusedError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.names import publisher_name, publisher_patterns
from margo_supplychain.formats.plain_text import plain

if TYPE_CHECKING:
    from tuf.api.metadata import Delegations, Targets

    from margo_supplychain.formats.tuf_metadata import RoleFile

MAX_ROWS: Final = 20
_WORDS: Final = {LEFT: "left", CUT_OFF: "cut off", HOLDERS: "holder"}
_COMPARE: Final = (
    "sign where it can be compared with what stands (--repo); nothing was signed"
)


def require_plain(file: RoleFile[Targets]) -> None:
    """Refuse a draft that says more than a screen shows.

    It delegates to publishers, by their names and exactly so, and lists nothing itself.
    What stands may be otherwise (of the profile `simple`, or of another tool): then it
    is signed where that is at hand.

    Args:
        file: unverified.

    Raises:
        RefusedError: names the first such thing.
    """
    try:
        _check(file)
    except (RefusedError, FormatError) as why:
        raise RefusedError(
            f"{why}: not signed without comparing it", hint=_COMPARE
        ) from why


def field_rows(file: RoleFile[Targets]) -> tuple[tuple[str, str], ...]:
    """Return what a plain draft says besides delegations, for people."""
    from tuf.api.metadata import SPECIFICATION_VERSION

    rows = []
    if file.signed.spec_version != ".".join(SPECIFICATION_VERSION):
        rows.append(("format", f"TUF {plain(file.signed.spec_version)}"))
    for field, word in _WORDS.items():
        said = file.signed.unrecognized_fields.get(field, {})
        entries = said if isinstance(said, dict) else {field: said}
        for name in sorted(entries):
            text = strict_json.canonical(entries[name]).decode().strip()
            rows.append((word, f"{plain(name)}  {plain(text)}"))
    rest = rows[MAX_ROWS:]
    if rest:
        # A flood of them must not carry the rest off the screen.
        digest = hashlib.sha256(repr(rest).encode()).hexdigest()[:16]
        rows[MAX_ROWS:] = [("besides", f"{len(rest)} more, sha256 {digest}")]
    return tuple(rows)


def _check(file: RoleFile[Targets]) -> None:
    what, signed = file.label, file.signed
    if file.version > COUNTED:
        raise RefusedError(f"{what} is beyond any version that is counted to")
    if signed.targets:
        raise RefusedError(f"{what} lists {plain(min(signed.targets))} itself")
    require_plain_delegations(what, signed)
    for name in signed.unrecognized_fields:
        if name not in _WORDS:
            raise RefusedError(
                f"{what} has the field {plain(name)}, which nobody is shown"
            )
    for name, role in delegated(signed).items():
        patterns = publisher_patterns(publisher_name(name))
        require_exact(what, name, role, paths=patterns)
        role_keys(what, name, signed)
    if signed.delegations is not None:
        _check_delegations(what, signed.delegations, file.data)


def _check_delegations(what: str, delegations: Delegations, data: bytes) -> None:
    """Refuse keys of no role or in another form, and values that only read alike."""
    roles = (delegations.roles or {}).values()
    used = {keyid for role in roles for keyid in role.keyids}
    for keyid, key in delegations.keys.items():
        if keyid not in used:
            raise RefusedError(f"{what} defines key {plain(keyid)}, which no role has")
        check_form(keyid, key)
    written: dict[str, Any] = {
        "keys": {
            keyid: {"keytype": one.keytype, "scheme": one.scheme, "keyval": one.keyval}
            for keyid, one in delegations.keys.items()
        },
        "roles": [
            {
                "name": one.name,
                "keyids": one.keyids,
                "threshold": int(one.threshold),
                "terminating": True,
                "paths": one.paths,
            }
            for one in roles
        ],
    }
    said = strict_json.parse(data, what=what, limit=len(data))["signed"]["delegations"]
    # In Python 1 is True; to who reads the bytes, and to other clients, it is not.
    if strict_json.canonical(said) != strict_json.canonical(written):
        raise RefusedError(
            f"{what} delegates in another form than this package writes it"
        )
