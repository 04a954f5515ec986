"""Copies of repositories as others make them: many roots, odd roles, lost files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tuf.api.metadata import SuccinctRoles, TargetFile

from margo_supplychain.authoring.copying import Copied, copy_releases
from margo_supplychain.authoring.repairing import repair
from margo_supplychain.authoring.selection import EVERYTHING, Selection
from margo_supplychain.authoring.shelves import open_shelf
from margo_supplychain.errors import (
    AmbiguousRoleError,
    FetchError,
    MixAndMatchError,
    RollbackError,
    ThresholdError,
)
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import PublisherPolicy, Reinstatement
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.transport.opening import FixedContent
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.authoring.trust import DEVICE_POLICY, PUMP, VALVE
from tests.world import World
from tests.world.on_disk import write_files
from tests.world.repository import key

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.formats.names import ReleaseName

NEWEST = Pin.range("*", grammar="npm")


@pytest.fixture
def world() -> World:
    world = World()
    for version in ("1.0.0", "1.1.0"):
        world.release(version)
    world.release("1.0.0", "acme/valve")
    world.publish()
    return world


def copy(
    world: World,
    tmp_path: Path,
    to: str = "mirror",
    *,
    root: int = 1,
    select: Selection = EVERYTHING,
) -> Copied:
    source = write_files(world.files, tmp_path / "source")
    with open_shelf(str(tmp_path / to)) as shelf:
        return copy_releases(
            DirectorySource(source),
            shelf,
            trust=trust(world, root),
            select=select,
            clock=world.clock,
        )


def trust(world: World, root: int = 1) -> TrustStore:
    return TrustStore.unsafe_without_memory(
        root=world.files.metadata[f"{root}.root.json"]
    )


def newest(
    world: World,
    tmp_path: Path,
    name: ReleaseName = PUMP,
    *,
    root: int = 1,
    store: TrustStore | None = None,
    at: str = "mirror",
) -> str:
    source = DirectorySource(tmp_path / at)
    verifier = Verifier(
        store=store or trust(world, root),
        source=source,
        content=FixedContent([source]),
        policy=DEVICE_POLICY,
        clock=world.clock,
    )
    release = verifier.verify(name, NEWEST)
    verifier.fetch(release, tmp_path / "fetched")
    return str(release.version)


def names(tmp_path: Path) -> set[str]:
    return {one.name for one in (tmp_path / "mirror" / "metadata").iterdir()}


# --- roots ---------------------------------------------------------------------------


def test_all_roots(world: World, tmp_path: Path) -> None:
    """Whatever root a device holds, it can follow; whatever root the copier holds."""
    world.rotate("root", "root-b")
    world.rotate("root", "root-c")
    world.publish()
    for trusted in (1, 2, 3):
        done = copy(world, tmp_path, f"mirror-{trusted}", root=trusted)
        assert done.root == 3
        for begun in (1, 2, 3):
            at = f"mirror-{trusted}"
            assert newest(world, tmp_path, root=begun, at=at) == "1.1.0"


def test_a_root_that_the_source_lost(world: World, tmp_path: Path) -> None:
    world.rotate("root", "root-b")
    world.rotate("root", "root-c")
    world.publish()
    whole = world.files.copy()
    del world.files.metadata["1.root.json"]
    with pytest.raises(FetchError):
        copy(world, tmp_path, root=3)
    world.files = whole
    copy(world, tmp_path)
    (tmp_path / "mirror/metadata/2.root.json").unlink()
    with open_shelf(str(tmp_path / "mirror")) as shelf:
        others = [DirectorySource(tmp_path / "source")]
        done = repair(shelf, others, trust=trust(world), clock=world.clock)
    assert done.restored == ("2.root.json",)


def test_a_root_that_is_served_as_another(world: World, tmp_path: Path) -> None:
    world.rotate("root", "root-b")
    world.publish()
    store = trust(world, 2)
    world.files.metadata["1.root.json"] = world.files.metadata["2.root.json"]
    source = write_files(world.files, tmp_path / "source")
    with (
        open_shelf(str(tmp_path / "mirror")) as shelf,
        pytest.raises(MixAndMatchError, match=r"serves root v2 as 1\.root"),
    ):
        copy_releases(DirectorySource(source), shelf, trust=store, clock=world.clock)


def test_a_root_that_takes_keys_away(world: World, tmp_path: Path) -> None:
    """What the target shows was signed by a stolen key: it is no floor any more."""
    world.roles["timestamp"].version = 1_000
    world.publish()
    copy(world, tmp_path)
    store = trust(world)
    newest(world, tmp_path, store=store)
    world.rotate("timestamp", "timestamp-b")
    world.roles["timestamp"].version = 4
    world.release("1.2.0")
    world.publish()
    assert copy(world, tmp_path).timestamp == 5
    assert newest(world, tmp_path, store=store) == "1.2.0"


def test_the_target_has_newer_roots(world: World, tmp_path: Path) -> None:
    old = world.copy()
    world.rotate("root", "root-b")
    world.publish()
    copy(world, tmp_path)
    old.publish()
    with pytest.raises(RollbackError, match="root v1 is older than v2"):
        copy(old, tmp_path)


def test_repair_adds_the_roots_that_its_timestamp_needs(
    world: World, tmp_path: Path
) -> None:
    world.rotate("timestamp", "timestamp-b")
    world.publish()
    copy(world, tmp_path)
    (tmp_path / "mirror/metadata/2.root.json").unlink()
    world.rotate("root", "root-b")
    world.publish()
    source = write_files(world.files, tmp_path / "source")
    with open_shelf(str(tmp_path / "mirror")) as shelf:
        done = repair(
            shelf, [DirectorySource(source)], trust=trust(world), clock=world.clock
        )
    assert done.restored == ("2.root.json",)
    assert newest(world, tmp_path) == "1.1.0"
    (tmp_path / "mirror/metadata/2.root.json").unlink()
    with open_shelf(str(tmp_path / "mirror")) as shelf, pytest.raises(ThresholdError):
        repair(shelf, [], trust=trust(world), clock=world.clock)


# --- roles ---------------------------------------------------------------------------


def test_a_role_that_nobody_delegates_to(world: World, tmp_path: Path) -> None:
    """Entries never leave a snapshot; an application that was removed stays listed."""
    delegations = world.roles["acme"].delegations
    del delegations.roles["acme.valve"]
    world.touch("acme")
    world.publish()
    done = copy(world, tmp_path)
    assert "1.acme.valve.json" in names(tmp_path)
    assert [one for one in done.warnings if "valve" in one] == []
    del world.files.metadata["1.acme.valve.json"]
    done = copy(world, tmp_path, "other")
    assert any("nobody delegates to acme.valve: not copied" in x for x in done.warnings)
    assert newest(world, tmp_path, at="other") == "1.1.0"


def test_a_role_with_too_few_signatures(world: World, tmp_path: Path) -> None:
    world.touch("acme.valve")
    world.signers["acme.valve"] = [key("mallory")]
    world.publish()
    done = copy(world, tmp_path)
    assert [one for one in done.warnings if one.startswith("devices refuse acme.valve")]
    assert "2.acme.valve.json" in names(tmp_path)
    assert done.releases == 2
    assert newest(world, tmp_path) == "1.1.0"
    with pytest.raises(ThresholdError):
        copy(world, tmp_path, select=Selection(names=frozenset({VALVE})))
    del world.files.metadata["2.acme.valve.json"]
    with pytest.raises(FetchError):
        copy(world, tmp_path, "other")


def test_an_ambiguous_application(world: World, tmp_path: Path) -> None:
    world.delegate("acme", "acme.shadow", ("acme/releases/valve/*",))
    world.publish()
    done = copy(world, tmp_path)
    assert any("devices refuse acme/valve" in one for one in done.warnings)
    assert newest(world, tmp_path) == "1.1.0"
    with pytest.raises(AmbiguousRoleError):
        copy(world, tmp_path, select=Selection(names=frozenset({VALVE})))


def test_hash_bins(world: World, tmp_path: Path) -> None:
    """Nobody follows them, so nobody goes through them all, either."""
    world.add_publisher("other")
    delegations = world.roles["targets"].delegations
    delegations.roles = None
    delegations.succinct_roles = SuccinctRoles([], 1, 20, "bin")
    world.touch("targets")
    world.publish()
    done = copy(world, tmp_path)
    assert done.releases == 0
    assert "2.acme.json" in names(tmp_path)


# --- target files --------------------------------------------------------------------


def odd(world: World, path: str, file: TargetFile) -> None:
    world.roles["acme"].targets[path] = file
    world.touch("acme")
    world.publish()


@pytest.mark.parametrize(
    ("path", "length", "hashes"),
    [
        ("acme/layouts/pump-monitor/1.json", 3, {"sha512": "a" * 128}),
        ("acme/layouts/pump-monitor/2.json", 1 << 30, {"sha256": "a" * 64}),
        ("acme/../secrets", 3, {"sha256": "a" * 64}),
        ("acme/layouts/pump-monitor/3.json", 3, {"sha256": "not hex"}),
    ],
)
def test_a_target_that_no_device_reads(
    world: World, tmp_path: Path, path: str, length: int, hashes: dict[str, str]
) -> None:
    odd(world, path, TargetFile(length, hashes, path))
    done = copy(world, tmp_path)
    assert any("not copied" in one for one in done.warnings)
    assert newest(world, tmp_path) == "1.1.0"


def test_a_target_that_is_missing(world: World, tmp_path: Path) -> None:
    path = "acme/layouts/pump-monitor/1.json"
    odd(world, path, TargetFile(3, {"sha256": "a" * 64}, path))
    done = copy(world, tmp_path)
    assert done.incomplete == ()
    assert any(one.startswith(f"{path} is not copied whole") for one in done.warnings)


def test_the_same_target_in_two_roles(world: World, tmp_path: Path) -> None:
    path = PUMP.policy_path(1)
    world.roles["targets"].targets[path] = world.roles["acme"].targets[path]
    world.touch("targets")
    world.publish()
    assert copy(world, tmp_path).listed == 3


def test_names_that_are_none(world: World, tmp_path: Path) -> None:
    for path in ("acme/releases/Pump/1.0.0", "acme/releases/pump-monitor/latest"):
        world.add_target("acme.pump-monitor", path, b"{}")
    world.publish()
    done = copy(world, tmp_path)
    assert any("'Pump' is not a name" in one for one in done.warnings)
    assert newest(world, tmp_path) == "1.1.0"


def spoil(world: World, **changes: Any) -> None:
    file = world.roles["acme.pump-monitor"].targets[PUMP.release_path("1.1.0")]
    file.unrecognized_fields["custom"] = {**file.custom, **changes}
    world.touch("acme.pump-monitor")
    world.publish()


def test_a_malformed_entry(world: World, tmp_path: Path) -> None:
    spoil(world, artifact="latest")
    done = copy(world, tmp_path)
    assert any("malformed entry" in one for one in done.warnings)
    assert done.releases == 2
    assert newest(world, tmp_path) == "1.0.0"


def test_a_record_that_disagrees_with_its_entry(world: World, tmp_path: Path) -> None:
    spoil(world, artifact="sha256:" + "a" * 64)
    done = copy(world, tmp_path)
    assert any("devices refuse acme/pump-monitor" in one for one in done.warnings)
    with open_shelf(str(tmp_path / "mirror")) as shelf:
        others = [DirectorySource(tmp_path / "source")]
        mended = repair(shelf, others, trust=trust(world), clock=world.clock)
    assert any("devices refuse acme/pump-monitor" in one for one in mended.warnings)


def test_withdrawn_and_reinstated(world: World, tmp_path: Path) -> None:
    artifact = world.release("1.2.0")
    world.withdraw("1.2.0")
    world.publish()
    assert copy(world, tmp_path).releases == 3
    back = Reinstatement(
        artifact=artifact, up_to=world.roles["acme.pump-monitor"].version
    )
    world.set_policy(
        "acme/pump-monitor",
        PublisherPolicy(epoch=1, provenance="none", reinstated=(back,)),
    )
    world.publish()
    assert copy(world, tmp_path).releases == 4
    assert newest(world, tmp_path) == "1.2.0"
