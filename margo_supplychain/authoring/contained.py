"""Whether a role's older file lives on in what stands: nothing of it was lost.

Several files of one role may be taken in one run, and a snapshot lists the last of them
alone. Whether the others were taken, or left by a run that was killed and never
published, is told by what they changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from margo_supplychain.authoring.roles import signers_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tuf.api.metadata import TargetFile, Targets

_MARK: Final = "withdrawn"


def is_contained(old: Targets, before: Targets, now: Targets) -> bool:
    """Say whether what a file said anew is still said, and what it dropped is gone.

    Args:
        old: the file.
        before: the version before it.
        now: what stands, a later version.

    Raises:
        KeyFormatError: one of them names a key that it does not define.
    """
    return (
        _holds(_files(old), _files(now))
        and _is_gone(_files(before), _files(old), _files(now))
        and _holds(_keys(old), _keys(now))
        and _is_gone(_keys(before), _keys(old), _keys(now))
    )


def _holds(old: Mapping[str, object], now: Mapping[str, object]) -> bool:
    return all(name in now and now[name] == one for name, one in old.items())


def _is_gone(
    before: Mapping[str, object], old: Mapping[str, object], now: Mapping[str, object]
) -> bool:
    return not any(name in now for name in before if name not in old)


def _files(signed: Targets) -> Mapping[str, object]:
    """Return each target, and each mark for itself, which comes and goes."""
    found: dict[str, object] = {}
    for path, file in signed.targets.items():
        found[path] = file.length, file.hashes
        mark = _mark(file)
        if mark is not None:
            found[f"{path}#{_MARK}"] = mark
    return found


def _mark(file: TargetFile) -> object:
    custom = file.custom
    return custom.get(_MARK) if isinstance(custom, dict) else None


def _keys(signed: Targets) -> Mapping[str, object]:
    delegations = signed.delegations
    roles = {} if delegations is None else delegations.roles or {}
    found: dict[str, object] = {}
    for role in roles:
        who = signers_of(signed, role)
        if who is not None:
            found[role] = who.materials(), who.threshold
    return found
