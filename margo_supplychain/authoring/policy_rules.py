"""What a change of a publisher policy loosens or breaks, said aloud; pure.

Each of these is allowed: the publisher's offline key decides. None of them should be a
surprise, so whoever signs it reads one line for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.formats.times import format_span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from margo_supplychain.formats.attestation_rules import AttestationRule, SummaryRule
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.versions import Version

_MANY = 20  # names in one line: whoever signs should see each release that stays


def changes_said(
    name: ReleaseName,
    old: PublisherPolicy | None,
    new: PublisherPolicy,
    known: Mapping[Digest, Version],
    *,
    needless: frozenset[int] = frozenset(),
) -> list[str]:
    """Return what follows from one policy in the place of another.

    Args:
        name: the application.
        old: the policy before, if there is one.
        new: what is signed now.
        known: versions of the releases that they name, as far as they are listed.
        needless: layouts of which it is known that no release was made by them.
    """
    found = list(_without_layout(name, new))
    if old is None:
        return found
    if old.provenance == "required" and new.provenance == "none":
        found.append(
            f"devices no longer demand provenance of {name}: what its release key "
            "signs is enough, unless a device's own policy demands more"
        )
    found += _layouts(name, old, new, known, needless)
    found += _statements(name, old, new)
    found += _functionaries(name, old, new, known)
    return found


def _without_layout(name: ReleaseName, new: PublisherPolicy) -> Iterator[str]:
    if new.provenance == "required" and not any(
        one.range is not None for one in new.layouts
    ):
        yield (
            f"provenance of {name} is required, and no layout is current: no new "
            "release can be published; list one with --layout FILE --serves RANGE"
        )


def _layouts(
    name: ReleaseName,
    old: PublisherPolicy,
    new: PublisherPolicy,
    known: Mapping[Digest, Version],
    needless: frozenset[int],
) -> Iterator[str]:
    standing = {one.number: one for one in new.layouts}
    for rule in old.layouts:
        now = standing.get(rule.number)
        if now is None:
            if rule.number not in needless:
                made = versions(rule.releases, known) or "what was made by it"
                yield (
                    f"layout {rule.number} of {name} is dropped: devices refuse {made}"
                )
            continue
        lost = [one for one in rule.releases if one not in now.releases]
        if lost and now.range is None:
            yield (
                f"layout {rule.number} of {name} no longer serves "
                f"{versions(lost, known)}: devices refuse that"
            )
        if rule.expires != now.expires:
            end = (
                "as its file says" if now.expires is None else f"{now.expires:%Y-%m-%d}"
            )
            yield f"layout {rule.number} of {name} ends {end}"


def _statements(
    name: ReleaseName, old: PublisherPolicy, new: PublisherPolicy
) -> Iterator[str]:
    standing = {one.type: one for one in new.attestations}
    for rule in old.attestations:
        given = standing.get(rule.type)
        what = f"{rule.type} of {name}"
        if given is None:
            yield f"releases of {name} need no {rule.type} any more"
            continue
        yield from _signers(what, rule, given)
        yield from _named(f"{what} may name", "builder", rule.builders, given.builders)
        yield from _named(f"{what} may name", "source", rule.sources, given.sources)
    if old.summary is None:
        return
    if new.summary is not None:
        yield from _signers(f"a summary of {name}", old.summary, new.summary)
        before, now = old.summary.max_age, new.summary.max_age
        if now > before:
            yield (
                f"a summary of {name} counts for {format_span(now)}, and counted for "
                f"{format_span(before)}"
            )
    else:
        yield (
            f"no verification summary of {name} counts any more: devices that take "
            "them need one by a key of their own policy"
        )


def _signers(
    what: str, old: AttestationRule | SummaryRule, new: AttestationRule | SummaryRule
) -> Iterator[str]:
    """Yield how others, or fewer, may sign something from now on."""
    if new.threshold < old.threshold:
        yield (
            f"{what} needs {new.threshold} of {len(new.keyids)} signatures, and needed "
            f"{old.threshold} of {len(old.keyids)}"
        )
    more = [one[:12] for one in new.keyids if one not in old.keyids]
    if more:
        yield f"{what} counts by {_few(more)} as well"
    lost = [one[:12] for one in old.keyids if one not in new.keyids]
    if lost:
        yield f"{what} counts no more by {_few(lost)}"


def _named(
    what: str, kind: str, old: Sequence[str], new: Sequence[str]
) -> Iterator[str]:
    """Yield which builders or sources are good enough from now on."""
    if not old:
        return  # any was
    if not new:
        yield f"{what} any {kind}"
        return
    more = [one for one in new if one not in old]
    if more:
        yield f"{what} the {kind} {_few(more)} as well"


def _functionaries(
    name: ReleaseName,
    old: PublisherPolicy,
    new: PublisherPolicy,
    known: Mapping[Digest, Version],
) -> Iterator[str]:
    standing = {one.key: one for one in new.revoked_functionaries}
    before = {one.key: one for one in old.revoked_functionaries}
    for key, one in before.items():
        now = standing.get(key)
        if now is None:
            yield f"links of {name} by {key[:12]} count again"
            continue
        lost = [each for each in one.survivors if each not in now.survivors]
        if lost:
            yield f"of {name} by {key[:12]} survives no more: {versions(lost, known)}"
        more = [each for each in now.survivors if each not in one.survivors]
        if more:
            yield f"of {name} by {key[:12]} survives as well: {versions(more, known)}"


def versions(releases: Iterable[Digest], known: Mapping[Digest, Version]) -> str:
    """Return releases by their versions, or by digest where none is listed."""
    return _few([str(known.get(one, one.short)) for one in releases])


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return ", ".join(names[:_MANY]) + more
