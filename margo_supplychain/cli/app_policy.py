"""The publisher policy on the command line: what to change, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from margo_supplychain.cli.app_proof import type_name
from margo_supplychain.cli.arguments import NONE
from margo_supplychain.cli.describe import date, distance, now, span
from margo_supplychain.errors import (
    FetchError,
    RefusedError,
    SupplyChainError,
    VerificationError,
)
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from margo_supplychain.authoring.edit import Edit
    from margo_supplychain.cli.app_proof import GivenKeys, ProofChanges
    from margo_supplychain.formats.attestation_rules import AttestationRule
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import (
        LayoutRule,
        Provenance,
        PublisherPolicy,
    )
    from margo_supplychain.formats.release_entry import ReleaseEntry
    from margo_supplychain.formats.versions import Version

NO_ENDS: Final[Mapping[int, datetime | None]] = MappingProxyType({})
_MANY: Final = 5  # releases in one line


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChanges:
    """What `app policy` shall change; None and an empty list change nothing.

    Args:
        minimum_version: a version, or `none`.
        reinstate: releases by version or artifact digest.
        downgrade_to: likewise; all of them, or `none`.
        proof: what is demanded of how releases are made.
    """

    epoch: int | None
    provenance: Provenance | None
    minimum_version: Version | str | None
    reinstate: Sequence[Version | Digest]
    downgrade_to: Sequence[Version | Digest | str]
    proof: ProofChanges

    @property
    def any(self) -> bool:
        """Whether anything was asked for."""
        return self.proof.any or any(
            one not in (None, ())
            for one in (
                self.epoch,
                self.provenance,
                self.minimum_version,
                self.reinstate,
                self.downgrade_to,
            )
        )

    def apply(self, edit: Edit, name: ReleaseName, given: GivenKeys) -> bool:
        """Change the policy in an edit; return whether that made a difference.

        Args:
            edit: where.
            name: whose policy.
            given: the public keys and the layout that `proof` names.

        Raises:
            RefusedError: no such application or release, or a rule against it.
        """
        releases = edit.releases(name)
        changed = False
        for one in self.reinstate:
            for version in _versions(releases, one, name):
                changed = edit.reinstate(name, version) or changed
        if self.proof.layout is not None:
            before = edit.policy(name)
            self.proof.apply_layout(edit, name, given)
            changed = edit.policy(name) != before or changed
        policy = self._standing(edit, name)
        if self.epoch is not None:
            policy = replace(policy, epoch=self.epoch)
        if self.provenance is not None:
            policy = replace(policy, provenance=self.provenance)
        if self.minimum_version is not None:
            wanted = self.minimum_version
            policy = replace(
                policy, minimum_version=None if isinstance(wanted, str) else wanted
            )
        if self.downgrade_to:
            policy = replace(
                policy, downgrade_to=_digests(releases, self.downgrade_to, name)
            )
        if self.proof.any:
            policy = self.proof.applied(
                policy,
                given,
                _survivors(edit, name, self.proof.survivors),
                edit.functionaries(name) if self.proof.revoked else (),
            )
        return edit.set_policy(name, policy) or changed

    def _standing(self, edit: Edit, name: ReleaseName) -> PublisherPolicy:
        """Return the policy as it stands; when its file is lost, what is given.

        Raises:
            FetchError: it can't be read now: nothing takes its place.
        """
        from margo_supplychain.authoring.policies import require_lost
        from margo_supplychain.formats.publisher_policy import PublisherPolicy

        try:
            return require_policy(edit, name)
        except (FetchError, VerificationError) as why:
            require_lost(why)
            if self.epoch is None or self.provenance is None:
                raise
            return PublisherPolicy(epoch=self.epoch, provenance=self.provenance)


def require_policy(edit: Edit, name: ReleaseName) -> PublisherPolicy:
    """Return an application's policy.

    Raises:
        RefusedError: there is no such application.
    """
    policy = edit.policy(name)
    if policy is None:
        raise RefusedError(
            f"there is no application {name} here",
            hint=f"add it with the offline key: margo-supplychain app add {name}",
        )
    return policy


def policy_data(policy: PublisherPolicy) -> Any:
    """Return a policy as JSON: exactly what its file says."""
    data = policy.to_bytes()
    return strict_json.parse(data, what="publisher policy", limit=len(data))


def layout_ends(
    edit: Edit, name: ReleaseName, policy: PublisherPolicy
) -> dict[int, datetime | None]:
    """Return when each layout ends, by number; None of one that can't be read."""
    from margo_supplychain.authoring.layouts import LayoutFile

    found: dict[int, datetime | None] = {}
    for rule in policy.layouts:
        found[rule.number] = rule.expires
        if rule.expires is None:
            try:
                data = edit.layout(name, rule.number)
                file = LayoutFile.parse(data, what=f"layout {rule.number}")
            except SupplyChainError:
                continue  # `repo check` says why
            found[rule.number] = file.layout.expires
    return found


