"""`device confirm`: the software runs, so nothing older may come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.cli import arguments
from margo_supplychain.cli.device_evidence import shown
from margo_supplychain.cli.output import Result
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.names import ReleaseName, slot_name

if TYPE_CHECKING:
    from margo_supplychain.cli.device_directory import DeviceDirectory


def confirm_running(device: DeviceDirectory, what: str, slot: str) -> Result:
    """Raise the slot's floor to the newest fetched release of a name or digest.

    Raises:
        FormatError: neither a name nor a digest.
        UnknownTargetError: this device fetched none.
        ReleaseFloorError: the slot runs something newer.
    """
    with arguments.typed(arguments.SLOT_HINT):
        slot_name(slot)
    if ":" in what:
        with arguments.typed(f"{arguments.DIGEST_HINT}; or name the application"):
            wanted = str(Digest.parse(what))
    else:
        with arguments.typed(arguments.NAME_HINT):
            wanted = str(ReleaseName.parse(what))
    repository, store, release = device.fetched(wanted)
    device.verifier(repository, store).confirm_running(release.artifact, slot=slot)
    return Result(
        data={
            "name": str(release.name),
            "version": str(release.version),
            "artifact": str(release.artifact),
            "epoch": release.epoch,
            "slot": slot,
            "repository": repository,
        },
        lines=[
            f"confirmed {release.name} {release.version} in slot {slot}",
            f"  package  {shown(release.artifact)}",
            (
                f"  floor    nothing older than {release.version} may be installed "
                f"there (epoch {release.epoch})"
            ),
        ],
    )
