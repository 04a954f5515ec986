"""`device status`: what each store remembers, one lost store hiding no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.cli import describe
from margo_supplychain.cli.output import Result
from margo_supplychain.errors import StateLostError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from margo_supplychain.cli.device_directory import DeviceDirectory
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.verify.memory import ReleaseFloor
    from margo_supplychain.verify.trust_store import StoreStatus

_MAX_SHOWN: Final = 5  # one screen; JSON has all


def show(device: DeviceDirectory) -> Result:
    """Return what the device remembers; exit status 4 if a store is lost."""
    stores: list[dict[str, Any]] = []
    lines: list[str] = []
    lost = 0
    for name in device.names():
        known = device.settings.repositories.get(name)
        source = None if known is None else known.source
        asked = () if source is None else device.asked(name, None)
        places = [one for one in asked if one != source]
        try:
            status = device.store(name).status()
        except StateLostError as why:
            lost += 1
            named = {"repository": name, "source": source, "mirrors": places}
            stores.append({**named, "lost": str(why)})
            lines += [f"  {name}  lost", f"    {why}", f"    {why.hint}"]
            continue
        stores.append(
            {
                "repository": name,
                "source": source,
                "mirrors": places,
                **_data(status),
            }
        )
        lines += _lines(name, source, asked, status)
    count = describe.counted(len(stores), "store")
    bad = f", {lost} lost" if lost else ""
    return Result(
        data={"directory": str(device.directory), "stores": stores},
        lines=[f"device {device.directory}: {count}{bad}", *lines],
        exit_status=StateLostError.exit_status if lost else 0,
    )


def _lines(
    name: str, source: str | None, asked: Sequence[str], status: StoreStatus
) -> list[str]:
    seen = "never refreshed"
    if status.timestamp is not None:
        seen = f"timestamp v{status.timestamp}"
        if status.snapshot is not None:
            seen += f", snapshot v{status.snapshot}"
        if status.time_floor is not None:
            seen += f", signed time {describe.moment(status.time_floor)}"
    lines = [
        f"  {name}  for {', '.join(sorted(status.publishers))}",
        f"    trust      root v{status.root}, {seen}",
        f"    source     {source or 'none in device.toml'}",
    ]
    if asked and asked != (source,):
        lines.append(f"    asked at   {', '.join(asked)}")
    for slot, floors in sorted(status.slots.items()):
        for application, floor in _by_name(floors):
            lines.append(
                f"    runs       {application} {floor.version} in slot {slot}, epoch "
                f"{floor.epoch}, {floor.artifact.short}"
            )
    confirmed = {
        (application, floor.artifact)
        for floors in status.slots.values()
        for application, floor in floors.items()
    }
    waiting = [
        one for one in status.fetched if (one.name, one.artifact) not in confirmed
    ]
    lines += [
        f"    fetched    {one.name} {one.version}, not confirmed, {one.artifact.short}"
        for one in waiting[-_MAX_SHOWN:]
    ]
    if len(waiting) > _MAX_SHOWN:
        lines.append(f"    fetched    {len(waiting) - _MAX_SHOWN} more before these")
    lines.append(f"    withdrawn  {status.withdrawn} remembered")
    return lines


def _by_name(
    floors: Mapping[ReleaseName, ReleaseFloor],
) -> list[tuple[ReleaseName, ReleaseFloor]]:
    return sorted(floors.items(), key=lambda one: str(one[0]))


def _data(status: StoreStatus) -> dict[str, Any]:
    return {
        "publishers": sorted(status.publishers),
        "root": status.root,
        "timestamp": status.timestamp,
        "snapshot": status.snapshot,
        "timeFloor": status.time_floor,
        "slots": [
            {
                "slot": slot,
                "name": str(name),
                "version": str(floor.version),
                "epoch": floor.epoch,
                "artifact": str(floor.artifact),
            }
            for slot, floors in sorted(status.slots.items())
            for name, floor in _by_name(floors)
        ],
        "fetched": [
            {
                "name": str(one.name),
                "version": str(one.version),
                "epoch": one.epoch,
                "artifact": str(one.artifact),
            }
            for one in status.fetched
        ],
        "withdrawn": status.withdrawn,
    }
