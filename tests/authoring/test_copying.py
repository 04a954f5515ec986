"""`copy_releases` between directories: verified, whole, resumable, never backwards."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring.copying import Copied, copy_releases
from margo_supplychain.authoring.selection import EVERYTHING, Selection
from margo_supplychain.authoring.shelves import open_shelf
from margo_supplychain.authoring.testing import tiny_repository
from margo_supplychain.errors import (
    BudgetError,
    ConflictError,
    ExpiredError,
    FetchError,
    MixAndMatchError,
    NoMatchingVersionError,
    RefusedError,
    RollbackError,
    ThresholdError,
    UnknownTargetError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.transport.directory import DirectorySink, DirectorySource
from margo_supplychain.verify.limits import Control
from margo_supplychain.verify.trust_store import TrustStore
from tests.authoring.copies import device
from tests.authoring.trust import OPEN, PUMP, VALVE, Vendor, key

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.names import TargetPath


@pytest.fixture
def filled(vendor: Vendor) -> Vendor:
    vendor.create_with_pump()
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.add_application(VALVE, [key("ci").public_key], policy=OPEN)
        edit.add_release(vendor.release("1.0.0", name=VALVE))
    vendor.publish("1.0.0", "1.1.0")
    return vendor


def copy(
    vendor: Vendor,
    to: str = "mirror",
    *,
    source: Path | None = None,
    trust: TrustStore | None = None,
    select: Selection = EVERYTHING,
) -> Copied:
    with open_shelf(str(vendor.directory / to)) as shelf:
        return copy_releases(
            DirectorySource(source or vendor.trust),
            shelf,
            trust=trust
            or TrustStore.unsafe_without_memory(root=vendor.repository.root),
            select=select,
            clock=vendor.clock,
        )


def files(vendor: Vendor, at: str = "mirror") -> dict[str, bytes]:
    """Return what a device may see."""
    directory = vendor.directory / at
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".lock" and "authoring" not in path.parts
    }


def fetch(vendor: Vendor, name: ReleaseName, version: str, at: str = "mirror") -> None:
    verifier = device(vendor, at=at)
    release = verifier.verify(name, Pin.parse_argument(version))
    verifier.fetch(release, vendor.directory / f"fetched-{at}")


def test_everything_is_copied_byte_for_byte(filled: Vendor) -> None:
    done = copy(filled)
    ours, theirs = files(filled), files(filled, "trust")
    current = {
        name: data
        for name, data in theirs.items()
        if name in ours or not name.startswith("metadata/")
    }
    assert ours == current
    assert done.timestamp == filled.version("timestamp")
    assert (done.root, done.listed, done.releases) == (1, 3, 3)
    assert (done.blobs_new, done.blobs_there) == (7, 0)
    assert (done.warnings, dict(done.mirrors)) == ((), {})
    for name, version in ((PUMP, "1.0.0"), (PUMP, "1.1.0"), (VALVE, "1.0.0")):
        fetch(filled, name, version)


def test_only_what_is_missing(filled: Vendor) -> None:
    first = copy(filled)
    second = copy(filled)
    assert first.changed
    assert not second.changed
    assert second.files_there == first.files_new
    assert (second.blobs_new, second.blobs_there) == (0, 7)
    filled.publish("1.2.0")
    third = copy(filled)
    assert (third.blobs_new, third.blobs_there) == (2, 7)
    fetch(filled, PUMP, "1.2.0")


def test_content_by_name_and_version(filled: Vendor) -> None:
    pin = Pin.range("^1.1", grammar="npm")
    done = copy(filled, select=Selection(names=frozenset({PUMP}), pin=pin))
    assert (done.listed, done.releases, done.blobs_new) == (3, 1, 3)
    fetch(filled, PUMP, "1.1.0")
    # Its trust metadata is there, its content is not: no verdict.
    with pytest.raises(FetchError):
        fetch(filled, VALVE, "1.0.0")
    assert copy(filled).blobs_new == 4


@pytest.mark.parametrize(
    ("names", "pin", "error"),
    [
        (["acme/nothing"], None, UnknownTargetError),
        (["acme/pump-monitor"], "^3", NoMatchingVersionError),
        ([], "^3", NoMatchingVersionError),
    ],
)
def test_nothing_selected_is_an_error(
    filled: Vendor, names: list[str], pin: str | None, error: type[Exception]
) -> None:
    select = Selection(
        names=frozenset(map(ReleaseName.parse, names)),
        pin=None if pin is None else Pin.range(pin, grammar="npm"),
    )
    with pytest.raises(error):
        copy(filled, select=select)
    assert not (filled.directory / "mirror" / "metadata" / "timestamp.json").exists()


def test_withdrawn_releases_come_without_content(filled: Vendor) -> None:
    filled.withdraw("1.0.0")
    done = copy(filled)
    assert (done.listed, done.releases) == (3, 2)
    assert any("1.0.0" in name for name in files(filled))
    layer = Digest.of(b"acme/pump-monitor 1.0.0").hex
    assert f"blobs/sha256/{layer}" not in files(filled)


def test_a_new_repository_without_releases(vendor: Vendor) -> None:
    vendor.create()
    done = copy(vendor)
    assert (done.listed, done.releases, done.blobs_new) == (0, 0, 0)


def test_simple_profile(vendor: Vendor) -> None:
    vendor.profile = "simple"
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    assert copy(vendor).releases == 1
    fetch(vendor, PUMP, "1.0.0")


def test_what_has_expired_is_not_copied(filled: Vendor) -> None:
    filled.clock.advance(days=5)
    with pytest.raises(ExpiredError, match="timestamp") as caught:
        copy(filled)
    assert "sign it again at its origin" in str(caught.value.hint)
    assert list((filled.directory / "mirror" / "metadata").iterdir()) == []


def test_one_expired_application_stops_nobody(filled: Vendor) -> None:
    """An abandoned application is every device's business, and no mirror's."""
    filled.clock.advance(days=190)
    with filled.repository.edit(
        filled.keys, clock=filled.clock, time_checked=True
    ) as edit:
        edit.refresh(PUMP.role)
        edit.refresh()
    done = copy(filled)
    (warning,) = done.warnings
    assert warning.startswith("devices refuse acme.valve: acme.valve v1 expired")
    fetch(filled, PUMP, "1.1.0")


def test_an_older_source_is_refused(filled: Vendor) -> None:
    shutil.copytree(filled.trust, filled.directory / "old")
    filled.publish("1.2.0")
    copy(filled)
    before = files(filled)
    with pytest.raises(RollbackError, match="timestamp v4 is older") as caught:
        copy(filled, source=filled.directory / "old")
    assert caught.value.exit_status == 3
    assert "shows a newer state" in str(caught.value.hint)
    assert files(filled) == before


def test_a_source_older_than_the_memory_is_refused(filled: Vendor) -> None:
    shutil.copytree(filled.trust, filled.directory / "old")
    store = filled.store()
    filled.publish("1.2.0")
    copy(filled, trust=store)
    with pytest.raises(RollbackError):
        copy(filled, "other", source=filled.directory / "old", trust=store)


def test_another_truth_is_refused(filled: Vendor) -> None:
    """Two timestamps of one version: somebody else has the online key, or forked."""
    shutil.copytree(filled.trust, filled.directory / "fork")
    filled.publish("1.2.0")
    copy(filled)
    fork = Vendor(filled.directory, clock=filled.clock)
    fork.trust.rename(filled.directory / "origin")
    (filled.directory / "fork").rename(fork.trust)
    fork.publish("6.6.6")
    with pytest.raises(MixAndMatchError):
        copy(fork)


def test_other_bytes_under_a_versioned_name(filled: Vendor) -> None:
    directory = filled.directory / "mirror" / "metadata"
    directory.mkdir(parents=True)
    (directory / f"{filled.version('acme')}.acme.json").write_bytes(b"{}")
    with pytest.raises(ConflictError, match="exists with other bytes"):
        copy(filled)
    assert not (directory / "timestamp.json").exists()


def test_a_repository_of_somebody_else(filled: Vendor) -> None:
    tiny_repository(filled.directory / "other", clock=filled.clock)
    before = files(filled, "other/trust")
    with pytest.raises(ConflictError):
        copy(filled, "other/trust")
    after = files(filled, "other/trust")
    assert {name: after[name] for name in before} == before


def test_tampered_source(filled: Vendor) -> None:
    """What is wrong with one release is said, and costs no other."""
    (record,) = (filled.trust / "targets/acme/releases/valve").iterdir()
    record.write_bytes(record.read_bytes().replace(b"valve", b"vulva"))
    done = copy(filled)
    path = "acme/releases/valve/1.0.0"
    assert (done.incomplete, done.listed, done.releases) == ((path,), 3, 2)
    assert [one.partition(":")[0] for one in done.warnings] == [
        f"{path} is not copied whole"
    ]
    fetch(filled, PUMP, "1.1.0")
    with pytest.raises(FetchError):
        fetch(filled, VALVE, "1.0.0")


def test_tampered_content(filled: Vendor) -> None:
    layer = filled.trust / "blobs/sha256" / Digest.of(b"acme/valve 1.0.0").hex
    good = layer.read_bytes()
    layer.write_bytes(b"acme/valve 6.6.6")
    done = copy(filled)
    assert done.incomplete == ("acme/releases/valve/1.0.0",)
    fetch(filled, PUMP, "1.1.0")
    # Whoever does not need it leaves that one out.
    done = copy(filled, select=Selection(names=frozenset({PUMP})))
    assert (done.incomplete, done.warnings) == ((), ())
    layer.write_bytes(good)
    assert copy(filled).incomplete == ()
    fetch(filled, VALVE, "1.0.0")


def test_another_root(filled: Vendor) -> None:
    other = tiny_repository(filled.directory / "other", clock=filled.clock)
    stranger = TrustStore.unsafe_without_memory(root=other.root)
    with pytest.raises(ThresholdError):
        copy(filled, trust=stranger)


def test_a_damaged_target_is_made_whole(filled: Vendor) -> None:
    copy(filled)
    whole = files(filled)
    mirror = filled.directory / "mirror"
    for path in (mirror / "targets/acme/releases").rglob("*.1.0.0"):
        path.write_bytes(b"{}")
    for path in (mirror / "metadata").glob("*.snapshot.json"):
        path.unlink()
    (mirror / "blobs/sha256" / Digest.of(b"acme/valve 1.0.0").hex).unlink()
    done = copy(filled)
    assert (done.files_new, done.blobs_new) == (3, 1)
    assert files(filled) == whole


def test_a_missing_manifest_at_the_target(filled: Vendor) -> None:
    copy(filled)
    manifest = filled.release("1.1.0").artifact.digest.hex
    path = filled.directory / "mirror/blobs/sha256" / manifest
    good = path.read_bytes()
    path.write_bytes(b"x" * len(good))
    copy(filled)
    fetch(filled, PUMP, "1.1.0")
    assert path.read_bytes() == good


def test_into_itself(filled: Vendor) -> None:
    with pytest.raises(RefusedError):
        copy(filled, "trust")


def test_into_somebodys_directory(filled: Vendor) -> None:
    (filled.directory / "home").mkdir()
    (filled.directory / "home" / "letter.txt").write_text("dear")
    with pytest.raises(RefusedError, match=r"letter\.txt"):
        copy(filled, "home")


def test_budget_and_progress(filled: Vendor) -> None:
    told: list[tuple[str, int, int]] = []

    def tell(what: str, done: int, total: int) -> None:
        told.append((what, done, total))

    with open_shelf(str(filled.directory / "mirror")) as shelf:
        copy_releases(
            DirectorySource(filled.trust),
            shelf,
            trust=TrustStore.unsafe_without_memory(root=filled.repository.root),
            clock=filled.clock,
            control=Control(progress=tell),
        )
    finished = {what for what, done, total in told if done == total}
    assert str(Digest.of(b"acme/valve 1.0.0")) in finished
    with (
        open_shelf(str(filled.directory / "other")) as shelf,
        pytest.raises(BudgetError),
    ):
        copy_releases(
            DirectorySource(filled.trust),
            shelf,
            trust=TrustStore.unsafe_without_memory(root=filled.repository.root),
            clock=filled.clock,
            control=Control(max_bytes=10),
        )


class Stopping(DirectorySink):
    """Raises instead of doing its n-th put."""

    left = 0

    def _next(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def put_blob(self, what: Descriptor, data: BinaryIO) -> None:
        if not self.has_blob(what):
            self._next()
        super().put_blob(what, data)

    def put_target(self, path: TargetPath, what: Descriptor, data: BinaryIO) -> None:
        self._next()
        super().put_target(path, what, data)

    def put_metadata(self, filename: str, data: bytes) -> None:
        self._next()
        super().put_metadata(filename, data)


def test_stopped_at_every_put(filled: Vendor) -> None:
    """A device sees the old state or the new one; a fresh one says inconclusive until
    there is a whole one. Running it again goes on."""
    trust = TrustStore.unsafe_without_memory(root=filled.repository.root)
    mirror = filled.directory / "mirror"
    (mirror / "metadata").mkdir(parents=True)
    shutil.copytree(filled.trust, filled.directory / "v1")
    filled.publish("1.2.0")

    def stop_at(place: Path, source: Path, put: int) -> bool:
        sink = Stopping(place)
        sink.left = put
        try:
            copy_releases(
                DirectorySource(source), sink, trust=trust, clock=filled.clock
            )
        except KeyboardInterrupt:
            return False
        return True

    put = 0
    while not stop_at(mirror, filled.directory / "v1", 1):
        put += 1
        assert put < 100
        with pytest.raises(FetchError) as caught:
            device(filled).verify(PUMP, Pin.parse_argument("^1"))
        assert caught.value.exit_status == 4
    assert put > 10
    fetch(filled, PUMP, "1.1.0")

    # A store of its own, since nothing is remembered from one put to the next.
    for put in range(100):
        place = filled.directory / f"mirror-{put}"
        shutil.copytree(mirror, place)
        store = TrustStore.unsafe_without_memory(root=filled.repository.root)
        old = device(filled, store, at=place.name)
        old.verify(PUMP, Pin.parse_argument("^1"))
        finished = stop_at(place, filled.trust, put)
        expected = "1.2.0" if finished else "1.1.0"
        for verifier in (old, device(filled, at=place.name)):
            found = verifier.verify(PUMP, Pin.parse_argument("^1"))
            assert str(found.version) == expected
            verifier.fetch(found, filled.directory / f"got-{put}")
        if finished:
            break
        assert stop_at(place, filled.trust, 1000)
        assert files(filled, place.name) == files(filled, "mirror") | files(
            filled, place.name
        )
    assert put == 6  # layer, manifest, record, role, snapshot, timestamp