def policy_lines(
    policy: PublisherPolicy,
    releases: Mapping[Version, ReleaseEntry],
    ends: Mapping[int, datetime | None] = NO_ENDS,
    *,
    named: Mapping[Digest, Version],
) -> list[tuple[str, str]]:
    """Return a policy for people, as names and values.

    Args:
        policy: as it stands.
        releases: by version.
        ends: when layouts end, as far as their files were read.
        named: versions of the releases that it names one by one.
    """
    what = [f"epoch {policy.epoch}", f"provenance {policy.provenance}"]
    if policy.minimum_version is not None:
        what.append(f"minimum {policy.minimum_version}")
    lines = [("policy", ", ".join(what))]
    lines += [
        ("reinstated", f"{_named(one.artifact, releases)} up to role v{one.up_to}")
        for one in policy.reinstated
    ]
    lines += [("downgrade to", _named(one, releases)) for one in policy.downgrade_to]
    lines += [
        (f"layout {rule.number}", layout_text(rule, named, ends.get(rule.number)))
        for rule in policy.layouts
    ]
    lines += [("statement", _statement(rule)) for rule in policy.attestations]
    if policy.summary is not None:
        rule = policy.summary
        lines.append(
            (
                "summary",
                f"{_by(rule.keyids, rule.threshold)}, at most {span(rule.max_age)} old",
            )
        )
    lines += _revoked(policy, named)
    return lines


def layout_text(
    rule: LayoutRule,
    named: Mapping[Digest, Version],
    ends: datetime | None = None,
) -> str:
    """Return which releases a layout serves: `serves ^1.0`, or which it still does.

    Args:
        rule: what the policy says of it.
        named: versions of the releases that the policy names one by one.
        ends: as its file says, if that was read.
    """
    if rule.range is not None:
        text = f"serves {rule.range}"
    else:
        names = [_released(one, named) for one in rule.releases[:_MANY]]
        if len(rule.releases) > _MANY:
            names.append(f"{len(rule.releases) - _MANY} more")
        text = f"superseded, serves {', '.join(names)} alone"
    end = rule.expires or ends
    if end is None:
        return text
    at = now()
    word = "until" if end > at else "expired"
    return f"{text}, {word} {date(end)}, {distance(end, at=at)}"


def _statement(rule: AttestationRule) -> str:
    text = f"{type_name(rule.type)} {_by(rule.keyids, rule.threshold)}"
    if rule.builders:
        text += f", built by {' or '.join(rule.builders)}"
    if rule.sources:
        text += f", from {' or '.join(rule.sources)}"
    return text


def _by(keyids: Sequence[str], threshold: int) -> str:
    names = ", ".join(one[:12] for one in keyids)
    return f"by {names}" if len(keyids) == 1 else f"by {threshold} of {names}"


