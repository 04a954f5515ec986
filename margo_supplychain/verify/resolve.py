"""Step 2: which listed release a pin takes, and why the others are out.

Pure. The list is the deciding role's own; versions are strict SemVer, so no alias of a
version ever matches, and two releases of one precedence refuse each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from margo_supplychain.errors import (
    FormatError,
    NoMatchingVersionError,
    ReleaseFloorError,
    WithdrawnError,
)
from margo_supplychain.formats.release_entry import ReleaseEntry
from margo_supplychain.formats.versions import Version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuf.api.metadata import TargetFile, Targets

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.pins import Pin
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.verify.memory import ReleaseFloor

MAX_SHOWN: Final = 10


class Candidate(NamedTuple):
    """One listed release: grammatical, and nothing more."""

    version: Version
    path: str
    file: TargetFile
    entry: ReleaseEntry | None

    @property
    def artifact(self) -> Digest | None:
        """The artifact that the list names; None when its entry is malformed."""
        return self.entry.artifact if self.entry is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What decides about candidates besides the pin.

    Args:
        policy: the publisher's, from the offline role.
        floor: the slot's floor, its epoch read as today's if its signers have gone.
        slot: for messages.
        withdrawn: artifact → newest version of the role in which it was withdrawn.
    """

    policy: PublisherPolicy
    floor: ReleaseFloor | None
    slot: str
    withdrawn: Mapping[Digest, int]
    reinstated: Mapping[Digest, int] = field(init=False)
    downgrades: frozenset[Digest] = field(init=False)

    def __post_init__(self) -> None:
        # Both lists may be long, and so may the list of releases.
        reinstated = {one.artifact: one.up_to for one in self.policy.reinstated}
        object.__setattr__(self, "reinstated", reinstated)
        object.__setattr__(self, "downgrades", frozenset(self.policy.downgrade_to))


def listed(signed: Targets, name: ReleaseName) -> tuple[Candidate, ...]:
    """Return the releases of `name` that a role lists, newest first.

    Entries whose last step is no version tag are no releases and are left out.
    """
    prefix = name.releases
    found = []
    for path, file in signed.targets.items():
        if not path.startswith(prefix):
            continue
        try:
            version = Version.parse_tag(path[len(prefix) :])
        except FormatError:
            continue
        try:
            entry: ReleaseEntry | None = ReleaseEntry.parse(file.custom, path)
        except FormatError:
            entry = None
        found.append(Candidate(version=version, path=path, file=file, entry=entry))
    found.sort(key=lambda one: one.version, reverse=True)
    return tuple(found)


def withdrawn_in(candidates: Sequence[Candidate]) -> frozenset[Digest]:
    """Return the artifacts that a list calls withdrawn."""
    return frozenset(
        one.entry.artifact
        for one in candidates
        if one.entry is not None and one.entry.withdrawn is not None
    )


def select(
    name: ReleaseName, pin: Pin, candidates: Sequence[Candidate], standing: Standing
) -> Candidate:
    """Return the highest candidate inside the pin that nothing bars.

    Raises:
        NoMatchingVersionError: nothing listed is inside the pin, or what is inside is
            ambiguous, malformed or below the publisher's minimum.
        WithdrawnError, ReleaseFloorError: what bars the highest one inside the pin.
    """
    verdicts: list[tuple[Candidate, str, str]] = []
    for index, one in enumerate(candidates):
        around = candidates[max(0, index - 1) : index + 2]
        kind, reason = _why_not(one, pin, around, standing)
        if kind == "":
            return one
        verdicts.append((one, kind, reason))
    inside = [one for one in verdicts if one[1] != "pin"]
    if inside:
        _refuse_inside(name, pin, inside, standing)
    near = tuple((str(one.version), reason) for one, _, reason in verdicts[:MAX_SHOWN])
    raise NoMatchingVersionError(
        f"no release inside {pin}",
        hint=f"widen the pin, or wait for {name.publisher} to release inside it",
        name=str(name),
        pin=str(pin),
        candidates=near,
    )


