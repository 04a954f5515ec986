"""What an operator takes of roles that vendors have signed: rules that roles share.

Pure over metadata. Each refusal says which role, what was found and what is expected;
who it came from is said by `accepting`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from margo_supplychain import threshold
from margo_supplychain.authoring.delegator_fields import (
    cut_offs,
    forgets,
    forgotten,
    left_in_order,
    left_keys,
    remembered,
)
from margo_supplychain.authoring.history import require_no_return
from margo_supplychain.authoring.holders import holders_of
from margo_supplychain.authoring.plan import RoleKeys
from margo_supplychain.authoring.roles import (
    application_of,
    delegator_of,
    kind_of,
    signers_of,
)
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    BudgetError,
    FormatError,
    KeyFormatError,
    RefusedError,
)
from margo_supplychain.formats.times import format_time

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Any

    from tuf.api.metadata import DelegatedRole, TargetFile, Targets

    from margo_supplychain.authoring.prospect import Prospect
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.formats.tuf_metadata import RoleFile

AGAIN: Final = "build it again: it then starts from what is published now"
# A role may last longer than root's period for it says, but not for ever.
LONGEST: Final = 2
SHORTEST: Final = timedelta(days=1)
"""What is signed for less is gone before anybody has taken notice of it."""
_SHORTEST_PART: Final = 4  # or a quarter of a period that is short itself
_FREE: Final = "x-"  # fields that every reader ignores begin so


def require_next(before: Prospect, file: RoleFile[Targets]) -> None:
    """Refuse any version but the one that comes next.

    Raises:
        RefusedError: it is older, or leaves some out.
        FetchError: what has the next name can't be found out.
    """
    expected = before.next_version(file.role, file.data)
    if file.version == expected:
        return
    trusted = before.version(file.role)
    if file.version <= trusted:
        raise RefusedError(
            f"{file.label} was made from an older state: v{trusted} is published",
            hint=AGAIN,
        )
    if file.version < expected:
        raise RefusedError(
            f"{file.label} can't be taken: something else has that name since a run "
            "that did not end",
            hint=AGAIN,
        )
    raise RefusedError(
        f"{file.label} skips versions: v{trusted} is published, so v{expected} is next",
        hint=f"it follows v{file.version - 1}: take that in first, or build this again",
    )


def require_bounded_expiry(before: Prospect, file: RoleFile[Targets]) -> None:
    """Refuse a role that would last far beyond the period that root signs, or no time.

    That it has not expired is the device's rule.

    Raises:
        RefusedError: it would.
    """
    period = before.settings.period(kind_of(file.role))
    if file.expires < before.now + shortest(period):
        raise RefusedError(
            f"{file.label} lasts until {format_time(file.expires)} and no longer: "
            "devices would refuse it soon after they have seen it",
            hint=f"sign it again, for the {period.days} days that root gives such a "
            "role",
        )
    if file.expires > before.now + LONGEST * period:
        raise RefusedError(
            f"{file.label} lasts until {format_time(file.expires)}, more than "
            f"{LONGEST} times the {period.days} days that root gives such a role",
            hint="sign it with an earlier expiry; and look whether the clock was right",
        )


def shortest(period: timedelta) -> timedelta:
    """Return how long a role must last at least, where root gives it a period."""
    return min(SHORTEST, period / _SHORTEST_PART)


def require_known_fields(
    what: str, fields: Mapping[str, Any], *, allowed: Collection[str] = ()
) -> None:
    """Refuse fields that no rule knows, but for `x-…`, which every reader ignores.

    Raises:
        RefusedError: for the first.
    """
    for name in fields:
        if name not in allowed and not name.startswith(_FREE):
            raise RefusedError(
                f"{what} has the field {name[:80]!r}, which no rule knows"
            )


def require_one_file(what: str, file: TargetFile, *, limit: int) -> None:
    """Refuse a target that is not named by sha256 alone, or beyond its limit.

    Raises:
        RefusedError: it is.
    """
    if set(file.hashes) != {"sha256"}:
        raise RefusedError(
            f"{what} is signed with hashes {sorted(file.hashes)}, expected sha256 alone"
        )
    if file.length > limit:
        raise RefusedError(
            f"{what} has {file.length} bytes, more than the limit of {limit}"
        )
    require_known_fields(what, file.unrecognized_fields, allowed=("custom",))


def is_same_file(one: TargetFile, other: TargetFile) -> bool:
    """Say whether two entries name the same bytes, as devices read them."""
    return (one.length, one.hashes) == (other.length, other.hashes)


# --- delegations ---------------------------------------------------------------------


def delegated(signed: Targets | None) -> Mapping[str, DelegatedRole]:
    """Return the roles that a role delegates to by name."""
    if signed is None or signed.delegations is None:
        return {}
    return signed.delegations.roles or {}


def require_plain_delegations(what: str, signed: Targets) -> None:
    """Refuse hash bins, fields that no rule knows, and ours that can't be read.

    Raises:
        RefusedError: it has some.
        MetadataFormatError: who holds keys, or which have left, can't be read.
    """
    require_known_fields(what, signed.unrecognized_fields)
    holders_of(signed)
    left_keys(signed)
    cut_offs(signed)
    delegations = signed.delegations
    if delegations is None:
        return
    if delegations.succinct_roles is not None:
        raise RefusedError(
            f"{what} delegates to hash bins, which match every name",
            hint="delegate to each application by its name",
        )
    require_known_fields(f"{what} (delegations)", delegations.unrecognized_fields)


def require_exact(
    what: str, name: str, role: DelegatedRole, *, paths: Sequence[str]
) -> None:
    """Refuse a delegation that is not exactly as ours are.

    Raises:
        RefusedError: other paths, or not terminating.
    """
    if role.paths is None or sorted(role.paths) != sorted(paths):
        raise RefusedError(
            f"{what} delegates other paths to {name} than {', '.join(paths)}"
        )
    if role.path_hash_prefixes is not None or not role.terminating:
        raise RefusedError(f"{what} delegates to {name}, and does not end there")
    require_known_fields(f"{what} ({name})", role.unrecognized_fields)


def role_keys(what: str, name: str, signed: Targets) -> RoleKeys:
    """Return the keys that a role gives another one, if they are sound.

    Raises:
        RefusedError: no key, a key twice whatever its id, an id that is not computed,
            or a threshold that can't be met.
    """
    try:
        who = signers_of(signed, name)
        if who is None:
            raise RefusedError(f"{what} does not delegate to {name}")
        return RoleKeys(keys=tuple(who.keys.values()), threshold=who.threshold)
    except KeyFormatError as why:
        raise RefusedError(f"{what} delegates to {name}: {why}") from why


def require_remembered(
    what: str, old: Targets | None, new: Targets, *, dropped: Collection[str] = ()
) -> list[str]:
    """Refuse a delegator that forgets which keys have left, or makes some up.

    What has left once bars every later rotation to it, and is remembered for long: so
    nobody may fill that memory with what was never there. Of more than it may hold the
    oldest are forgotten, as by `note_left`, so that nobody's memory is ever full.

    Args:
        what: the new file, for people.
        old: what it said.
        new: what it says.
        dropped: roles of which it may say nothing any more.

    Returns:
        What the operator should know: which keys are forgotten so.

    Raises:
        RefusedError: it does.
    """
    known = {} if old is None else left_in_order(old)
    said = left_in_order(new)
    added = _added(what, known, said, old, new)
    if not added and all(set(said.get(one, ())) == {*known[one]} for one in known):
        return []
    expected, warnings = remembered(known, added), []
    for role, keys in known.items():
        gone = set(keys).difference(said.get(role, ()))
        if not gone or (role in dropped and role not in said):
            continue
        lost = gone.intersection(expected[role])
        if lost:
            raise RefusedError(
                f"{what} forgets that key {min(lost)[:12]} left {role[:160]} (x-left, "
                "by material)",
                hint="what was said before stays: build it again",
            )
        warnings.append(forgets(what, role, len(gone)))
    for role, count in forgotten(said, {}, remembered(said, {})).items():
        raise RefusedError(
            f"{what} remembers {len(said[role])} keys that left {role[:160]}, {count} "
            "more than it may (x-left)",
            hint="build it again, with this version of margo-supplychain",
        )
    return warnings


def _added(
    what: str,
    known: Mapping[str, Sequence[str]],
    said: Mapping[str, Sequence[str]],
    old: Targets | None,
    new: Targets,
) -> dict[str, Sequence[str]]:
    """Return the keys of which a delegator says for the first time that they left.

    Raises:
        RefusedError: one never was there, or is there still.
    """
    found: dict[str, Sequence[str]] = {}
    for role, keys in said.items():
        before = frozenset(known.get(role, ()))
        added = [one for one in keys if one not in before]
        if role in known and not added:
            continue
        found[role] = added
        who, stays = who_signs(old, role), who_signs(new, role)
        kept = frozenset(added) & (frozenset() if stays is None else stays.materials())
        if kept:
            raise RefusedError(
                f"{what} says that key {min(kept)[:12]} left {role[:160]}, which has "
                "it (x-left, by material)",
                hint=AGAIN,
            )
        if who is None and _is_below_removed(role, old, new):
            continue
        had = frozenset[str]() if who is None else who.materials()
        never = frozenset(added) - had
        if never or who is None:
            raise RefusedError(
                f"{what} says that "
                + (f"key {min(never)[:12]}" if never else "a key")
                + f" left {role[:160]}, which never had it (x-left, by material)",
                hint=AGAIN,
            )
    return found


def who_signs(signed: Targets | None, role: str) -> RoleSigners | None:
    """Return who may sign a role, as a delegator says that may not be there."""
    return None if signed is None else signers_of(signed, role)


def _is_below_removed(role: str, old: Targets | None, new: Targets) -> bool:
    """Say whether it is an application's role of a publisher that is removed now."""
    try:
        publisher = application_of(role).publisher
    except FormatError:
        return False
    return publisher in delegated(old) and publisher not in delegated(new)


