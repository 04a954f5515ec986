"""What an author may change, as pure rules over releases and policies.

They protect an author from what no device would accept, or what could not be taken
back. Each is an error of the one who asks (exit code 2); nothing was changed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import RefusedError
from margo_supplychain.formats.publisher_policy import MAX_EPOCH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from margo_supplychain.authoring.plan import Profile
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.formats.versions import Version
    from margo_supplychain.verify.resolve import Candidate

# Devices read the whole list; about 300 bytes each.
MANY_RELEASES: Final = 2_000
_MANY: Final = 5  # names in one line


def same_release(one: ReleaseRecord, other: ReleaseRecord) -> bool:
    """Say whether two records are the same release.

    When it was made and where it can be found are hints, and no part of what it is.
    """
    return replace(one, created=other.created, locations=other.locations) == other


def listed_version(listed: Sequence[Candidate], version: Version) -> Candidate | None:
    """Return the listed release with the same precedence, if there is one."""
    for one in listed:
        if one.version.same_precedence(version):
            return one
    return None


def other_bytes(name: ReleaseName, listed: Version, asked: Version) -> RefusedError:
    """Return the error for a version that is taken."""
    if str(listed) != str(asked):
        return RefusedError(
            f"{name} {listed} exists, and {asked} has the same precedence",
            hint="build metadata after + does not make a version newer: raise the "
            "version",
        )
    return RefusedError(
        f"{name} {asked} exists with other bytes",
        hint="a release never changes: raise the version",
    )


def check_release(
    release: Release | ReleaseRecord,
    policy: PublisherPolicy,
    listed: Sequence[Candidate],
    *,
    role_version: int,
) -> None:
    """Refuse a new release that no device would take.

    Args:
        release: the new one, or its record.
        policy: its publisher policy.
        listed: what the application's role lists.
        role_version: the role's trusted version.

    Raises:
        RefusedError: below the minimum, or withdrawn.
    """
    what = f"{release.name} {release.version}"
    minimum = policy.minimum_version
    if minimum is not None and release.version < minimum:
        raise RefusedError(
            f"{what} is below the publisher's minimum {minimum}",
            hint="raise the version, or lower the minimum with `app policy` and the "
            "offline key",
        )
    for one in listed:
        entry = one.entry
        if entry is None or entry.artifact != release.artifact.digest:
            continue
        if entry.withdrawn is not None and not is_reinstated(
            policy, entry.artifact, role_version
        ):
            raise RefusedError(
                f"{what} has the artifact {entry.artifact.short} of {one.version}, "
                f"which is withdrawn: {entry.withdrawn.reason}",
                hint="withdrawn bytes do not come back under another version; the "
                "publisher's offline key can reinstate them",
            )
        # Only a package has a version of its own that can be changed.
        is_package = release.application_version is not None
        raise RefusedError(
            f"{what} has the same bytes as {one.version}: releases are withdrawn, "
            "confirmed and pinned by their digest",
            hint="change metadata.version or a revision in margo.yaml, and build again"
            if is_package
            else f"it is released already: pin {one.version}, or adopt other bytes",
        )


def layout_of(
    release: ReleaseRecord, policy: PublisherPolicy, *, has_links: bool
) -> int | None:
    """Return the number of the layout that a new release is made by.

    Args:
        release: the new one's record, which names none yet.
        policy: its publisher policy.
        has_links: whether links of steps come with it.

    Returns:
        None if it needs none: nothing proves it, and nothing must.

    Raises:
        RefusedError: none serves it, and links would prove nothing; or there are none
            and the policy demands them.
    """
    if not has_links:
        if policy.provenance != "required":
            return None
        raise RefusedError(
            f"the publisher policy of {release.name} demands provenance, and no link "
            f"of a step comes with {release.version}",
            hint="publish it with what its pipeline recorded: --attestation FILE",
        )
    found = policy.layout_for(release.version, release.release)
    if found is not None:
        return found.number
    current = [
        f"layout {one.number} serves {one.range}"
        for one in policy.layouts
        if one.range is not None
    ]
    text = f"no layout of {release.name} serves {release.version}"
    if current:
        text += f": {', '.join(current[-_MANY:])}"
    elif policy.provenance != "required":
        text = f"no layout of {release.name} says what its links must prove"
    raise RefusedError(
        text,
        hint="list one with the offline key: margo-supplychain app policy "
        f"{release.name} --layout FILE --serves RANGE",
    )


def never_proven(record: ReleaseRecord, policy: PublisherPolicy) -> list[str]:
    """Say of a new release that it leaves out what a layout is there for.

    Args:
        record: the release's.
        policy: its publisher policy, which does not demand provenance yet.
    """
    rule = policy.layout_for(record.version, record.release)
    if rule is None or record.layout is not None:
        return []
    text = f"layout {rule.number} serves {record.version} of {record.name}, but no "
    text += "links come with it, and a record never changes: devices that demand "
    return [f"{text}provenance will refuse it"]


def is_barred(policy: PublisherPolicy, version: Version) -> bool:
    """Say whether a policy lets no device take a version, whatever is listed."""
    minimum = policy.minimum_version
    return minimum is not None and version < minimum


def check_use(one: Candidate, other: Candidate, policy: PublisherPolicy) -> None:
    """Refuse a release to use instead of another if devices could not install it.

    Raises:
        RefusedError: the same bytes, withdrawn, or below the minimum.
    """
    why = None
    minimum = policy.minimum_version
    if other.entry is None or other.entry.withdrawn is not None:
        why = "it is withdrawn itself"
    elif other.artifact == one.artifact:
        why = "it has the same package"
    elif minimum is not None and other.version < minimum:
        why = f"it is below the publisher's minimum {minimum}"
    if why is not None:
        raise RefusedError(
            f"{other.version} can't be used instead of {one.version}: {why}",
            hint="name a version that devices may install",
        )


def policy_warnings(
    name: ReleaseName, policy: PublisherPolicy, listed: Sequence[Candidate]
) -> list[str]:
    """Return what follows from a policy that its author may not have meant."""
    found = []
    minimum = policy.minimum_version
    if minimum is not None and listed and listed[0].version < minimum:
        found.append(
            f"the minimum {minimum} bars every listed release of {name}: the newest is "
            f"{listed[0].version}"
        )
    if minimum is not None:
        found += [
            f"going back to {one.version} of {name} stays barred: it is below the "
            f"minimum {minimum}"
            for one in listed
            if one.artifact in policy.downgrade_to and one.version < minimum
        ]
    if policy.epoch >= MAX_EPOCH:
        found.append(
            f"{policy.epoch} is the last epoch that {name} can ever have: its minimum "
            "version can't be taken back by a new one"
        )
    return found


def unserved(
    name: ReleaseName,
    old: PublisherPolicy | None,
    new: PublisherPolicy,
    listed: Sequence[Candidate],
    *,
    release_of: Callable[[Candidate], Digest | None],
) -> list[str]:
    """Say which releases have no layout since a change, where links aren't at hand.

    Args:
        name: the application.
        old: the policy before, if there is one.
        new: what follows it.
        listed: what the application's role lists.
        release_of: returns `ReleaseRecord.release`; None if that can't be told.
    """

    def bare(policy: PublisherPolicy | None) -> list[Candidate]:
        if policy is None or policy.provenance != "required":
            return []
        return [
            one
            for one in listed
            if policy.layout_for(one.version) is None
            and not _may_serve(policy, one, release_of)
        ]

    before = bare(old)
    found = [str(one.version) for one in bare(new) if one not in before]
    if not found:
        return []
    more = f" and {len(found) - _MANY} more" if len(found) > _MANY else ""
    names = ", ".join(found[:_MANY]) + more
    return [f"devices refuse {names} of {name} from now on: no layout serves them"]


def _may_serve(
    policy: PublisherPolicy,
    one: Candidate,
    release_of: Callable[[Candidate], Digest | None],
) -> bool:
    """Say whether a superseded layout serves a release, as far as can be told."""
    if all(rule.range is not None for rule in policy.layouts):
        return False
    release = release_of(one)
    return release is None or policy.layout_for(one.version, release) is not None


def is_reinstated(policy: PublisherPolicy, artifact: Digest, role_version: int) -> bool:
    """Say whether withdrawals of an artifact up to a role's version are void."""
    return any(
        one.artifact == artifact and role_version <= one.up_to
        for one in policy.reinstated
    )