def passed_over(
    chosen: Candidate, pin: Pin, candidates: Sequence[Candidate], standing: Standing
) -> tuple[tuple[str, str], ...]:
    """Return newer releases inside the pin and why each is out, newest first."""
    found = []
    for index, one in enumerate(takewhile(lambda one: one is not chosen, candidates)):
        around = candidates[max(0, index - 1) : index + 2]
        kind, reason = _why_not(one, pin, around, standing)
        if kind != "pin":
            found.append((str(one.version), reason))
    return tuple(found[:MAX_SHOWN])


def _why_not(
    one: Candidate, pin: Pin, around: Sequence[Candidate], standing: Standing
) -> tuple[str, str]:
    """Return a kind and a reason, or empty strings when nothing bars the release."""
    entry = one.entry
    # check 2.1: the pin, by strict SemVer
    if not pin.admits(one.version):
        return "pin", pin.why_not(one.version) or "outside the pin"
    # check 2.2 (instead: assert entry is not None): its entry must be readable
    if entry is None:
        return "malformed", "its entry in the signed list is malformed"
    # check 2.3: a pinned digest
    if not pin.admits_artifact(entry.artifact):
        return "digest", f"signed is {entry.artifact.short}, not the pinned artifact"
    # check 2.4: one release per precedence
    if any(
        other is not one and other.version.same_precedence(one.version)
        for other in around
    ):
        return "twice", "listed twice, differing in build metadata only"
    minimum = standing.policy.minimum_version
    # check 2.5: the publisher's minimum
    if minimum is not None and one.version < minimum:
        return "minimum", f"below the publisher's minimum {minimum}"
    # check 2.6: withdrawn, under whatever version the artifact comes back
    if _is_withdrawn(entry.artifact, standing):
        return "withdrawn", "withdrawn by its publisher"
    # check 2.7: the slot's floor
    if not _passes_floor(one, entry.artifact, standing):
        return "floor", f"below what slot {standing.slot} runs"
    return "", ""


def _is_withdrawn(artifact: Digest, standing: Standing) -> bool:
    seen = standing.withdrawn.get(artifact)
    if seen is None:
        return False
    return seen > standing.reinstated.get(artifact, 0)


def _passes_floor(one: Candidate, artifact: Digest, standing: Standing) -> bool:
    floor = standing.floor
    if floor is None or artifact in standing.downgrades:
        return True
    if standing.policy.epoch != floor.epoch:
        return standing.policy.epoch > floor.epoch
    if one.version.same_precedence(floor.version):
        # The confirmed version under other bytes is no update of it.
        return artifact == floor.artifact
    return one.version > floor.version


def _refuse_inside(
    name: ReleaseName,
    pin: Pin,
    inside: Sequence[tuple[Candidate, str, str]],
    standing: Standing,
) -> NoReturn:
    one, kind, reason = inside[0]
    if kind == "withdrawn":
        found = one.entry.withdrawn if one.entry is not None else None
        use = str(found.use) if found is not None and found.use is not None else None
        why = found.reason if found is not None else "withdrawn under another version"
        raise WithdrawnError(
            f"{name} {one.version} is withdrawn: {why}",
            name=str(name),
            version=str(one.version),
            reason=why,
            use=use,
            hint=f"the publisher says to use {use}" if use is not None else None,
        )
    if kind == "floor" and standing.floor is not None:
        floor = standing.floor
        raise ReleaseFloorError(
            f"{name} {one.version} (epoch {standing.policy.epoch}) is not newer than "
            f"{floor.version} (epoch {floor.epoch}), the floor of slot {standing.slot}",
            name=str(name),
            version=str(one.version),
            floor=str(floor.version),
            slot=standing.slot,
        )
    raise NoMatchingVersionError(
        f"no release of {name} inside {pin} may be used: {one.version} is out, "
        f"{reason}",
        name=str(name),
        pin=str(pin),
        candidates=tuple(
            (str(found.version), why) for found, _, why in inside[:MAX_SHOWN]
        ),
    )
