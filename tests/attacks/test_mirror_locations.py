"""Where content lies is a hint: a location decides nothing, and leads nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from margo_supplychain.errors import (
    DigestMismatchError,
    FetchError,
    RollbackError,
    SupplyChainError,
)
from margo_supplychain.transport import mirrors as module
from margo_supplychain.transport.mirrors import (
    MAX_SOURCES,
    FirstAnswering,
    MirroredContent,
    MirrorMap,
)
from tests.attacks.packages import artifact, component
from tests.attacks.standing import offered, refused
from tests.world import Device, MemorySource, World
from tests.world.repository import WASM

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.transport.protocols import Source

VENDOR = "oci://registry.acme.example/acme"
PLANT = "oci://mirror.plant:5000/acme"
# What a device must never be sent to by somebody else's word.
ELSEWHERE = (
    "file:///etc",
    "http://169.254.169.254/latest/meta-data",
    "http://registry.acme.example/acme",
    "ftp://host/path",
    "oci://registry.acme.example/../../etc",
    "oci://registry.acme.example/acme?x=1",
)


class Internet:
    """All places that there are, by what they are opened as."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.places: dict[str, MemorySource] = {}
        self.opened: list[str] = []
        monkeypatch.setattr(module, "open_source", self.open)

    def open(self, url: str, *, network: object = None) -> Source:
        del network
        self.opened.append(url)
        down = MemorySource(World().files)
        down.down = True
        return cast("Source", self.places.get(url, down))


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Internet:
    return Internet(monkeypatch)


def installed(tmp_path: Path) -> tuple[World, Device]:
    """A device that runs 1.0.0, from its trust repository."""
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane
    return world, device


