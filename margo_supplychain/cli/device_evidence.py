"""What a verification found, read from its report: for people and as JSON.

The report is the one account of a verification; the lines that `device verify` prints
are taken from it, so that text and JSON can't disagree.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from margo_supplychain.cli import describe
from margo_supplychain.cli.device_chain import (
    STEP,
    proof_data,
    provenance_line,
    words,
)
from margo_supplychain.formats.times import parse_time
from margo_supplychain.verify.clock import Freshness

if TYPE_CHECKING:
    from collections.abc import Mapping

    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.pins import Pin
    from margo_supplychain.formats.reports import Report
    from margo_supplychain.verify.results import VerifiedRelease

_TRUST: Final = 1  # steps of the plan, see verify.verifier
_RESOLUTION: Final = 2
_POLICY: Final = 5
_SHORT: Final = 12
_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
# Facts that say in other words what is told anyway.
_FOR_PROGRAMS: Final = frozenset({"functionaries", "key ids"})
_OFFLINE: Final = "; the source is out of reach, this was accepted before"
_NO_CLOCK: Final = "; the clock can't be believed, signed times were used"


class SignedRole(NamedTuple):
    """One role of the chain, newest accepted version."""

    role: str
    version: int
    keyids: tuple[str, ...]
    expires: str

    @property
    def label(self) -> str:
        """The role as lines say it: `acme v4`."""
        return f"{self.role} v{self.version}"


def chain_of(report: Report, name: ReleaseName) -> tuple[SignedRole, ...]:
    """Return the roles that decide an application, the deciding one first."""
    roles = report.facts(_TRUST)["roles"]
    found = []
    for role in (name.role, name.publisher, "targets"):
        one = roles.get(role)
        if one is not None:
            found.append(
                SignedRole(role, one["version"], tuple(one["keyids"]), one["expires"])
            )
    return tuple(found)


def lines_of(release: VerifiedRelease, pin: Pin, *, explain: bool) -> list[str]:
    """Return what `device verify` prints of a verified release."""
    report = release.report
    root = report.facts(_TRUST)["roles"]["root"]["version"]
    deciding, *above = chain_of(report, release.name)
    keys = ", ".join(one[:_SHORT] for one in deciding.keyids)
    parents = ", ".join([*(one.label for one in above), f"root v{root}"])
    lines = [
        f"verified {release.name} {release.version}",
        f"  {_newest(release, pin)}",
        f"  package     {shown(release.manifest.digest)}",
        f"  signed      {deciding.label} by {keys}, for {parents}",
        f"  fresh       {fresh_text(release)}",
    ]
    reason = out_of_reach(report)
    if reason is not None:
        lines.append(f"  source      out of reach: {reason}")
    lines += [
        f"  images      {images_text(release)}",
        f"  provenance  {provenance_line(report.facts(STEP))}",
    ]
    if explain:
        lines.extend(f"  {one}" for one in explained(report))
    return lines


def explained(report: Report) -> list[str]:
    """Return a line for each step that was taken, with what it found.

    How the chain of provenance was judged follows, if one was.
    """
    width = max((len(one.title) for one in report.steps), default=0)
    lines = [
        f"{one.number}  {one.title:<{width}}  {one.outcome}  {_said(one.facts)}"
        for one in report.steps
    ]
    return [line.rstrip() for line in [*lines, *words(report)]]


def data_of(release: VerifiedRelease, pin: Pin, store: str) -> dict[str, Any]:
    """Return what `device verify` gives to programs."""
    trust = release.report.facts(_TRUST)
    return {
        "name": str(release.name),
        "version": str(release.version),
        "pin": str(pin),
        "slot": release.slot,
        "newest": str(release.newest),
        "repository": store,
        "package": descriptor_data(release.manifest),
        "components": [
            {
                "profile": one.profile,
                "name": one.name,
                "type": one.profile_type,
                "manifest": descriptor_data(one.content),
            }
            for one in release.record.components
        ],
        "images": images_data(release),
        "closure": release.record.closure,
        "signed": [
            {
                "role": one.role,
                "version": one.version,
                "keyIds": list(one.keyids),
                "expires": one.expires,
            }
            for one in chain_of(release.report, release.name)
        ],
        "profile": release.report.facts(_POLICY)["profile"],
        "root": trust["roles"]["root"]["version"],
        "timestamp": {
            "version": trust["roles"]["timestamp"]["version"],
            "issued": trust["issued"],
            "expires": trust["roles"]["timestamp"]["expires"],
        },
        "source": trust["source"],
        "reached": trust["reached"],
        "outOfReach": out_of_reach(release.report),
        "freshness": release.freshness.name.lower(),
        "provenance": proof_data(release.report.facts(STEP)),
        "report": release.report.to_dict(),
    }


def out_of_reach(report: Report) -> str | None:
    """Return why the source gave no answer; None if it did."""
    reason: str | None = report.facts(_TRUST).get("out of reach")
    return reason


def images_text(release: VerifiedRelease) -> str:
    """Return how many of the images that it runs are signed by digest."""
    images = release.record.images
    if not images and release.record.closure == "complete":
        return "none named"
    pinned = sum(one.digest is not None for one in images)
    text = (
        f"{pinned} pinned"
        if pinned == len(images)
        else (f"{pinned} of {len(images)} pinned")
    )
    partial = release.record.closure == "partial"
    return f"{text}: closure partial, others may run" if partial else text


def images_data(release: VerifiedRelease) -> list[dict[str, Any]]:
    """Return the images that a release names, for programs."""
    return [
        {
            "component": one.component,
            "reference": one.reference,
            "digest": None if one.digest is None else str(one.digest),
            "platforms": list(one.platforms),
        }
        for one in release.record.images
    ]


def shown(digest: Digest) -> str:
    """Return a digest for people: the algorithm and twelve digits."""
    return f"{digest.algorithm}:{digest.short}"


def descriptor_data(what: Descriptor) -> dict[str, Any]:
    """Return a descriptor as OCI writes it."""
    return {
        "mediaType": what.media_type,
        "digest": str(what.digest),
        "size": what.size,
    }


def _newest(release: VerifiedRelease, pin: Pin) -> str:
    head = f"exactly {pin.version}" if pin.version is not None else f"newest in {pin}"
    if release.newest == release.version:
        return head
    reason = pin.why_not(release.newest)
    if reason is None:
        passed = release.report.facts(_RESOLUTION)["passed over"]
        reason = dict(one.split(": ", 1) for one in passed)[str(release.newest)]
    return f"{head} ({release.newest} exists, {reason})"


def fresh_text(release: VerifiedRelease) -> str:
    """Return how current the trust metadata is known to be."""
    trust = release.report.facts(_TRUST)
    now = release.report.time
    timestamp = trust["roles"]["timestamp"]
    issued = parse_time(trust["issued"], what="issued")
    expires = parse_time(timestamp["expires"], what="expires")
    text = f"timestamp v{timestamp['version']}, issued "
    if release.freshness is Freshness.UNPROVEN:
        # How far away they are, nobody here can tell.
        text += f"{describe.moment(issued)}, good until {describe.moment(expires)}"
        text += _NO_CLOCK
    else:
        text += f"{describe.distance(issued, at=now)}, good for "
        text += describe.remaining(expires - now)
    return text if trust["reached"] else text + _OFFLINE


def _said(facts: Mapping[str, Any]) -> str:
    said: list[str] = []
    for name, value in facts.items():
        if name == "roles":
            said.extend(f"{role} v{one['version']}" for role, one in value.items())
        elif isinstance(value, dict):
            continue  # for programs; a trace has words of its own
        elif isinstance(value, list):
            if value and name not in _FOR_PROGRAMS:
                said.append(f"{name} {', '.join(map(_named, value))}")
        elif isinstance(value, bool):
            said.append(f"{name} {'yes' if value else 'no'}")
        else:
            said.append(f"{name} {value}")
    return ", ".join(said)


def _named(value: Any) -> str:
    """Return what stands for one of a list: a step's name, a statement's type."""
    if isinstance(value, dict):
        return str(value.get("name", value.get("type")))
    text = str(value)
    # Of several digests or key ids in one line, people compare the beginning.
    return text[:_SHORT] if _HEX.fullmatch(text) else text
