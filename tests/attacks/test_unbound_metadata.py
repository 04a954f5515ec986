"""Lists that do not say which bytes they list, and roots that promise too little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import MalformedError
from tests.attacks.scenes import (
    APPLICATION,
    LISTED,
    changed,
    lenient_walk,
    refused,
    running,
    serve_next,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def without_hashes(entry: Any) -> None:
    del entry["hashes"]


def without_length(entry: Any) -> None:
    del entry["length"]


def without_either(entry: Any) -> None:
    del entry["hashes"], entry["length"]


def with_another_hash_alone(entry: Any) -> None:
    entry["hashes"] = {"sha512": "00" * 64}


def with_an_empty_hash(entry: Any) -> None:
    entry["hashes"] = {"sha256": ""}


UNBOUND = (
    without_hashes,
    without_length,
    without_either,
    with_another_hash_alone,
    with_an_empty_hash,
)


@pytest.mark.parametrize("unbind", UNBOUND)
@pytest.mark.parametrize("role", LISTED)
def test_snapshot_without_hashes(
    tmp_path: Path, role: str, unbind: Callable[[Any], None]
) -> None:
    """A snapshot lists a role by version alone, so that the role's key could serve
    each device other content under one version; a Margo repository binds them all."""
    plant = running(tmp_path)

    def change(signed: Any) -> None:
        unbind(signed["meta"][f"{role}.json"])

    name = serve_next(plant.world, "snapshot", changed(plant.world, "snapshot", change))
    plant.serve()
    refused(
        plant.device,
        MalformedError,
        "malformed",
        f"{role}.json is listed without length and sha256",
        last=name,
        moved=["timestamp"],
    )


@pytest.mark.parametrize("unbind", UNBOUND)
def test_timestamp_without_hashes(
    tmp_path: Path, unbind: Callable[[Any], None]
) -> None:
    """The same for the snapshot that a timestamp names."""
    plant = running(tmp_path)

    def change(signed: Any) -> None:
        unbind(signed["meta"]["snapshot.json"])

    name = serve_next(
        plant.world, "timestamp", changed(plant.world, "timestamp", change)
    )
    plant.serve()
    refused(
        plant.device,
        MalformedError,
        "malformed",
        "snapshot.json is listed without length and sha256",
        last=name,
    )


def test_list_without_hashes_where_only_the_specification_holds(
    tmp_path: Path,
) -> None:
    """Sanity: TUF allows such lists (4.4), and the lenient rules take them."""
    plant = running(tmp_path)

    def change(signed: Any) -> None:
        for entry in signed["meta"].values():
            without_either(entry)

    serve_next(plant.world, "snapshot", changed(plant.world, "snapshot", change))
    plant.serve()
    walk = lenient_walk(plant.device)
    walk.top_level()
    assert walk.role("acme", "targets").version == 3


@pytest.mark.parametrize("value", [False, None, 0, "true", "absent"])
def test_root_without_consistent_snapshots(tmp_path: Path, value: object) -> None:
    """A root does not promise consistent snapshots, so that a mirror could show half of
    an update as the whole; such a root is refused."""
    plant = running(tmp_path)

    def change(signed: Any) -> None:
        signed["consistent_snapshot"] = value
        if value == "absent":
            del signed["consistent_snapshot"]

    name = serve_next(plant.world, "root", changed(plant.world, "root", change))
    plant.serve()
    refused(
        plant.device,
        MalformedError,
        "malformed",
        "root v2 does not promise consistent snapshots",
        last=name,
    )


@pytest.mark.parametrize("role", ["mirrors", "acme"])
def test_root_with_another_role(tmp_path: Path, role: str) -> None:
    """A root has a fifth role, as if it could speak for a publisher."""
    plant = running(tmp_path)

    def change(signed: Any) -> None:
        signed["roles"][role] = signed["roles"]["targets"]

    name = serve_next(plant.world, "root", changed(plant.world, "root", change))
    plant.serve()
    refused(plant.device, MalformedError, "malformed", "^root", last=name)


@pytest.mark.parametrize("names", [("sha256", "sha512"), ("sha512",), ("md5",)])
@pytest.mark.parametrize(
    ("role", "part"), [("acme", "/policies/"), (APPLICATION, "/1.1.0")]
)
def test_target_with_other_hashes(
    tmp_path: Path, role: str, part: str, names: tuple[str, ...]
) -> None:
    """A record or policy is listed with a second hash, so that two clients look for it
    under two names, or with a weak one alone; hashes of targets are sha256 alone."""
    plant = running(tmp_path)

    def change(signed: Any) -> None:
        for path, file in signed["targets"].items():
            if part in path:
                honest = file["hashes"]["sha256"]
                file["hashes"] = dict.fromkeys(names, honest)

    serve_next(plant.world, role, changed(plant.world, role, change))
    plant.serve()
    last = f"{plant.world.roles[APPLICATION].version}.{APPLICATION}.json"
    refused(
        plant.device,
        MalformedError,
        "malformed",
        f"{part}.* is signed with hashes .*, expected sha256 alone",
        last=last if role == APPLICATION else None,
        moved=["timestamp", "snapshot", "timestamp_time", "root_time"],
    )
