"""`device refresh`: every repository in turn; one that fails does not stop the rest.

That a device may decide on its copies for a while is for those who ask about a release
(ADR 0004). Here somebody asks for news, and none came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

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
    from margo_supplychain.cli.device_watch import Watch


def refresh_all(
    device: DeviceDirectory,
    wanted: Sequence[str],
    *,
    source: str | None,
    watch: Watch,
    note: Callable[[str], None],
) -> Result:
    """Refresh the repositories that are named, or all.

    Args:
        device: whose they are.
        wanted: their names; none for all.
        source: where the only one is, instead of where `device.toml` says.
        watch: sees whom is asked.
        note: told how it went with those that the error does not tell of.

    Raises:
        click.UsageError: a source, and several repositories.
        FormatError: one of the names is no repository here.
        StateLostError: there is no repository.
        VerificationError, InconclusiveError: the worst that happened, rejection first.
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
    chosen = tuple(dict.fromkeys(wanted)) or names
    if source is not None and len(chosen) > 1:
        raise click.UsageError(
            f"--source is where one repository is: which of {', '.join(chosen)}?"
        )
    device.note_keys(note)
    done: list[dict[str, Any]] = []
    failed: list[tuple[str, SupplyChainError]] = []
    for name in chosen:
        try:
            done.append(_refresh(device, name, source, watch))
        except (VerificationError, InconclusiveError) as why:
            failed.append((name, why))
    if failed:
        raise _worst(failed, done, note)
    width = max(len(one["repository"]) for one in done)
    reached = sum(one["reached"] for one in done)
    verdict = f"refreshed {reached} of {len(done)}"
    if reached < len(done):
        verdict += ": what is out of reach stays as it was"
    return Result(
        data={"repositories": done},
        lines=[
            verdict,
            *(f"  {one['repository']:<{width}}  {_said(one)}" for one in done),
        ],
        exit_status=0 if reached == len(done) else InconclusiveError.exit_status,
    )


def _refresh(
    device: DeviceDirectory, name: str, given: str | None, watch: Watch
) -> dict[str, Any]:
    from margo_supplychain.transport.opening import FixedContent
    from margo_supplychain.verify.verifier import Verifier

    store = device.store(name)
    source = watch.source(device.source(name, given))
    verifier = Verifier(
        store=store,
        source=source,
        content=FixedContent([source]),
        policy=device.policy(None),
    )
    freshness = verifier.refresh()
    status = store.status()
    return {
        "repository": name,
        "root": status.root,
        "timestamp": status.timestamp,
        "snapshot": status.snapshot,
        "source": source.url,
        "reached": source.unreached is None,
        "outOfReach": None if source.unreached is None else str(source.unreached),
        "freshness": freshness.name.lower(),
    }


def _said(one: dict[str, Any]) -> str:
    reason = one["outOfReach"]
    return (
        f"root v{one['root']}, timestamp v{one['timestamp']}, snapshot "
        f"v{one['snapshot']}, {one['freshness']}"
        f"{'' if reason is None else f', out of reach: {reason}'}"
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
