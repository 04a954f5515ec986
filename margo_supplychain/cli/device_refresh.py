"""`device refresh`: every repository in turn; one that fails does not stop the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from margo_supplychain.cli.output import Result
from margo_supplychain.errors import (
    FormatError,
    InconclusiveError,
    StateLostError,
    SupplyChainError,
    VerificationError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from margo_supplychain.cli.device_directory import DeviceDirectory


def refresh_all(
    device: DeviceDirectory, wanted: Sequence[str], *, note: Callable[[str], None]
) -> Result:
    """Refresh the repositories that are named, or all.

    Raises:
        FormatError: one of the names is no repository here.
        StateLostError: there is no repository.
        VerificationError, InconclusiveError: the worst that happened, rejection first;
            `note` is told how the others went.
    """
    names = device.names()
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        raise FormatError(
            f"{unknown[0][:80]!r} is no repository here, expected "
            f"{', '.join(names) or 'none'}",
            hint="`margo-supplychain device status` lists them",
        )
    if not names:
        raise StateLostError(
            f"{device.directory} has no repository", path=str(device.directory)
        )
    done: list[dict[str, Any]] = []
    failed: list[tuple[str, SupplyChainError]] = []
    for name in dict.fromkeys(wanted) or names:
        try:
            done.append(_refresh(device, name))
        except (VerificationError, InconclusiveError) as why:
            failed.append((name, why))
    if failed:
        raise _worst(failed, done, note)
    width = max(len(one["repository"]) for one in done)
    return Result(
        data={"repositories": done},
        lines=[
            f"refreshed {len(done)} of {len(done)}",
            *(f"  {one['repository']:<{width}}  {_said(one)}" for one in done),
        ],
    )


def _refresh(device: DeviceDirectory, name: str) -> dict[str, Any]:
    store = device.store(name)
    freshness = device.verifier(name, store).refresh()
    status = store.status()
    return {
        "repository": name,
        "root": status.root,
        "timestamp": status.timestamp,
        "snapshot": status.snapshot,
        "freshness": freshness.name.lower(),
    }


def _said(one: dict[str, Any]) -> str:
    return (
        f"root v{one['root']}, timestamp v{one['timestamp']}, snapshot "
        f"v{one['snapshot']}, {one['freshness']}"
    )


def _worst(
    failed: list[tuple[str, SupplyChainError]],
    done: list[dict[str, Any]],
    note: Callable[[str], None],
) -> SupplyChainError:
    ranked = sorted(failed, key=lambda one: one[1].exit_status)
    for one in done:
        note(f"{one['repository']}: {_said(one)}")
    for name, why in ranked[1:]:
        note(f"{name}: {why} [{why.code}]")
    return ranked[0][1]
