"""Layouts in a publisher's role: listed by number, current or superseded.

The policy says which layout serves which versions, so a new one takes the place of
those whose range it shares a version with. What was made by them stays good: they
serve on exactly the releases whose records name them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from margo_supplychain.authoring import (
    identities,
    layouts,
    policies,
    policy_keys,
    policy_rules,
)
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    FetchError,
    RefusedError,
    SupplyChainError,
    VerificationError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.fields import moment
from margo_supplychain.formats.npm_overlap import left_over
from margo_supplychain.formats.npm_ranges import parse_range
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import LayoutRule
from margo_supplychain.formats.times import format_time
from margo_supplychain.provenance.layouts import read_layout
from margo_supplychain.threshold import material

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from securesystemslib.signer import Key

    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.versions import Version
    from margo_supplychain.provenance.layouts import Layout


def add_layout(
    work: Work,
    name: ReleaseName,
    envelope: bytes,
    *,
    serves: Pin,
    expires: datetime | None = None,
) -> int:
    """List a layout; see `Edit.add_layout`."""
    if work.is_simple:
        raise RefusedError(
            "a repository of the profile simple has no layouts: one role says what is "
            "required and what was done",
            hint="make a repository of the profile small or standard",
        )
    policy = work.require_policy(name)
    serves = _range(serves)
    file = layouts.LayoutFile.parse(envelope, what="the layout")
    digest = Digest.of(envelope)
    _require_signed(work, name, file, digest)
    _require_time(work, file.layout, expires)
    work.warnings.extend(layouts.check(file.layout, expires=expires))
    policy_keys.check_functionaries(work, name, file.layout)
    for rule in policy.layouts:
        if (rule.digest, rule.range) == (digest, serves):
            return _again(work, name, policy, rule, envelope, expires)
    number = _next_number(work, name, policy, digest)
    kept, needless = _superseded(work, name, policy, serves, number)
    rule = LayoutRule(number=number, digest=digest, range=serves, expires=expires)
    work.put(work.offline(name), name.layout_path(number), envelope, custom=None)
    for one in needless:
        work.changes.change(work.offline(name)).targets.pop(name.layout_path(one), None)
    policies.set_policy(
        work, name, replace(policy, layouts=(*kept, rule)), needless=frozenset(needless)
    )
    return number


def layout_of(work: Work, name: ReleaseName, number: int) -> bytes:
    """Return a listed layout's envelope; see `Edit.layout`."""
    policy = work.require_policy(name)
    if policy.layout(number) is None:
        known = ", ".join(str(one.number) for one in policy.layouts) or "none"
        raise RefusedError(
            f"{name} has no layout {number}",
            hint=f"layouts of {name}: {known}",
        )
    return _read(work, name, number)


def _read(work: Work, name: ReleaseName, number: int) -> bytes:
    path = name.layout_path(number)
    file = work.changes.view(work.offline(name)).targets.get(path)
    if file is None:
        raise RefusedError(
            f"{work.offline(name)} does not list layout {number} of {name}",
            hint="list it again, from a backup: app policy --layout FILE --serves "
            "RANGE",
        )
    return work.read(path, file, limit=LIMITS.layout)


def functionaries(work: Work, name: ReleaseName) -> tuple[Key, ...]:
    """Return the keys of all functionaries; see `Edit.functionaries`."""
    return functionaries_of(work, name, work.require_policy(name))


def functionaries_of(
    work: Work, name: ReleaseName, policy: PublisherPolicy
) -> tuple[Key, ...]:
    """Return the keys of all functionaries of a policy's layouts.

    Each has the id that a layout calls it by. One id may be of several keys, and one
    key have several: whoever is revoked by an id is revoked with all of them.
    """
    found: dict[tuple[str, str], Key] = {}
    for rule in policy.layouts:
        try:
            data = _read(work, name, rule.number)
            layout, _ = read_layout(data, what=f"layout {rule.number}")
        except SupplyChainError as why:  # a functionary of another is revoked, even so
            work.warnings.append(f"layout {rule.number} of {name} can't be read: {why}")
            continue
        for keyid, key in layout.keys.items():
            found.setdefault((keyid, material(key)), key)
    return tuple(found.values())


def _again(
    work: Work,
    name: ReleaseName,
    policy: PublisherPolicy,
    rule: LayoutRule,
    envelope: bytes,
    expires: datetime | None,
) -> int:
    """Keep a layout that is current already; bring its bytes back if they are gone."""
    try:
        layout_of(work, name, rule.number)
    except (FetchError, VerificationError) as why:
        policies.require_lost(why)
        work.stage(name.layout_path(rule.number), envelope)
        work.applications.add(name)
        work.warnings.append(
            f"layout {rule.number} of {name} was damaged or lost, and is there again"
        )
    if expires is not None:
        changed = (
            replace(one, expires=expires) if one is rule else one
            for one in policy.layouts
        )
        policies.set_policy(work, name, replace(policy, layouts=tuple(changed)))
    return rule.number


