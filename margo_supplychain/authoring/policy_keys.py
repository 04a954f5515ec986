"""Whose keys a publisher policy relies on, compared with the keys of the repository.

Provenance is worth what its keys add to the one that releases: a functionary, or
whoever vouches in a summary, who is the online key says nothing new. Compared by
material.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain import threshold
from margo_supplychain.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.provenance.layouts import Layout

_MANY = 5  # names in one line


def check_functionaries(work: Work, name: ReleaseName, layout: Layout) -> None:
    """Compare a layout's functionaries with the keys of the repository.

    Raises:
        RefusedError: whoever holds the online keys can do every step alone: such links
            prove nothing that the release's own signature does not.
    """
    online, offline = _online(work, name), _offline(work, name)
    alone, shared, kept_apart = [], [], []
    for step in layout.steps:
        keys = {threshold.material(layout.keys[keyid]) for keyid in step.keyids}
        if len(keys & online) >= step.threshold:
            alone.append(step.name)
        if keys & online:
            shared.append(step.name)
        if keys & offline:
            kept_apart.append(step.name)
    if len(alone) == len(layout.steps):
        raise RefusedError(
            f"the online keys of this repository can do every step of the layout of "
            f"{name}: it proves nothing that a release does not say already",
            hint="give at least one step to a functionary with a key of its own",
        )
    if shared:
        work.warnings.append(
            f"an online key of this repository is a functionary of "
            f"{', '.join(shared[:_MANY])}: whoever steals it can release and do that, "
            "too"
        )
    if kept_apart:
        work.warnings.append(
            f"an offline key of this repository is a functionary of "
            f"{', '.join(kept_apart[:_MANY])}: it should not be where software is made"
        )


def check_policy_keys(
    work: Work, name: ReleaseName, old: PublisherPolicy | None, new: PublisherPolicy
) -> list[str]:
    """Return what is to be said of keys that a policy names anew.

    Raises:
        RefusedError: an online key would vouch for whole releases; or provenance is
            demanded where one key is online and offline, which no device believes.
    """
    if work.is_simple:
        return []
    online = _online(work, name)
    if new.provenance == "required" and (old is None or old.provenance == "none"):
        _require_apart(work, name, online)
    known = {} if old is None else {one.keyid: one for one in old.keys}
    added = {
        one.keyid: threshold.material(one.to_key())
        for one in new.keys
        if one.keyid not in known
    }
    return [
        *_check_summary_keys(work, name, old, new, online),
        *_statement_keys(new, added, online),
    ]


def _check_summary_keys(
    work: Work,
    name: ReleaseName,
    old: PublisherPolicy | None,
    new: PublisherPolicy,
    online: frozenset[str],
) -> list[str]:
    """Return what is to be said of those who vouch for releases from now on.

    Raises:
        RefusedError: an online key would.
    """
    # A key that signed statements before may have become one that vouches.
    before = () if old is None or old.summary is None else old.summary.keyids
    vouching = () if new.summary is None else new.summary.keyids
    materials = {
        one.keyid: threshold.material(one.to_key())
        for one in new.keys
        if one.keyid in vouching and one.keyid not in before
    }
    for keyid, material in materials.items():
        if material in online:
            raise RefusedError(
                f"key {keyid[:12]} is an online key of this repository: its summaries "
                "would stand for a chain that it could not prove",
                hint="let a verifier with a key of its own sign summaries",
            )
    if not materials:
        return []
    from margo_supplychain.authoring.policy_layouts import functionaries_of

    known = {threshold.material(key) for key in functionaries_of(work, name, new)}
    return [
        f"key {keyid[:12]} is a functionary and signs summaries, which stand for the "
        "whole chain: whoever steals it needs no other"
        for keyid, material in materials.items()
        if material in known
    ]


def _statement_keys(
    new: PublisherPolicy, added: Mapping[str, str], online: frozenset[str]
) -> list[str]:
    return [
        f"key {keyid[:12]} that signs {rule.type} is an online key of this repository: "
        "whoever steals it can release and say that, too"
        for rule in new.attestations
        for keyid in rule.keyids
        if added.get(keyid) in online
    ]


def _require_apart(work: Work, name: ReleaseName, online: frozenset[str]) -> None:
    """Refuse provenance where what is demanded and what was done has one key."""
    both = online & _offline(work, name)
    if not both:
        return
    counted = "one key" if len(both) == 1 else f"{len(both)} keys"
    raise RefusedError(
        f"{counted} of {name} {'is' if len(both) == 1 else 'are'} online and offline "
        "at once, so nothing can prove provenance",
        hint=f"give the application a key of its own: margo-supplychain publisher "
        f"rotate {name} --release-key KEY",
    )


def _online(work: Work, name: ReleaseName) -> frozenset[str]:
    return _materials(work, (work.deciding(name), "snapshot", "timestamp"))


def _offline(work: Work, name: ReleaseName) -> frozenset[str]:
    return _materials(work, ("root", "targets", work.offline(name)))


def _materials(work: Work, roles: Iterable[str]) -> frozenset[str]:
    found: set[str] = set()
    for role in roles:
        who = work.changes.who(role)
        if who is not None:
            found.update(who.materials())
    return frozenset(found)