def _revoked(
    policy: PublisherPolicy, named: Mapping[Digest, Version]
) -> list[tuple[str, str]]:
    """Return the revoked functionaries, those with the same survivors in one line.

    A functionary stands there by key id and by material, so that no other id helps.
    """
    found: dict[tuple[Digest, ...], list[str]] = {}
    for one in policy.revoked_functionaries:
        found.setdefault(one.survivors, []).append(one.key[:12])
    lines = []
    for survivors, keys in found.items():
        names = [_released(one, named) for one in survivors[:_MANY]]
        if len(survivors) > _MANY:
            names.append(f"{len(survivors) - _MANY} more")
        left = f"{', '.join(names)} survive" if names else "nothing survives"
        lines.append(("revoked", f"{', '.join(keys)}: {left}"))
    return lines


def command_to_allow(
    name: ReleaseName,
    policy: PublisherPolicy,
    releases: Mapping[Version, ReleaseEntry],
    wanted: Version,
) -> str | None:
    """Return the command that lets devices go back to a release; None if they may.

    It names what is allowed already, too: `--downgrade-to` says all of it.
    """
    if releases[wanted].artifact in policy.downgrade_to:
        return None
    by_artifact = {entry.artifact: version for version, entry in releases.items()}
    allowed = [by_artifact.get(one, one) for one in policy.downgrade_to]
    options = " ".join(f"--downgrade-to {one}" for one in (*allowed, wanted))
    return f"margo-supplychain app policy {name} {options}"


def _named(artifact: Digest, releases: Mapping[Version, ReleaseEntry]) -> str:
    versions = [
        str(one) for one, entry in releases.items() if entry.artifact == artifact
    ]
    return f"{', '.join(versions) or 'no release'} ({artifact.short})"


def _released(release: Digest, named: Mapping[Digest, Version]) -> str:
    return f"{named.get(release, 'no release')} ({release.short})"


def _survivors(
    edit: Edit, name: ReleaseName, wanted: Sequence[Version | Digest | str]
) -> tuple[Digest, ...]:
    """Return releases as policies name them: each by the digest of its record's say.

    A digest is one of an artifact, of each release that has it; or one that the policy
    names already, whatever is listed today.

    Raises:
        RefusedError: no such release.
    """
    releases = edit.releases(name)
    standing = {
        each
        for one in require_policy(edit, name).revoked_functionaries
        for each in one.survivors
    }
    found: dict[Digest, None] = {}
    for one in wanted:
        if isinstance(one, Digest):
            if one in standing:
                found[one] = None
                continue
            chosen = [
                version for version, entry in releases.items() if entry.artifact == one
            ]
            made = {edit.record(name, version).release for version in chosen} or {
                one
            } & {edit.record(name, version).release for version in releases}
            if not made:
                raise _unknown(name, str(one))
            found.update(dict.fromkeys(sorted(made, key=str)))
        elif one != NONE:
            if one not in releases:
                raise _unknown(name, str(one))
            found[edit.record(name, cast("Version", one)).release] = None
    return tuple(found)


def _versions(
    releases: Mapping[Version, ReleaseEntry],
    wanted: Version | Digest,
    name: ReleaseName,
) -> list[Version]:
    if not isinstance(wanted, Digest):
        return [wanted]
    found = [one for one, entry in releases.items() if entry.artifact == wanted]
    if not found:
        raise _unknown(name, str(wanted))
    return found


def _digests(
    releases: Mapping[Version, ReleaseEntry],
    wanted: Sequence[Version | Digest | str],
    name: ReleaseName,
) -> tuple[Digest, ...]:
    found: dict[Digest, None] = {}
    for one in wanted:
        if isinstance(one, Digest):
            found[one] = None
        elif one != NONE:
            entry = next(
                (entry for version, entry in releases.items() if version == one), None
            )
            if entry is None:
                raise _unknown(name, str(one))
            found[entry.artifact] = None
    return tuple(found)


def _unknown(name: ReleaseName, wanted: str) -> RefusedError:
    return RefusedError(
        f"there is no release {name} {wanted}",
        hint=f"`margo-supplychain release show {name}` lists releases and artifacts",
    )