def require_no_old_key(
    before: Prospect,
    name: str,
    keys: RoleKeys,
    *,
    now: RoleSigners | None,
    new: Targets,
) -> list[str]:
    """Refuse keys that the role had once and has no more, and to forget those it had.

    Args:
        before: the repository before it.
        name: the role.
        keys: what it shall have.
        now: what it has.
        new: what its delegator says from now on.

    Returns:
        What the operator should know: where a key leaves, old versions that take too
        long to look through keep nobody from taking it away.

    Raises:
        BudgetError: they do, and none leaves.
        RefusedError: one returns, or one leaves and is not noted.
        FetchError: nobody answers who could know.
    """
    warnings = []
    known = set() if now is None else {threshold.material(k) for k in now.keys.values()}
    leaving = known - keys.materials()
    if not keys.materials() <= known:
        try:
            _require_no_return(before, name, keys, now)
        except BudgetError as why:
            if not leaving:
                raise
            warnings.append(
                f"whether a key returns to {name} is known of the keys that are said "
                f"to have left, and of newer versions alone: {why}"
            )
    # Old versions are cleared away one day, and nobody would know it any more.
    if not leaving <= left_keys(new).get(name, frozenset()):
        raise RefusedError(
            f"key {min(leaving)[:12]} leaves {name}, and nothing says so (x-left, by "
            "material)",
            hint="rotate it with margo-supplychain publisher rotate",
        )
    return warnings


