"""Publishers and applications: who may sign for whom, from when, and no longer.

A publisher or application that exists is never given other keys by adding it again:
that is a rotation, which refuses keys that left before. The new keys sign at once what
is listed; where they are elsewhere, the holder signs first or is cut off. What ends is
the delegation: the snapshot goes on listing the role, since for a device a listed role
never vanishes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from margo_supplychain import threshold as counting
from margo_supplychain.authoring.delegator_fields import (
    cut_off_at,
    forgets,
    known_left,
    left_in_order,
    left_keys,
    left_size,
    newest_of,
    removed_roles,
    returns,
)
from margo_supplychain.authoring.history import require_no_return
from margo_supplychain.authoring.roles import (
    RoleSigners,
    application_of,
    check_role,
    delegator_of,
    kind_of,
    signers_of,
)
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    FormatError,
    MetadataFormatError,
    RefusedError,
    SupplyChainError,
)
from margo_supplychain.formats.names import (
    application_patterns,
    publisher_name,
    publisher_patterns,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tuf.api.metadata import MetaFile, Targets

    from margo_supplychain.authoring.holders import Holder
    from margo_supplychain.authoring.plan import RoleKeys
    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import PublisherPolicy

# What `targets` remembers of publishers that were removed, in bytes: every device reads
# it, and what is remembered of more would be for a vendor to choose.
MOST_KEPT: Final = 1 << 20
"""Of one publisher."""
MOST_KEPT_OF_ALL: Final = LIMITS.targets // 4


def add_publisher(
    work: Work, name: str, wanted: RoleKeys, holders: Mapping[str, Holder]
) -> bool:
    """Delegate to a publisher; see `Edit.add_publisher`."""
    publisher_name(name)
    require_publishers(work)
    if _exists(work, name, wanted):
        return work.changes.name_holders(name, holders)
    _require_no_return(work, name, wanted)
    _warn_of_return(work, name)
    last = work.changes.last_good(name)
    _delegate(work, name, wanted, holders)
    _begin(work, name, last)
    return True


def add_application(
    work: Work,
    name: ReleaseName,
    wanted: RoleKeys,
    policy: PublisherPolicy,
    holders: Mapping[str, Holder],
) -> bool:
    """Delegate to an application's role; see `Edit.add_application`."""
    require_apart(work, name, wanted, policy)
    if _exists(work, name.role, wanted):
        return work.changes.name_holders(name.role, holders)
    _require_no_return(work, name.role, wanted)
    last = work.changes.last_good(name.role)
    _delegate(work, name.role, wanted, holders)
    _begin(work, name.role, last)
    return True


def rotate_keys(
    work: Work, role: str, wanted: RoleKeys, holders: Mapping[str, Holder]
) -> bool:
    """Give a publisher's or application's role new keys; see `Edit.rotate_keys`."""
    if _has_keys(work, role, wanted):
        return work.changes.name_holders(role, holders)
    new = _rotation(work, role, wanted)
    if _cuts_off(work, new):
        _refuse_cut_off(new, work.changes.require_who(role))
    _hand_over(work, role, wanted, holders)
    return True


def cut_off_keys(
    work: Work, role: str, wanted: RoleKeys, holders: Mapping[str, Holder]
) -> bool:
    """Take a role's keys away before the new ones sign; see `Edit.cut_off_keys`."""
    if _has_keys(work, role, wanted):
        return work.changes.name_holders(role, holders)
    if not _cuts_off(work, _rotation(work, role, wanted)):
        _hand_over(work, role, wanted, holders)
        return True
    last = work.changes.last_good(role)
    _delegate(work, role, wanted, holders)
    work.changes.note_cut_off(role, last)
    _warn_of_cut_off(work, role, begins=last is None)
    return True


def remove(work: Work, role: str) -> bool:
    """End a delegation; see `Edit.remove_publisher`, `Edit.remove_application`."""
    _require_delegated(role)
    delegator = delegator_of(role)
    if work.changes.who(role) is None:
        work.changes.require_who(delegator)
        if role in removed_roles(work.changes.view(delegator)):
            return False
        work.changes.require_who(role)
    if work.leaves is not None:
        work.leaves(role)
    below = _keys_below(work, role) if kind_of(role) == "publisher" else {}
    work.changes.end(role, below)
    _warn_of_forgotten(work)
    _warn_of_lost_list(work, role)
    for name in list(work.applications):
        if role in {name.role, name.publisher}:
            work.applications.discard(name)
    return True


def below(work: Work, publisher: str) -> tuple[str, ...]:
    """Return the roles that a publisher delegates to; none if it can't be read."""
    try:
        if work.changes.who(publisher) is None:
            return ()
        delegations = work.changes.view(publisher).delegations
    except SupplyChainError:
        return ()
    return () if delegations is None else tuple(delegations.roles or ())