def _range(serves: Pin) -> Pin:
    """Return the versions that a layout shall serve as a range.

    Raises:
        RefusedError: a digest: what is to be made by a layout has none yet.
    """
    if serves.grammar is not None:
        return serves
    if serves.digest is not None or serves.version is None:
        raise RefusedError(
            f"a layout serves a range of versions, not {serves}",
            hint="name a range such as '^1.0': releases are made by it from now on",
        )
    return Pin.range(str(serves.version), grammar="npm")


def _next_number(
    work: Work, name: ReleaseName, policy: PublisherPolicy, digest: Digest
) -> int:
    """Return a number that no layout of the application has, or had just now.

    The same bytes get the number back under which they are listed, if the policy has
    lost it: records name that number.
    """
    numbers = [one.number for one in policy.layouts]
    start = name.layout_path(1).removesuffix("1.json")
    for path, file in work.changes.view(work.offline(name)).targets.items():
        last = path.removeprefix(start).removesuffix(".json")
        if not path.startswith(start) or not (last.isascii() and last.isdigit()):
            continue
        is_lost = policy.layout(int(last)) is None
        if is_lost and file.hashes.get("sha256") == digest.hex:
            return int(last)
        numbers.append(int(last))
    return max(numbers, default=0) + 1


def _superseded(
    work: Work,
    name: ReleaseName,
    policy: PublisherPolicy,
    serves: Pin,
    number: int,
) -> tuple[list[LayoutRule], list[int]]:
    """Return the rules that stay beside a new layout, and the numbers of the others."""
    kept: list[LayoutRule] = []
    needless: list[int] = []
    for rule in policy.layouts:
        if rule.range is None or not rule.range.overlaps(serves):
            kept.append(rule)
            continue
        made = _made_by(work, name, rule)
        if not made:
            needless.append(rule.number)
            work.warnings.append(
                f"layout {rule.number} of {name}, which served {rule.range}, is "
                f"dropped: layout {number} takes its place, and nothing was made by it"
            )
            continue
        kept.append(replace(rule, range=None, releases=tuple(made)))
        work.warnings.append(
            f"layout {rule.number} of {name}, which served {rule.range}, is "
            f"superseded by layout {number}: it serves "
            f"{policy_rules.versions(made, made)} and nothing new"
        )
    _warn_of_gaps(work, name, policy, kept, serves)
    return kept, needless


def _warn_of_gaps(
    work: Work,
    name: ReleaseName,
    policy: PublisherPolicy,
    kept: Sequence[LayoutRule],
    serves: Pin,
) -> None:
    """Say which versions had a layout, and have none any more."""
    current = [serves, *(one.range for one in kept if one.range is not None)]
    served = [parse_range(one.text) for one in current]
    for rule in policy.layouts:
        if rule.range is None or rule.range in current:
            continue
        missing = left_over(parse_range(rule.range.text), served)
        if missing is None:
            continue
        work.warnings.append(
            f"what is in {rule.range} and not in {serves}, from {missing} "
            f"of {name} on, has no layout now, so no links can be published with it: "
            f"if it shall have one, list the file of layout {rule.number} again, with "
            "a --serves that ends where the other begins"
        )


def _made_by(work: Work, name: ReleaseName, rule: LayoutRule) -> dict[Digest, Version]:
    """Return the listed releases that were made by a layout, with their versions."""
    found: dict[Digest, Version] = {}
    for one in work.listed(name):
        if rule.range is None or not rule.range.admits(one.version):
            continue
        try:
            record = identities.record(work, one)
        except (FetchError, VerificationError) as why:
            policies.require_lost(why)
            # Nothing else says what it released: not even its artifact does.
            work.warnings.append(
                f"the record of {one.version} was damaged or lost: layout "
                f"{rule.number} serves it no more, even if it was made by it, unless "
                "it is brought back before the layout is superseded"
            )
            continue
        if record.layout == rule.number:
            found[record.release] = one.version
    return found


def _require_signed(
    work: Work, name: ReleaseName, file: layouts.LayoutFile, digest: Digest
) -> None:
    """Refuse what the publisher's holders have not signed, each shown what it says.

    What their role lists for this application, they have agreed to: its bytes come
    back, or get another range, also when the keys have changed since.

    Raises:
        RefusedError: it has too few of their signatures.
    """
    who = work.changes.require_who(work.offline(name))
    start = name.layout_path(1).removesuffix("1.json")
    for path, known in work.changes.view(work.offline(name)).targets.items():
        if path.startswith(start) and known.hashes.get("sha256") == digest.hex:
            return
    signed = file.signers(who.keys)
    if len(signed) < who.threshold:
        raise RefusedError(
            f"the layout is signed by {len(signed)} of {who.threshold} keys of "
            f"{who.role}",
            hint="whoever holds its keys reads and signs it: margo-supplychain layout "
            "sign FILE",
        )


def _require_time(work: Work, layout: Layout, expires: datetime | None) -> None:
    if expires is not None:
        moment(expires, what="expires of a layout")
    end = layout.expires if expires is None else expires
    if end <= work.now:
        raise RefusedError(
            f"the layout expired {format_time(end)}: devices would refuse what is made "
            "by it",
            hint="build it anew with a later expiry, or give one: --layout-expires",
        )
