"""When layouts end: devices refuse what is made by one that has.

A publisher's role may last for a year while a layout that it lists ends tomorrow, and
with it all that was released. The publisher's policy extends it: its bytes never
change. What can't be read is not judged here: `repo check` says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import FormatError, SupplyChainError
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.publisher_policy import FORMAT, PublisherPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from tuf.api.metadata import Targets

    from margo_supplychain.formats.publisher_policy import LayoutRule
    from margo_supplychain.verify.refresh import Walk
    from margo_supplychain.verify.workflow import Trusted

_LAYOUTS = "layouts"


class Ending(NamedTuple):
    """A layout and when it ends.

    Args:
        name: whose.
        number: which.
        expires: when, as the policy says, else its file.
        is_current: new releases are made by it; else it serves old ones alone.
    """

    name: ReleaseName
    number: int
    expires: datetime
    is_current: bool

    @property
    def action(self) -> str:
        """The command that extends it, without `margo-supplychain`."""
        return f"app policy {self.name} --layout-expires {self.number}=DATE"


def due(
    walk: Walk, found: Trusted[Targets], *, now: datetime, until: datetime
) -> list[Ending]:
    """Return the layouts of a publisher that end before `until`, the first one first.

    One that is superseded, and has ended, is past and nobody's duty.

    Args:
        walk: verified metadata, which reads targets.
        found: the publisher's role.
        now: the time.
        until: when somebody looks again.
    """
    ends = [
        one
        for one in endings(walk, found)
        if one.expires <= until and (one.is_current or one.expires > now)
    ]
    return sorted(ends, key=lambda one: one.expires)


def endings(walk: Walk, found: Trusted[Targets]) -> Iterator[Ending]:
    """Yield when each layout that a publisher's policies name ends."""
    targets = found.signed.targets
    for name in _names(targets):
        try:
            file = targets[name.policy_path(FORMAT)]
            policy = PublisherPolicy.parse(
                walk.target(name.policy_path(FORMAT), file, limit=LIMITS.policy)
            )
        except (KeyError, SupplyChainError):
            continue
        for rule in policy.layouts:
            end = _end(walk, targets, name, rule)
            if end is not None:
                yield Ending(name, rule.number, end, rule.range is not None)


def _names(targets: dict[str, Any]) -> list[ReleaseName]:
    """Return the applications of which layouts are listed; others cost nothing."""
    found: dict[ReleaseName, None] = {}
    for path in targets:
        publisher, _, rest = path.partition("/")
        kind, _, rest = rest.partition("/")
        if kind == _LAYOUTS:
            try:
                found[ReleaseName(publisher, rest.partition("/")[0])] = None
            except FormatError:
                continue
    return list(found)


def _end(
    walk: Walk, targets: dict[str, Any], name: ReleaseName, rule: LayoutRule
) -> datetime | None:
    if rule.expires is not None:
        return rule.expires
    from margo_supplychain.provenance.layouts import read_layout

    path = name.layout_path(rule.number)
    try:
        data = walk.target(path, targets[path], limit=LIMITS.layout)
        layout, _ = read_layout(data, what=f"layout {rule.number} of {name}")
    except (KeyError, SupplyChainError):
        return None
    return layout.expires
