"""`device refresh`: every repository in turn; one that fails does not stop the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import click

from margo_supplychain.cli.output import Result
from margo_supplychain.errors import (
    FetchError,
    FormatError,
    InconclusiveError,
    StateLostError,
    SupplyChainError,
    VerificationError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from margo_supplychain.cli.device_directory import DeviceDirectory
    from margo_supplychain.transport.protocols import Source


def refresh_all(
    device: DeviceDirectory,
    wanted: Sequence[str],
    *,
    source: str | None,
    note: Callable[[str], None],
) -> Result:
    """Refresh the repositories that are named, or all.

    Args:
        device: whose they are.
        wanted: their names; none for all.
        source: where the only one is, instead of where `device.toml` says.
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
    done: list[dict[str, Any]] = []
    failed: list[tuple[str, SupplyChainError]] = []
    for name in chosen:
        try:
            done.append(_refresh(device, name, source))
        except (VerificationError, InconclusiveError) as why:
            failed.append((name, why))
    if failed:
        raise _worst(failed, done, note)
    width = max(len(one["repository"]) for one in done)
    reached = sum(one["reached"] for one in done)
    verdict = f"refreshed {reached} of {len(done)}"
    if reached < len(done):
        verdict += ": out of reach, decided on copies"
    return Result(
        data={"repositories": done},
        lines=[
            verdict,
            *(f"  {one['repository']:<{width}}  {_said(one)}" for one in done),
        ],
    )


def _refresh(device: DeviceDirectory, name: str, given: str | None) -> dict[str, Any]:
    from margo_supplychain.transport.opening import FixedContent
    from margo_supplychain.verify.verifier import Verifier

    store = device.store(name)
    source = _Watched(device.source(name, given))
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
        "reached": source.reached,
        "freshness": freshness.name.lower(),
    }


@final
class _Watched:
    """A source, and whether it could be reached: `Freshness` alone can't tell."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.url = source.url
        self.target = source.target
        self.blob = source.blob
        self.reached = True

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        """Pass the question on."""
        try:
            return self._source.metadata(filename, limit=limit, tick=tick)
        except FetchError as why:
            self.reached = self.reached and not why.unreachable
            raise


def _said(one: dict[str, Any]) -> str:
    return (
        f"root v{one['root']}, timestamp v{one['timestamp']}, snapshot "
        f"v{one['snapshot']}, {one['freshness']}"
        f"{'' if one['reached'] else ', out of reach'}"
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
