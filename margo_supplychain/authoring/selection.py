"""Which releases' content a copy takes: by name, by version, and never withdrawn ones.

Trust metadata is whole in every copy, so a device can always tell what there is; this
narrows only which bytes lie beside it.

Example:
    >>> from margo_supplychain.authoring.survey import survey
    >>> found = survey(source, trust=store, clock=clock)
    >>> list(choose(found, Selection(names=frozenset({name}))))
    ['acme/releases/pump-monitor/1.0.0']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    FetchError,
    FormatError,
    NoMatchingVersionError,
    VerificationError,
)
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.verify import artifact, chain, offline_role, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from margo_supplychain.authoring.survey import Survey
    from margo_supplychain.formats.pins import Pin
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.verify.resolve import Candidate


class Selection(NamedTuple):
    """What is asked for.

    Args:
        names: these applications; all of them if there are none.
        pin: these versions of them; all of them without one.
    """

    names: frozenset[ReleaseName] = frozenset()
    pin: Pin | None = None

    def takes(self, name: ReleaseName, one: Candidate) -> bool:
        """Say whether a listed release was asked for."""
        if self.names and name not in self.names:
            return False
        return self.pin is None or (
            self.pin.admits(one.version)
            and (one.artifact is None or self.pin.admits_artifact(one.artifact))
        )


EVERYTHING: Final = Selection()


class Chosen(NamedTuple):
    """One release whose content is copied."""

    name: ReleaseName
    candidate: Candidate


def choose(found: Survey, select: Selection) -> dict[str, Chosen]:
    """Return the releases that devices may take and that were asked for, by path.

    An application that every device refuses has no content to copy, which becomes a
    warning; asked for by name, it is an error.

    Raises:
        UnknownTargetError, VerificationError: of a name that was asked for.
        NoMatchingVersionError: names or a pin were given, and nothing is inside.
        FetchError: a policy can't be had; of a name that was not asked for, one that
            is nowhere makes it `lost`, for whoever signs it may have left it out.
    """
    chosen: dict[str, Chosen] = {}
    asked = select.names or names_of(found, warn=True)
    for name in sorted(asked, key=str):
        try:
            candidates = list(_usable(found, name))
        except VerificationError as why:
            if name in select.names:
                raise
            found.warnings.append(f"devices refuse {name}, so without content: {why}")
            continue
        except FetchError as why:
            if name in select.names or not why.missing:
                raise
            found.warnings.append(f"{name} is without content: {why}")
            found.lost.append(str(name))
            continue
        for one in candidates:
            if select.takes(name, one):
                chosen[one.path] = Chosen(name, one)
    if select != EVERYTHING and not chosen:
        wanted = ", ".join(sorted(map(str, select.names))) or "any application"
        within = "" if select.pin is None else f" inside {select.pin}"
        raise NoMatchingVersionError(
            f"there is no release of {wanted}{within} that devices may take",
            hint="widen --pin, or name another application; nothing was copied",
            name=wanted,
            pin="*" if select.pin is None else str(select.pin),
        )
    return chosen


def names_of(found: Survey, *, warn: bool = False) -> set[ReleaseName]:
    """Return the applications that have releases.

    Args:
        found: what is listed.
        warn: whether names that are none become warnings of it.
    """
    names = set()
    for one in found.walk.workflow.roles.values():
        for path in one.signed.targets:
            steps = path.split("/")
            if len(steps) == 4 and steps[1] == "releases":
                try:
                    names.add(ReleaseName(steps[0], steps[2]))
                except FormatError as why:
                    if warn:
                        found.warnings.append(f"{one.file.label}: {why}")
    return names


def _usable(found: Survey, name: ReleaseName) -> Iterator[Candidate]:
    walk = found.walk
    roles = chain.follow(walk, name)
    policy = offline_role.publisher_policy(walk, roles, name, LIMITS)
    candidates = resolve.listed(roles.deciding.signed, name)
    void = {one.artifact: one.up_to for one in policy.reinstated}
    # Withdrawn are bytes, under whatever version they come back.
    barred = {
        digest
        for digest in resolve.withdrawn_in(candidates)
        if roles.deciding.version > void.get(digest, 0)
    }
    for one in candidates:
        if one.entry is None:
            found.warnings.append(f"{one.path} has a malformed entry: without content")
        elif one.entry.artifact not in barred:
            yield one
        else:
            found.withdrawn.add(one.path)


def record_of(found: Survey, release: Chosen, data: bytes) -> ReleaseRecord:
    """Return a release's record, judged as a device does, from bytes at hand.

    Raises:
        MalformedError: devices refuse it.
    """
    digest = release.candidate.file.hashes["sha256"]
    found.held[digest] = data
    try:
        return artifact.fetch_record(
            found.walk, release.name, release.candidate, LIMITS
        )
    finally:
        del found.held[digest]


def publishers_of(found: Survey) -> set[str]:
    """Return whose releases and policies are listed."""
    roles = found.walk.workflow.roles.values()
    return {path.partition("/")[0] for one in roles for path in one.signed.targets}
