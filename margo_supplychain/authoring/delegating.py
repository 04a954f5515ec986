"""Publishers and applications: who may sign for whom.

A publisher or application that exists is never given other keys by adding it again:
that is a rotation, which has a name of its own and refuses keys that left before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain import threshold as counting
from margo_supplychain.authoring.history import require_no_return
from margo_supplychain.authoring.roles import (
    application_of,
    check_role,
    delegator_of,
    kind_of,
)
from margo_supplychain.errors import RefusedError
from margo_supplychain.formats.names import (
    application_patterns,
    publisher_name,
    publisher_patterns,
)

if TYPE_CHECKING:
    from margo_supplychain.authoring.plan import RoleKeys
    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import PublisherPolicy


def add_publisher(work: Work, name: str, wanted: RoleKeys) -> bool:
    """Delegate to a publisher; see `Edit.add_publisher`."""
    publisher_name(name)
    if work.is_simple:
        raise RefusedError(
            "a repository of the profile simple has no publishers: its role targets "
            "signs everything itself",
            hint="make a repository of the profile small or standard",
        )
    if _exists(work, name, wanted):
        return False
    _delegate(work, name, wanted)
    work.changes.change(name)
    return True


def add_application(
    work: Work, name: ReleaseName, wanted: RoleKeys, policy: PublisherPolicy
) -> bool:
    """Delegate to an application's role; see `Edit.add_application`."""
    require_apart(work, name, wanted, policy)
    if _exists(work, name.role, wanted):
        return False
    _delegate(work, name.role, wanted)
    if work.can_sign(name.role):
        work.changes.change(name.role)
    return True


def rotate_keys(work: Work, role: str, wanted: RoleKeys) -> bool:
    """Give a publisher's or application's role new keys; see `Edit.rotate_keys`."""
    if kind_of(check_role(role)) not in {"publisher", "application"}:
        raise RefusedError(
            f"the keys of {role} stand in the root",
            hint="changing them is a root ceremony, which a later version brings",
        )
    now = work.changes.require_who(role)
    if set(now.keys) == set(wanted.keyids) and now.threshold == wanted.threshold:
        return False
    if kind_of(role) == "application":
        name = application_of(role)
        require_apart(work, name, wanted, work.require_policy(name))
    _delegate(work, role, wanted)
    if work.state.lists(role):
        work.changes.change(role)
    return True


def require_apart(
    work: Work, name: ReleaseName, wanted: RoleKeys, policy: PublisherPolicy
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
    if policy.provenance == "required":
        raise RefusedError(
            f"{text}, so nothing that it signs can prove provenance",
            hint="give the application a key of its own",
        )
    work.warnings.append(f"{text}: whoever releases holds it, too")


def _exists(work: Work, role: str, wanted: RoleKeys) -> bool:
    found = work.changes.who(role)
    if found is None:
        return False
    if set(found.keys) == set(wanted.keyids) and found.threshold == wanted.threshold:
        return True
    raise RefusedError(
        f"{role} exists with other keys or another threshold",
        hint="giving it new keys is a rotation, not an addition",
    )


def _delegate(work: Work, role: str, wanted: RoleKeys) -> None:
    delegator = delegator_of(role)
    if work.state.lists(role):
        # Nobody ever believed the keys of a role that was never signed.
        require_no_return(
            work.place.source,
            role,
            wanted,
            now=work.changes.who(role),
            newest=work.state.version(delegator),
        )
    if kind_of(role) == "application":
        name = application_of(role)
        work.changes.delegate(role, wanted, application_patterns(name))
        work.applications.add(name)
    else:
        work.changes.delegate(role, wanted, publisher_patterns(role))