def require_publishers(work: Work) -> None:
    """Refuse the profile simple, which has none.

    Raises:
        RefusedError: it is.
    """
    if work.is_simple:
        raise RefusedError(
            "a repository of the profile simple has no publishers: its role targets "
            "signs everything itself",
            hint="make a repository of the profile small or standard",
        )


def require_apart(
    work: Work, name: ReleaseName, wanted: RoleKeys, policy: PublisherPolicy | None
) -> None:
    """Warn of an application's key that is also an offline one.

    Raises:
        RefusedError: where provenance is demanded, which such a key can't prove.
    """
    above: set[str] = set()
    for role in ("root", "targets", name.publisher):
        who = work.changes.require_who(role)
        above.update(counting.material(key) for key in who.keys.values())
    shared = [key for key in wanted.keys if counting.material(key) in above]
    if not shared:
        return
    text = f"key {shared[0].keyid[:12]} of {name.role} is also an offline key"
    if policy is not None and policy.provenance == "required":
        raise RefusedError(
            f"{text}, so nothing that it signs can prove provenance",
            hint="give the application a key of its own",
        )
    work.warnings.append(f"{text}: whoever releases holds it, too")


def _policy(work: Work, name: ReleaseName) -> PublisherPolicy | None:
    # A lost policy is no reason to leave an application with a stolen key.
    try:
        return work.policy(name)
    except SupplyChainError:
        return None


def _require_delegated(role: str) -> None:
    if kind_of(check_role(role)) not in {"publisher", "application"}:
        raise RefusedError(
            f"the keys of {role} stand in the root",
            hint="change them by a root ceremony: margo-supplychain root propose",
        )


def _has_keys(work: Work, role: str, wanted: RoleKeys) -> bool:
    _require_delegated(role)
    now = work.changes.require_who(role)
    return set(now.keys) == set(wanted.keyids) and now.threshold == wanted.threshold


def _rotation(work: Work, role: str, wanted: RoleKeys) -> RoleSigners:
    """Return who shall sign a role from now on, once nothing forbids it.

    Raises:
        RefusedError: one of the keys is another role's, or left this one before.
    """
    if work.leaves is not None:
        work.leaves(role)
    if kind_of(role) == "application":
        name = application_of(role)
        require_apart(work, name, wanted, _policy(work, name))
    _require_no_return(work, role, wanted)
    return RoleSigners(role, {key.keyid: key for key in wanted.keys}, wanted.threshold)


def _hand_over(
    work: Work, role: str, wanted: RoleKeys, holders: Mapping[str, Holder]
) -> None:
    """Give a role keys by which devices go on accepting it."""
    _delegate(work, role, wanted, holders)
    if work.state.lists(role) and work.can_sign(role):
        work.changes.change(role)


def _cuts_off(work: Work, new: RoleSigners) -> bool:
    """Say whether devices would refuse a role that has these keys."""
    if not work.state.lists(new.role) or work.signers.suffice(new):
        return False
    return not work.changes.is_signed_by(new)


def _refuse_cut_off(new: RoleSigners, now: RoleSigners) -> NoReturn:
    """Refuse a rotation after which devices would refuse a role.

    Raises:
        RefusedError: always.
    """
    keys = ", ".join(keyid[:12] for keyid in new.keys)
    kept = ", ".join(keyid[:12] for keyid in now.keys)
    raise RefusedError(
        f"{new.role} is not signed by {new.threshold} of {keys}, which are not at "
        "hand either: devices would refuse it",
        hint=f"a lost key: name it beside the new one first ({kept} and the new one, "
        "threshold 1), let the new one sign, then take it away; a stolen key: "
        "--cut-off takes it away now, and devices refuse the role until the new one "
        "signs",
    )


def _warn_of_forgotten(work: Work) -> None:
    """Say which keys that left are said no more, so that others can be noted."""
    while work.changes.forgotten:
        (delegator, role), count = work.changes.forgotten.popitem()
        work.warnings.append(forgets(delegator, role, count))


def _warn_of_return(work: Work, publisher: str) -> None:
    """Say what is not known any more of a publisher that comes back."""
    if publisher in removed_roles(work.changes.view("targets")):
        work.warnings.append(returns(publisher))


def _warn_of_lost_list(work: Work, role: str) -> None:
    known = cut_off_at(work.changes.view(delegator_of(role)), role)
    if kind_of(role) == "application" and work.state.lists(role) and known is None:
        work.warnings.append(
            f"what {role} listed can't be read: an application that is added by that "
            "name would begin anew, and forget releases and withdrawals"
        )


