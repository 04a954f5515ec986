"""What a submission says that is compared with nothing: for who signs it alone.

Beside one, such things are compared with what stands, or refused when they are judged.
Alone, whatever is signed has to be read: a role that is delegated no more, keys that
are said to have left, the file from which somebody shall go on, and every value that is
not as our tools write it.

Example:
    >>> list(said_alone(signed))  # doctest: +SKIP
    ['application acme/pump: removed, devices refuse it', …]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.authoring.delegator_fields import (
    CUT_OFF,
    LEFT,
    cut_offs,
    left_keys,
)
from margo_supplychain.authoring.holders import HOLDERS, holders_of
from margo_supplychain.authoring.roles import application_of, kind_of
from margo_supplychain.errors import FormatError, MetadataFormatError
from margo_supplychain.formats.names import application_patterns, publisher_patterns
from margo_supplychain.formats.plain_text import plain
from margo_supplychain.formats.times import format_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tuf.api.metadata import DelegatedRole, MetaFile, TargetFile, Targets

    from margo_supplychain.authoring.delegator_fields import CutOff
    from margo_supplychain.formats.release_entry import ReleaseEntry

_DIGITS: Final = 12
_CUT_OFF_AT: Final = "cut off; devices refuse it until its new keys have signed"


def said_alone(signed: Targets) -> Iterator[str]:
    """Yield what a role says of others, one line each, where nothing is at hand."""
    roles = delegated(signed)
    left: Mapping[str, frozenset[str]] = {}
    cut: Mapping[str, CutOff] = {}
    try:
        left, cut = left_keys(signed), cut_offs(signed)
        holders_of(signed)
    except MetadataFormatError as why:
        yield f"can't be read: {plain(str(why))}"
        for field in (LEFT, CUT_OFF, HOLDERS):
            value = signed.unrecognized_fields.get(field)
            if value is not None:
                yield f"field {field}: {plain(str(value))}"
    for role in sorted((left.keys() | cut.keys()) - roles.keys()):
        yield f"{subject(role)}: removed, devices refuse it"
    for role, keys in sorted(left.items()):
        shown = ", ".join(one[:_DIGITS] for one in sorted(keys))
        yield f"{subject(role)}: keys that left, by material: {shown}"
    for role, found in sorted(cut.items()):
        yield (
            f"{subject(role)}: {_CUT_OFF_AT if role in roles else 'its last file'}: "
            f"{_file(found.listed)} is listed, {_file(found.last)} is gone on from"
        )
    yield from _delegations(signed, roles)
    for keyid, holder in sorted(_unused_holders(signed, roles).items()):
        yield f"key {plain(keyid)} of no role: held by {plain(str(holder))}"


def _delegations(signed: Targets, roles: Mapping[str, DelegatedRole]) -> Iterator[str]:
    for name, role in sorted(roles.items()):
        found = dict(role.to_dict())
        for field in ("keyids", "threshold"):
            found.pop(field, None)
        usual = {"name": name, "terminating": True, "paths": _paths(name)}
        paths = found.get("paths")
        if isinstance(paths, list):
            found["paths"] = sorted(paths)
        for field in sorted(found.keys() | usual.keys()):
            value = found.get(field, "none")
            if value != usual.get(field):
                values = value if isinstance(value, list) else [value]
                shown = ", ".join(plain(str(one)) for one in values)
                yield f"{subject(name)}: delegated otherwise: {plain(field)} {shown}"
    if signed.delegations is None:
        return
    rest = dict(signed.delegations.to_dict())
    keys = rest.pop("keys", {})
    rest.pop("roles", None)
    if rest:
        yield f"delegates otherwise: {plain(str(rest))}"
    used = {keyid for role in roles.values() for keyid in role.keyids}
    for keyid in sorted(keys.keys() - used):
        yield f"key {plain(keyid)} of no role"


def target_alone(file: TargetFile, entry: ReleaseEntry | None) -> str:
    """Return what else is said of a target file, to be put behind what is shown.

    Args:
        file: what is signed of it.
        entry: of a release, if it is one that can be read.
    """
    more = []
    usual: dict[str, Any] = {
        "length": file.length,
        "hashes": {"sha256": file.hashes.get("sha256")},
    }
    if entry is not None:
        usual["custom"] = entry.to_custom()
        more.append(f"record sha256 {plain(str(usual['hashes']['sha256']))}")
        if entry.withdrawn is not None:
            more.append(f"since {format_time(entry.withdrawn.since)}")
        if entry.profiles:
            more.append(f"profiles {', '.join(entry.profiles)}")
    found = file.to_dict()
    if found != usual:
        more.append(f"otherwise than usual: {plain(str(found))}")
    return "".join(f"; {one}" for one in more)


def delegated(signed: Targets | None) -> Mapping[str, DelegatedRole]:
    """Return the roles that a role delegates to by name."""
    if signed is None or signed.delegations is None:
        return {}
    return signed.delegations.roles or {}


def subject(role: str) -> str:
    """Return what people call a role: what it is, and its name."""
    name = plain(role.replace(".", "/", 1))
    return f"{'application' if kind_of(role) == 'application' else 'publisher'} {name}"


def _paths(role: str) -> list[str]:
    if kind_of(role) != "application":
        return sorted(publisher_patterns(role))
    try:
        return sorted(application_patterns(application_of(role)))
    except FormatError:
        return []


def _unused_holders(
    signed: Targets, roles: Mapping[str, DelegatedRole]
) -> Mapping[str, Any]:
    value = signed.unrecognized_fields.get(HOLDERS)
    if not isinstance(value, dict):
        return {}
    used = {keyid for role in roles.values() for keyid in role.keyids}
    return {keyid: one for keyid, one in value.items() if keyid not in used}


def _file(file: MetaFile | None) -> str:
    if file is None:
        return "nothing"
    digest = (file.hashes or {}).get("sha256", "")
    return f"v{file.version} (sha256 {digest[:_DIGITS]})"
