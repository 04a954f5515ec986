"""What no root may do: lock out its signers, its devices or whoever comes after them.

A proposal is judged when it is made, when it is read and before it is adopted, by the
same rules, so nobody signs what could not be used. Pure: no signature is looked at.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from margo_supplychain import threshold
from margo_supplychain.authoring.holders import holders_of
from margo_supplychain.authoring.key_rules import check_holders, check_keys
from margo_supplychain.authoring.plan import (
    DEFAULT_PERIODS,
    TOP_ROLES,
    RoleKeys,
    check_apart,
    check_custody,
)
from margo_supplychain.authoring.roles import materials_of
from margo_supplychain.authoring.root_fields import (
    OURS,
    signed_custody,
    signed_signing,
)
from margo_supplychain.authoring.settings import format_period, signed_periods
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import FormatError, KeyFormatError, RefusedError
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.tuf_metadata import ISSUED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from typing import Any

    from tuf.api.metadata import Root

    from margo_supplychain.authoring.plan import Kind
    from margo_supplychain.formats.tuf_metadata import RoleFile

OFFLINE: Final = ("root", "targets")
ONLINE: Final = ("snapshot", "timestamp")
AHEAD: Final = timedelta(hours=1)  # clocks of holders' machines are set by hand
# The rest is for signatures, and for what the next root says more.
MOST_SIGNED: Final = LIMITS.root // 2
_AGAIN: Final = "make a new proposal with `root propose`; nothing was changed"


def check_proposal(new: RoleFile[Root], trusted: RoleFile[Root] | None) -> None:
    """Refuse a root that would lock anybody out, whatever the time.

    Args:
        new: the proposed root, well-formed and unverified.
        trusted: the root that it follows, verified; None for a first one.

    Raises:
        RefusedError: with the reason.
    """
    _check_version(new, trusted)
    _check_form(new, trusted)
    keys = {role: _keys(new.signed, role) for role in TOP_ROLES}
    try:
        _check_signing(signed_periods(new.signed), signed_signing(new.signed))
        check_custody(keys, signed_custody(new.signed), holders_of(new.signed))
        check_holders(new.signed)
    except FormatError as why:
        raise _refused(str(why), why.hint) from why
    check_keys(new.signed, None if trusted is None else trusted.signed)
    if trusted is not None:
        _check_apart(keys, trusted.signed)
        _check_kept(new.signed, trusted.signed)


def check_adopted(new: RoleFile[Root], chain: Iterable[RoleFile[Root]]) -> None:
    """Refuse a root in whose place one stands: nobody must sign it any more.

    Args:
        new: the proposed root.
        chain: the verified roots that are known, up to the trusted one.

    Raises:
        RefusedError: it is adopted, or another one is.
    """
    known = {one.version: one for one in chain}
    stands = known.get(new.version)
    if stands is None:
        return
    if stands.payload == new.payload:
        later = "" if stands.version == max(known) else f", and root v{max(known)} now"
        raise RefusedError(
            f"{new.label} is adopted already{later}: nobody must sign it any more",
            hint="`root show` shows what stands; nothing was changed",
        )
    raise RefusedError(
        f"another {new.label} is adopted: that one has sha256 {_digest(stands)}, and "
        f"this proposal {_digest(new)}",
        hint="it is void: propose what it changes anew, from what stands now "
        "(`root propose`); nothing was changed",
    )


def _digest(root: RoleFile[Root]) -> str:
    return hashlib.sha256(root.payload).hexdigest()


def check_time(new: RoleFile[Root], now: datetime) -> None:
    """Refuse a root that nobody could use any more.

    Raises:
        RefusedError: it expires before `now`.
    """
    if new.expires <= now:
        raise RefusedError(
            f"{new.label} expires at {format_time(new.expires)}, which is in the past",
            hint=_AGAIN,
        )


def check_issued(
    new: RoleFile[Root], now: datetime, trusted: RoleFile[Root] | None
) -> None:
    """Refuse a root from the future: devices would take its time for the present.

    Until then nobody could sign anything either. The time of the root before it is the
    present already, whatever the clock says.

    Raises:
        RefusedError: it was issued more than an hour after `now`.
    """
    latest = now + AHEAD
    if trusted is not None and trusted.issued is not None:
        latest = max(latest, trusted.issued)
    if new.issued is not None and new.issued > latest:
        raise RefusedError(
            f"{new.label} was issued at {format_time(new.issued)}, and this machine's "
            f"clock says {format_time(now)}",
            hint="whoever proposed it, or this machine, has a wrong clock: look at a "
            "watch; nothing was changed",
        )


def check_returning(new: RoleFile[Root], earlier: Iterable[Root]) -> None:
    """Refuse keys that a role had once and that left it.

    Args:
        new: the proposed root.
        earlier: the verified roots before it, from the oldest that is known to the
            trusted one.

    Raises:
        RefusedError: names the first such key.
    """
    left: dict[tuple[str, str], int] = {}
    has: dict[str, frozenset[str]] = {role: frozenset() for role in TOP_ROLES}
    for root in earlier:
        for role in TOP_ROLES:
            found = materials_of(root, role)
            for one in has[role] - found:
                left[role, one] = root.version - 1
            has[role] = found
    for role in TOP_ROLES:
        for key in _keys(new.signed, role).keys:
            version = left.get((role, threshold.material(key)))
            if version is not None:
                raise RefusedError(
                    f"key {key.keyid[:12]} left the role {role} after root v{version}",
                    hint="a key that left never returns: make a new one with "
                    "`key generate`",
                )


def _check_version(new: RoleFile[Root], trusted: RoleFile[Root] | None) -> None:
    expected = 1 if trusted is None else trusted.version + 1
    if new.version == expected:
        return
    if trusted is None:
        raise RefusedError(
            f"{new.label} follows root v{new.version - 1}, which is not given",
            hint="name the repository (--repo) or the trusted root (--root)",
        )
    if new.version <= trusted.version:
        raise RefusedError(
            f"{new.label} is proposed, and root v{trusted.version} is trusted already",
            hint="it was adopted once, or another one was: " + _AGAIN,
        )
    raise RefusedError(
        f"{new.label} is proposed, and root v{trusted.version} is trusted: devices go "
        f"from one version to the next, expected root v{expected}",
        hint="bring the repository up to date, or give each root between with --root",
    )


def _check_form(new: RoleFile[Root], trusted: RoleFile[Root] | None) -> None:
    most = MOST_SIGNED if trusted is None else max(MOST_SIGNED, len(trusted.payload))
    if len(new.payload) > most:
        raise _refused(
            f"{new.label} has {len(new.payload)} bytes to sign, more than the limit of "
            f"{most}: signatures and the next root need room"
        )
    if new.signed.consistent_snapshot is not True:
        raise _refused(f"{new.label} does not promise consistent snapshots")
    if new.issued is None:
        raise _refused(f"{new.label} has no {ISSUED}")
    if new.expires <= new.issued:
        raise _refused(
            f"{new.label} expires at {format_time(new.expires)}, not after it was "
            f"issued at {format_time(new.issued)}"
        )
    if trusted is None or trusted.issued is None:
        return
    if new.issued < trusted.issued:
        raise _refused(
            f"{new.label} was issued at {format_time(new.issued)}, before "
            f"{trusted.label} at {format_time(trusted.issued)}"
        )


def _check_signing(
    periods: Mapping[Kind, timedelta], signing: Mapping[Kind, timedelta]
) -> None:
    for kind, before in signing.items():
        lasts = periods.get(kind, DEFAULT_PERIODS[kind])
        if before >= lasts:
            raise _refused(
                f"signing of {kind} would be due {format_period(before)} before the "
                f"expiry, and its signatures last {format_period(lasts)}",
                "so it would always be due: a shorter `signing`, or a longer period; "
                "nothing was changed",
            )


def _keys(root: Root, role: str) -> RoleKeys:
    try:
        return RoleKeys.of(root, role)
    except FormatError as why:
        raise _refused(f"{role} in root v{root.version}: {why}", why.hint) from why


def _check_apart(keys: Mapping[str, RoleKeys], trusted: Root) -> None:
    """Refuse an offline key that becomes an online one, or the other way round."""
    online = {one for role in ONLINE for one in keys[role].materials()}
    # The profile simple has one key for both from its beginning, on purpose.
    known = {one for role in ONLINE for one in materials_of(trusted, role)}
    for role in OFFLINE:
        before = materials_of(trusted, role) & known
        try:
            check_apart(role, keys[role], online - before)
        except KeyFormatError as why:
            raise _refused(str(why), why.hint) from why


def _check_kept(new: Root, trusted: Root) -> None:
    """Refuse to lose what another tool wrote into root and relies on."""
    pairs: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = [
        ("root", trusted.unrecognized_fields, new.unrecognized_fields)
    ]
    for role in TOP_ROLES:
        before, after = trusted.roles[role], new.roles[role]
        pairs.append((role, before.unrecognized_fields, after.unrecognized_fields))
    for keyid in trusted.keys.keys() & new.keys.keys():
        old, key = trusted.keys[keyid], new.keys[keyid]
        what = f"key {keyid[:12]}"
        pairs.append((what, old.unrecognized_fields, key.unrecognized_fields))
    for what, before_fields, after_fields in pairs:
        lost = sorted(before_fields.keys() - after_fields.keys() - set(OURS))
        if lost:
            raise _refused(f"{what} loses the field {lost[0][:80]!r} of another tool")


def _refused(message: str, hint: str | None = None) -> RefusedError:
    return RefusedError(message, hint=hint or _AGAIN)