def _warn_of_cut_off(work: Work, role: str, *, begins: bool) -> None:
    what = f"{role} and all its applications"
    if kind_of(role) == "application":
        what = role
    work.warnings.append(
        f"devices refuse {what} from now on, until its new keys have signed; what they "
        "run keeps running"
    )
    if begins:
        work.warnings.append(
            f"what is listed of {role} is not signed by the keys that it had, so its "
            "holder will begin anew: somebody may have the online keys, which a root "
            "ceremony replaces"
        )


def _begin(work: Work, role: str, last: MetaFile | None) -> None:
    """Sign a role that begins, or goes on after a removal, if its keys are at hand."""
    if work.can_sign(role):
        work.changes.change(role)
    elif work.state.lists(role):
        # It was there before, or a thief of snapshot's key put it on the list.
        work.changes.note_cut_off(role, last)


def _exists(work: Work, role: str, wanted: RoleKeys) -> bool:
    found = work.changes.who(role)
    if found is None:
        return False
    if set(found.keys) == set(wanted.keyids) and found.threshold == wanted.threshold:
        return True
    typed = role.replace(".", "/", 1)
    raise RefusedError(
        f"{role} exists with other keys or another threshold",
        hint="giving it new keys is a rotation, not an addition: margo-supplychain "
        f"publisher rotate {typed}",
    )


def _require_no_return(work: Work, role: str, wanted: RoleKeys) -> None:
    delegator = delegator_of(role)
    # Of a role that was never signed no old file can be believed again: what its
    # delegator signs of it is enough, and costs nothing.
    was_signed = work.state.lists(role)
    require_no_return(
        work.place.source,
        role,
        wanted,
        now=work.changes.who(role),
        newest=work.state.version(delegator) if was_signed else 0,
        left=_left(work, role),
        versions=work.place.versions(delegator) if was_signed else (),
    )


def _delegate(
    work: Work, role: str, wanted: RoleKeys, holders: Mapping[str, Holder]
) -> None:
    if kind_of(role) == "application":
        name = application_of(role)
        work.changes.delegate(role, wanted, application_patterns(name), holders)
        work.applications.add(name)
    else:
        work.changes.delegate(role, wanted, publisher_patterns(role), holders)
    _warn_of_forgotten(work)


def _left(work: Work, role: str) -> frozenset[str]:
    """Return what is signed of keys that left a role.

    Of the applications of a publisher that was removed, `targets` says it.
    """
    found: frozenset[str] = frozenset()
    for delegator in dict.fromkeys(("targets", delegator_of(role))):
        found |= left_keys(work.changes.view(delegator)).get(role, frozenset())
    return found


def _keys_below(work: Work, publisher: str) -> Mapping[str, Sequence[str]]:
    """Return the keys that a publisher's applications have or had, by material.

    Whatever its role says: nobody keeps the operator from removing him.
    """
    try:
        signed: Targets = work.changes.view(publisher)
    except SupplyChainError as why:
        work.warnings.append(
            f"which keys the applications of {publisher} had can't be read: {why}"
        )
        return {}
    had: dict[str, dict[str, None]] = {}
    # The oldest first: what leaves now left last.
    for role, keys in (*_noted(signed), *_delegated(work, publisher)):
        # What a publisher says of others' roles is not for `targets` to repeat. Of a
        # role that was never signed, there is no old file that could be believed again.
        if _is_below(publisher, role) and work.state.lists(role):
            had.setdefault(role, {}).update(dict.fromkeys(keys))
    found = {role: tuple(keys) for role, keys in had.items()}
    room = min(
        MOST_KEPT,
        MOST_KEPT_OF_ALL - left_size(known_left(work.changes.view("targets"))),
    )
    kept = dict(newest_of(found, room))
    while kept and left_size(kept) > room:
        kept.popitem()
    if kept != found:
        work.warnings.append(
            f"{publisher} had more keys than fit into what devices read: not all are "
            "remembered"
        )
    return kept


def _is_below(publisher: str, role: str) -> bool:
    """Say whether this is the name of an application's role of a publisher."""
    try:
        return application_of(role).publisher == publisher
    except FormatError:
        return False


def _noted(signed: Targets) -> Iterator[tuple[str, Sequence[str]]]:
    try:
        yield from left_in_order(signed).items()
    except MetadataFormatError:
        return


def _delegated(work: Work, publisher: str) -> Iterator[tuple[str, Sequence[str]]]:
    signed = work.changes.view(publisher)
    for role in below(work, publisher):
        who = signers_of(signed, role)
        yield role, () if who is None else sorted(who.materials())