def _require_no_return(
    before: Prospect, name: str, keys: RoleKeys, now: RoleSigners | None
) -> None:
    delegator = delegator_of(name)
    left = frozenset[str]()
    for role in dict.fromkeys(("targets", delegator)):
        said = before.standing(role)
        if said is not None:
            left |= left_keys(said).get(name, frozenset())
    require_no_return(
        before.overlay,
        name,
        keys,
        now=now,
        newest=before.version(delegator),
        left=left,
        versions=before.place.versions(delegator),
        known=before.keys,
    )


def require_taken_away(what: str, name: str, old: Targets, new: Targets) -> None:
    """Refuse a role that vanishes without a word: devices could no longer follow it.

    Raises:
        RefusedError: its keys are not noted as having left.
    """
    who = signers_of(old, name)
    keys = () if who is None else who.keys.values()
    had = {threshold.material(key) for key in keys}
    if not had <= left_keys(new).get(name, frozenset()):
        raise RefusedError(
            f"{what} delegates to {name} no more, and leaves it behind: devices could "
            "no longer follow it",
            hint="to remove it for good: margo-supplychain publisher remove "
            f"{name.replace('.', '/', 1)}",
        )


def require_room(before: Prospect, after: Prospect, what: str) -> None:
    """Refuse new roles that would not leave room for others in the snapshot.

    Raises:
        RefusedError: they would.
    """
    most = LIMITS.snapshot * 9 // 10
    if len(after.meta) > len(before.meta) and after.snapshot_size() > most:
        raise RefusedError(
            f"with {what} the snapshot would list {len(after.meta)} roles in more than "
            f"{most} bytes, and devices read {LIMITS.snapshot}",
            hint="applications that are no more can't be taken off the list: this "
            "repository is full",
        )