def look(
    device: Device, content: MirroredContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the device look for content where its owner's map sends it."""
    monkeypatch.setattr(
        type(device), "sources", lambda _, locations: content.sources(locations)
    )


def test_location_that_names_what_is_not_the_vendors(
    tmp_path: Path, internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record sends devices to files, to plain http, to metadata services."""
    world, device = installed(tmp_path)
    world.release("2.0.0", locations=(*ELSEWHERE, f"{VENDOR}/pump"))
    device.source.files = world.publish()
    internet.places[f"{VENDOR}/pump"] = MemorySource(world.files)
    look(device, MirroredContent(), monkeypatch)
    assert device.install() == "2.0.0"
    assert internet.opened == [f"{VENDOR}/pump"]

    world.release("3.0.0", locations=ELSEWHERE)
    device.source.files = world.publish()
    internet.opened.clear()
    with refused(device, FetchError, "fetch", match="no place is known", newer=True):
        device.verify()
    assert internet.opened == []


def test_location_of_a_component(
    tmp_path: Path, internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A component's own repository is a location like any other."""
    world, device = installed(tmp_path)
    module_ = artifact(world, [(WASM, None, b"module")])
    part = component(module_, kind="wasm")
    world.release("2.0.0", components=(part,), locations=(f"{VENDOR}/pump",))
    device.source.files = world.publish()
    internet.places[f"{VENDOR}/pump"] = MemorySource(world.files)
    mirrors = MirrorMap({"oci://registry.example": [PLANT.removesuffix("/acme")]})
    look(device, MirroredContent(mirrors), monkeypatch)
    assert device.install() == "2.0.0"
    # The mirror that the owner names, and not the host behind the name.
    assert internet.opened == [f"{VENDOR}/pump", f"{PLANT}/web"]


def test_a_mapped_host_is_never_asked(
    tmp_path: Path, internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mallory took the vendor's registry over: devices of the plant don't go there."""
    world, device = installed(tmp_path)
    world.release("2.0.0", locations=(f"{VENDOR}/pump", f"{VENDOR}-2/pump"))
    device.source.files = world.publish()
    mallory = MemorySource(world.files.copy())
    internet.places[f"{VENDOR}/pump"] = internet.places[f"{VENDOR}-2/pump"] = mallory
    mirrors = MirrorMap({"oci://registry.acme.example": [PLANT]})
    look(device, MirroredContent(mirrors), monkeypatch)
    with refused(device, FetchError, "fetch", match="the wire is cut", newer=True):
        device.verify()
    assert mallory.asked == []
    assert internet.opened == [f"{PLANT}/acme/pump", f"{PLANT}/acme-2/pump"]


def test_a_mirror_with_other_bytes_under_the_right_name(
    tmp_path: Path, internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror's path says nothing: the bytes of another release are an alarm."""
    world, device = installed(tmp_path)
    world.release("2.0.0", content=b"honest", locations=(f"{VENDOR}/pump",))
    device.source.files = world.publish()
    evil = MemorySource(world.files.copy())
    for name, data in evil.files.blobs.items():
        if data == b"honest":
            evil.files.blobs[name] = b"tested"
    internet.places[f"{PLANT}/pump"] = evil
    content = MirroredContent(MirrorMap({VENDOR: [PLANT]}))
    look(device, content, monkeypatch)
    device.verify()
    with refused(device, DigestMismatchError, "digest-mismatch", match="has digest"):
        device.fetch()
    assert len(offered(device)) == 1

    # A second, honest mirror is enough, and the name of the release is the same.
    internet.places["stick"] = MemorySource(world.files)
    content = MirroredContent(MirrorMap({VENDOR: [PLANT, "stick"]}))
    look(device, content, monkeypatch)
    fetched = device.fetch()
    assert (str(fetched.release.name), str(fetched.release.version)) == (
        "acme/pump-monitor",
        "2.0.0",
    )


OWN = (
    "oci://localhost:8080/admin",
    "oci://127.0.0.1/a",
    "oci://127.1:5000/a",
    "oci://2130706433/a",
    "oci://0x7f000001/a",
    "oci://[::1]:5000/a",
    "oci://[::ffff:7f00:1]/a",
    "oci://0.0.0.0/a",
    "oci://[::]/a",
    "https://LOCALHOST/a",
    "https://agent.localhost./a",
    "https://127.9.9.9:8443/a",
)


def test_location_on_the_device_itself(
    tmp_path: Path, internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record sends devices to what listens on their own loopback."""
    world, device = installed(tmp_path)
    world.release("2.0.0", locations=OWN)
    device.source.files = world.publish()
    look(device, MirroredContent(), monkeypatch)
    with refused(device, FetchError, "fetch", match="no place is known", newer=True):
        device.verify()
    assert internet.opened == []
    look(device, MirroredContent(always=[cast("Source", device.source)]), monkeypatch)
    assert device.install() == "2.0.0"
    assert internet.opened == []


@pytest.mark.parametrize(
    "location",
    [
        "oci://registry.acme.example:443/acme/pump",
        "https://registry.acme.example/acme/pump",
        "https://registry.acme.example:443/elsewhere",
        "https://REGISTRY.acme.example./acme/pump",
    ],
)
def test_a_mapped_host_under_another_name(
    tmp_path: Path,
    internet: Internet,
    monkeypatch: pytest.MonkeyPatch,
    location: str,
) -> None:
    """Mallory took a mapped registry over; a record names it in another way."""
    world, device = installed(tmp_path)
    world.release("2.0.0", locations=(location,))
    device.source.files = world.publish()
    mallory = MemorySource(world.files.copy())
    internet.places[location] = mallory
    content = MirroredContent(
        MirrorMap({VENDOR: [PLANT]}), always=[cast("Source", device.source)]
    )
    look(device, content, monkeypatch)
    assert device.install() == "2.0.0"
    assert mallory.asked == []
    assert location not in internet.opened


def test_more_locations_than_anybody_needs(
    internet: Internet,
) -> None:
    """Signed, and still bounded."""
    locations = [f"oci://r{number}.example/acme" for number in range(1_000)]
    assert len(MirroredContent().sources(locations)) == MAX_SOURCES


def test_an_old_mirror_after_a_new_one(tmp_path: Path) -> None:
    """The mirror that answers next is behind: what the device knows, it keeps."""
    world, device = installed(tmp_path)
    old = MemorySource(world.files.copy())
    world.release("2.0.0")
    new = MemorySource(world.publish())
    both = FirstAnswering([cast("Source", new), cast("Source", old)])
    device.source = cast("MemorySource", both)
    device.contents = [new]
    assert device.install() == "2.0.0"
    new.down = True
    with refused(device, RollbackError, "rollback", match="timestamp"):
        device.verify()
    new.down = False
    device.source = new
    assert device.version() == "2.0.0"


def test_a_hiccup_of_the_best_mirror(tmp_path: Path) -> None:
    """One moment without it, and an agent would ask an old mirror for ever."""
    world, device = installed(tmp_path)
    old = MemorySource(world.files.copy())
    world.release("2.0.0")
    new = MemorySource(world.publish())
    both = FirstAnswering([cast("Source", new), cast("Source", old)])
    device.source = cast("MemorySource", both)
    device.contents = [new]
    assert device.version() == "2.0.0"
    new.down = True
    with refused(device, RollbackError, "rollback", match="timestamp"):
        device.verify()
    new.down = False
    assert device.install() == "2.0.0"
    assert both.url == new.url
    # A gateway before a mirror that is gone is no answer of it, either.
    world.release("3.0.0")
    old.files = world.publish()

    class Gateway(MemorySource):
        def _ask(self, what: str) -> None:
            raise FetchError(f"{what} answered 503", url="gateway:", status=503)

    gone = Gateway(new.files)
    device.source = cast(
        "MemorySource", FirstAnswering([cast("Source", gone), cast("Source", old)])
    )
    device.contents = [old]
    assert device.install() == "3.0.0"


def test_a_mirror_that_goes_away_in_the_middle(tmp_path: Path) -> None:
    """Of each file the device takes what its signatures say, wherever it came from."""
    world, device = installed(tmp_path)
    half = MemorySource(world.files.copy())
    world.release("2.0.0")
    new = MemorySource(world.publish())

    class Leaving(MemorySource):
        def _ask(self, what: str) -> None:
            self.down = self.down or what.endswith("snapshot.json")
            super()._ask(what)

    leaving = Leaving(new.files)
    both = FirstAnswering([cast("Source", leaving), cast("Source", half)])
    device.source = cast("MemorySource", both)
    with pytest.raises(SupplyChainError) as caught:
        device.verify()
    assert caught.value.exit_status == 4  # what is missing is no rejection
    device.source = cast(
        "MemorySource", FirstAnswering([cast("Source", leaving), cast("Source", new)])
    )
    device.contents = [new]
    assert device.install() == "2.0.0"
