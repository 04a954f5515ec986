"""Publisher policies: what the offline key says, and what follows from it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from margo_supplychain.authoring import (
    identities,
    policy_effects,
    policy_keys,
    policy_rules,
    rules,
)
from margo_supplychain.errors import FetchError, RefusedError, VerificationError
from margo_supplychain.formats.publisher_policy import FORMAT, Reinstatement

if TYPE_CHECKING:
    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.versions import Version


def set_policy(
    work: Work,
    name: ReleaseName,
    policy: PublisherPolicy,
    *,
    needless: frozenset[int] = frozenset(),
) -> bool:
    """Replace an application's publisher policy, and say what follows.

    Args:
        work, name, policy: as `Edit.set_policy` has them.
        needless: layouts that it drops, and of which it is known that no release was
            made by them.
    """
    work.require_publisher(name)
    deciding = work.deciding(name)
    work.changes.require_who(deciding)
    old = _old_policy(work, name, policy)
    if old == policy:
        return _restore(work, name, policy)
    rules.check_policy(
        name,
        old,
        policy,
        profile=work.settings.profile,
        listed=work.listed(name),
        role_version=work.state.version(deciding),
    )
    _require_listed_layouts(work, name, old, policy)
    of_keys = policy_keys.check_policy_keys(work, name, old, policy)
    path = name.policy_path(FORMAT)
    work.put(work.offline(name), path, policy.to_bytes(), custom=None)
    work.applications.add(name)
    listed = work.listed(name)
    known = identities.changed(work, name, old, policy)
    said = [
        *rules.policy_warnings(name, policy, listed),
        *policy_rules.changes_said(name, old, policy, known, needless=needless),
        *policy_effects.refused_since(work, name, old, policy),
        *of_keys,
    ]
    # One edit may change a policy twice: what follows of it all is said once.
    work.warnings.extend(one for one in said if one not in work.warnings)
    if void_marks(work, name, policy) and work.can_sign(deciding):
        work.changes.change(deciding)
    # What came with its mark may have come without its content: devices look first.
    usable = _usable_again(work, name, policy)
    if old is not None:
        usable -= _usable_again(work, name, old)
    _expect(work, name, usable)
    if usable:
        work.proving.setdefault(name, set()).update(usable)
    return True


def _require_listed_layouts(
    work: Work, name: ReleaseName, old: PublisherPolicy | None, new: PublisherPolicy
) -> None:
    """Refuse a layout of which nobody has the bytes: no release could be made by it.

    Raises:
        RefusedError: the publisher's role does not list it.
    """
    known = () if old is None else old.layouts
    targets = work.changes.view(work.offline(name)).targets
    for rule in new.layouts:
        file = targets.get(name.layout_path(rule.number))
        listed = None if file is None else file.hashes.get("sha256")
        if rule not in known and listed != rule.digest.hex:
            raise RefusedError(
                f"the policy of {name} names layout {rule.number}, which "
                f"{work.offline(name)} does not list with that digest",
                hint="list it: margo-supplychain app policy --layout FILE --serves "
                "RANGE",
            )


def _old_policy(
    work: Work, name: ReleaseName, new: PublisherPolicy
) -> PublisherPolicy | None:
    """Return the policy before; None when there is none, or nobody has its bytes.

    Raises:
        FetchError: it may be there, and can't be read now.
    """
    try:
        return work.policy(name)
    except (FetchError, VerificationError) as why:
        require_lost(why)
        if work.lists_policy(name, new):
            return new
        work.warnings.append(
            f"the publisher policy of {name} was damaged or lost: the new one was not "
            "compared with it, and devices that saw a higher epoch refuse it; what it "
            "alone said of layouts, statements, summaries, revoked functionaries, the "
            "minimum version and downgrades counts no more"
        )
        return None


def require_lost(why: FetchError | VerificationError) -> None:
    """Raise what says that a file may be there still: one answer failed.

    Raises:
        FetchError: `why`; nobody may write anything in its place.
    """
    if isinstance(why, FetchError) and not why.missing:
        raise why


def _restore(work: Work, name: ReleaseName, policy: PublisherPolicy) -> bool:
    """Stage the bytes of a policy that is listed already, if they are gone."""
    try:
        work.policy(name)
    except (FetchError, VerificationError) as why:
        require_lost(why)
        work.stage(name.policy_path(FORMAT), policy.to_bytes())
        work.warnings.append(
            f"the publisher policy of {name} was damaged or lost, and is there again"
        )
        return True
    return False


def reinstate(work: Work, name: ReleaseName, version: Version) -> bool:
    """Make the withdrawals of a release void; see `Edit.reinstate`."""
    one = work.require_listed(name, version)
    policy = work.require_policy(name)
    # Withdrawals and reinstatements are about bytes, whatever versions they have.
    marked = [
        other
        for other in work.listed(name)
        if other.artifact == one.artifact
        and other.entry is not None
        and other.entry.withdrawn is not None
    ]
    if one.entry is None or not marked:
        raise RefusedError(
            f"{name} {version} is not withdrawn",
            hint="devices may install it; nothing was changed",
        )
    artifact = one.entry.artifact
    others = (other for other in policy.reinstated if other.artifact != artifact)
    up_to = work.state.version(work.deciding(name))
    new = Reinstatement(artifact=artifact, up_to=up_to)
    return set_policy(work, name, replace(policy, reinstated=(*others, new)))


def void_marks(work: Work, name: ReleaseName, policy: PublisherPolicy) -> set[str]:
    """Return the paths whose mark `withdrawn` a policy makes void."""
    if not policy.reinstated:
        return set()
    version = work.state.version(work.deciding(name))
    return {
        one.path
        for one in work.listed(name)
        if one.entry is not None
        and one.entry.withdrawn is not None
        and one.path not in work.withdrawn
        and rules.is_reinstated(policy, one.entry.artifact, version)
    }


def _usable_again(
    work: Work, name: ReleaseName, policy: PublisherPolicy
) -> set[Version]:
    """Return what devices install although it is marked `withdrawn`."""
    void = void_marks(work, name, policy)
    return {
        one.version
        for one in work.listed(name)
        if one.path in void and not rules.is_barred(policy, one.version)
    }


def _expect(work: Work, name: ReleaseName, versions: set[Version]) -> None:
    """Have devices look at the content of releases before anything is published.

    In a registry it lies where the records say: there `repo check` looks at it.
    """
    if versions and work.place.is_own:
        work.releases.setdefault(name, set()).update(versions)


def drop_void_marks(work: Work) -> None:
    """Drop the void marks of every application whose list is signed again.

    Signed again, a mark would count as a new withdrawal.
    """
    for role in tuple(work.changes.touched):
        for name in work.applications_of(role):
            try:
                policy = work.policy(name)
            except (FetchError, VerificationError) as why:
                # Another application's lost policy is no reason to leave this one.
                work.warnings.append(
                    f"the policy of {name} can't be read, so a withdrawal that it "
                    f"makes void would count again: {why}"
                )
                continue
            if policy is None:
                continue
            void = void_marks(work, name, policy)
            for one in work.listed(name):
                if one.path in void and one.entry is not None:
                    entry = replace(one.entry, withdrawn=None)
                    work.put_entry(role, one.path, entry)
                    # It may have come with its mark, and without its content.
                    if not rules.is_barred(policy, one.version):
                        work.applications.add(name)
                        _expect(work, name, {one.version})