def check_policy(
    name: ReleaseName,
    old: PublisherPolicy | None,
    new: PublisherPolicy,
    *,
    profile: Profile,
    listed: Sequence[Candidate],
    role_version: int,
) -> None:
    """Refuse a publisher policy that can't follow the one before.

    Args:
        name: the application.
        old: the policy before, if there is one.
        new: what is asked for.
        profile: of the repository.
        listed: what the application's role lists.
        role_version: the role's trusted version, 0 before the first.

    Raises:
        RefusedError: the epoch falls, or rises without a higher minimum; an artifact
            that no release has; a layout whose number had another; provenance in the
            profile simple.
    """
    if profile == "simple" and (new.provenance != "none" or new.attestations):
        raise RefusedError(
            "a repository of the profile simple can't demand provenance: one role says "
            "what is required and what was done",
            hint="set provenance to none, or make a repository of the profile small",
        )
    if old is not None:
        _check_epoch(name, old, new)
        _check_layouts(name, old, new)
    known = {one.artifact for one in listed if one.artifact is not None}
    for artifact in (
        *(one.artifact for one in new.reinstated),
        *new.downgrade_to,
    ):
        if artifact not in known:
            raise RefusedError(
                f"no release of {name} has the artifact {artifact}",
                hint="`margo-supplychain release show` lists releases and artifacts",
            )
    before = old.reinstated if old is not None else ()
    for one in new.reinstated:
        if one not in before and one.up_to > role_version:
            raise RefusedError(
                f"reinstating {one.artifact.short} up to v{one.up_to} would void "
                f"withdrawals to come: the role of {name} is at v{role_version}",
                hint=f"reinstate up to v{role_version}",
            )


def _check_layouts(
    name: ReleaseName, old: PublisherPolicy, new: PublisherPolicy
) -> None:
    """Refuse another layout under a number that records may name."""
    known = {one.number: one.digest for one in old.layouts}
    for one in new.layouts:
        if known.get(one.number, one.digest) != one.digest:
            raise RefusedError(
                f"layout {one.number} of {name} is {known[one.number].short}, and "
                f"would become {one.digest.short}: a layout never changes",
                hint="give the new one the next number",
            )


def _check_epoch(name: ReleaseName, old: PublisherPolicy, new: PublisherPolicy) -> None:
    if new.epoch < old.epoch:
        raise RefusedError(
            f"the epoch of {name} would fall from {old.epoch} to {new.epoch}",
            hint="devices that saw the higher epoch would refuse every release",
        )
    if new.epoch == old.epoch:
        return
    before = old.minimum_version
    if new.minimum_version is None or (
        before is not None and new.minimum_version <= before
    ):
        raise RefusedError(
            f"a higher epoch of {name} needs a minimum version"
            + (f" above {before}" if before is not None else ""),
            hint="a new epoch lets devices go back to any version from the minimum on: "
            "say which with --minimum-version",
        )
