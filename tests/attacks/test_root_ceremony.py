"""The ceremony is attacked: by who carries the file, by one of the holders, by who has
a key that was taken away. Neither the repository nor any device moves.

Two of three sign: Ada, Ben, Cyd. Mallory reads and writes everything that goes from
hand to hand, and may put any file where devices look.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from margo_supplychain.authoring.holders import Holder
from margo_supplychain.authoring.plan import RoleKeys, RootPlan
from margo_supplychain.authoring.proposals import RootProposal, SignedRoot
from margo_supplychain.authoring.repository import Repository
from margo_supplychain.errors import (
    IncompleteError,
    MalformedError,
    MetadataFormatError,
    RefusedError,
    ThresholdError,
)
from margo_supplychain.formats import canonical_json
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.formats.tuf_metadata import file_name
from tests.attacks.scenes import refused
from tests.authoring.trust import key
from tests.world import FixedClock
from tests.world.device import Device
from tests.world.repository import START
from tests.world.sources import Files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

PUMP: Final = ReleaseName.parse("acme/pump-monitor")
HOLDERS: Final = ("ada", "ben", "cyd")


@dataclass(frozen=True, slots=True)
class Hall:
    """Where the ceremony is held: the repository, and a device on its first root."""

    directory: Path
    device: Device
    clock: FixedClock

    @property
    def repository(self) -> Repository:
        return Repository.open(self.directory)

    def files(self) -> dict[str, bytes]:
        """Return every file of the repository but the lock."""
        return {
            path.relative_to(self.directory).as_posix(): path.read_bytes()
            for path in sorted(self.directory.rglob("*"))
            if path.is_file() and path.name != ".lock"
        }

    def root(self, version: int) -> bytes:
        return (self.directory / "metadata" / f"{version}.root.json").read_bytes()

    def propose(self, plan: RootPlan) -> RootProposal:
        return self.repository.propose_root(plan, clock=self.clock)

    def adopt(self, root: SignedRoot) -> None:
        self.repository.adopt_root(
            root, [key("targets"), key("online")], clock=self.clock
        )

    def serve(self, **planted: bytes) -> None:
        """Let the device see what is published, and what Mallory puts beside it."""
        self.device.source.files = served(self.directory)
        for name, data in planted.items():
            version = name.removeprefix("root_")
            self.device.source.files.metadata[f"{version}.root.json"] = data


def served(directory: Path) -> Files:
    """Return a repository's files as a device's source serves them."""
    found = Files()
    for path in (directory / "metadata").iterdir():
        found.metadata[path.name] = path.read_bytes()
    for path in (directory / "targets").rglob("*"):
        if path.is_file():
            sha256, _, name = path.name.partition(".")
            folder = path.parent.relative_to(directory / "targets").as_posix()
            found.targets[f"{folder}/{name}", sha256] = path.read_bytes()
    for path in (directory / "blobs").rglob("*"):
        if path.is_file():
            found.blobs[f"{path.parent.name}:{path.name}"] = path.read_bytes()
    return found


def plan_of(*names: str, threshold: int = 2) -> RootPlan:
    """Return a plan in which these people hold root."""
    online = RoleKeys(keys=(key("online").public_key,))
    return RootPlan.standard(
        root=RoleKeys(
            keys=tuple(key(name).public_key for name in names), threshold=threshold
        ),
        targets=RoleKeys(keys=(key("targets").public_key,)),
        snapshot=online,
        timestamp=online,
        holders={
            key(name).public_key.keyid: Holder(name=name.capitalize()) for name in names
        },
    )


def signed_by(proposal: RootProposal, *names: str) -> RootProposal:
    for name in names:
        proposal = proposal.sign(key(name))
    return proposal


@pytest.fixture(scope="module")
def first_hall(tmp_path_factory: pytest.TempPathFactory) -> Hall:
    """Make the first ceremony once: what differs between attacks comes after it."""
    place = tmp_path_factory.mktemp("hall")
    directory = place / "trust"
    clock = FixedClock(START)
    plan = plan_of(*HOLDERS)
    first = signed_by(RootProposal.first(plan, now=START), "ada", "cyd").finalize()
    keys = [key(name) for name in ("targets", "acme", "online")]
    repository = Repository.create(
        directory, plan=plan, keys=keys, root=first, clock=clock
    )
    with repository.edit(keys, clock=clock) as edit:
        edit.add_publisher("acme", [key("acme").public_key], threshold=1)
        edit.add_application(
            PUMP,
            [key("ci").public_key],
            policy=PublisherPolicy(epoch=1, provenance="none"),
        )
    device = Device(place / "device", served(directory), FixedClock(START))
    device.refresh()
    return Hall(directory, device, clock)


@pytest.fixture
def hall(first_hall: Hall, tmp_path: Path) -> Hall:
    """Return a plant in its legitimate state: a 2-of-3 root that a device trusts."""
    shutil.copytree(first_hall.directory, tmp_path / "trust")
    device = first_hall.device.copy(tmp_path / "device")
    assert device.trusted["root"] == 1
    return Hall(tmp_path / "trust", device, FixedClock(START))


def renewed(hall: Hall) -> RootProposal:
    """Return an honest proposal: Cyd's key gives way to a new one of hers."""
    return hall.propose(plan_of("ada", "ben", "cyd-2"))


def rotate(hall: Hall) -> None:
    """Replace Cyd's key, as it should be."""
    hall.clock.advance(days=1)
    hall.adopt(signed_by(renewed(hall), "ada", "ben").finalize())
    hall.serve()
    hall.device.clock.when = hall.clock.when
    hall.device.refresh()
    assert hall.device.trusted["root"] == 2


def device_refuses(hall: Hall, forged: bytes, version: int, match: str) -> None:
    """Expect that a device, offered a root, stays where it is."""
    hall.serve(**{f"root_{version}": forged})
    refused(
        hall.device,
        ThresholdError,
        "threshold",
        match,
        last=file_name("root", version),
        call=hall.device.refresh,
    )


def forge(
    data: bytes, signers: Iterable[str], change: Callable[[Any], None] = lambda _: None
) -> bytes:
    """Return a root with another content, signed by whoever is named."""
    raw = json.loads(data)
    change(raw["signed"])
    payload = canonical_json.encode(raw["signed"])
    raw["signatures"] = [key(name).sign(payload).to_dict() for name in signers]
    return json.dumps(raw).encode()


def alias(data: Any, keyid: str) -> str:
    """Give a key of a root a second id, as python-tuf computes it; return that."""
    twin = {**data["keys"][keyid], "x-note": "a spare"}
    other = hashlib.sha256(canonical_json.encode(twin)).hexdigest()
    data["keys"][other] = twin
    return other


def test_threshold_padded_by_one_key_under_two_ids(hall: Hall) -> None:
    """Ada alone wants to be two of three: she lists her key a second time, under
    another valid id, and signs under both."""
    before = hall.files()
    ada = key("ada").public_key.keyid

    def pad(signed: Any) -> None:
        signed["roles"]["root"]["keyids"].append(alias(signed, ada))

    proposal = renewed(hall)
    padded = json.loads(forge(proposal.data, ["ada"], pad))
    second = padded["signed"]["roles"]["root"]["keyids"][-1]
    padded["signatures"].append({**padded["signatures"][0], "keyid": second})
    data = json.dumps(padded).encode()
    with pytest.raises(RefusedError, match=r"twice|same key") as caught:
        RootProposal.parse(data, trusted=hall.root(1))
    assert caught.value.code == "refused"
    device_refuses(hall, data, 2, "root v2 has one key under two key ids")
    assert hall.files() == before
    rotate(hall)  # the honest one goes through


def test_threshold_padded_by_one_key_id_listed_twice(hall: Hall) -> None:
    """Mallory, with Ada, lists Ada's key id twice in the role, and nobody else's."""
    before = hall.files()
    ada = key("ada").public_key.keyid

    def pad(signed: Any) -> None:
        signed["roles"]["root"]["keyids"] = [ada, ada]

    data = forge(renewed(hall).data, ["ada"], pad)
    with pytest.raises((MetadataFormatError, RefusedError)):
        RootProposal.parse(data, trusted=hall.root(1))
    hall.serve(root_2=data)
    memory = hall.device.memory
    with pytest.raises((MalformedError, ThresholdError)):
        hall.device.refresh()
    assert hall.device.memory == memory
    assert hall.files() == before
    rotate(hall)


def test_threshold_padded_by_one_signature_twice(hall: Hall) -> None:
    """Ada puts her signature into the file twice, under the same id and in two
    encodings of it."""
    before, memory = hall.files(), hall.device.memory
    raw = json.loads(signed_by(renewed(hall), "ada").data)
    once = raw["signatures"][0]
    for twin, kind in (
        (once, MalformedError),
        ({**once, "keyid": once["keyid"].upper()}, ThresholdError),
        ({**once, "sig": once["sig"].upper()}, MalformedError),
    ):
        data = json.dumps({**raw, "signatures": [once, twin]}).encode()
        with pytest.raises((MetadataFormatError, RefusedError)):
            RootProposal.parse(data, trusted=hall.root(1))
        hall.serve(root_2=data)
        with pytest.raises(kind):
            hall.device.refresh()
        assert hall.device.memory == memory
    assert hall.files() == before
    rotate(hall)


def test_proposal_swapped_between_two_signers(hall: Hall) -> None:
    """Ada signed that Cyd's key is replaced. On the way to Ben the file becomes one in
    which Mallory's key comes instead, with Ada's signature still in it."""
    before = hall.files()
    honest = signed_by(renewed(hall), "ada")
    swapped = hall.propose(plan_of("ada", "ben", "mallory"))
    assert swapped.digest != honest.digest  # what two people compare by phone
    raw = json.loads(swapped.data)
    raw["signatures"] = json.loads(honest.data)["signatures"]
    carried = json.dumps(raw).encode()

    with pytest.raises(RefusedError, match="does not verify: it was changed") as why:
        RootProposal.parse(carried, trusted=hall.root(1))
    assert f"sha256 {swapped.digest}" in str(why.value.hint)
    # Without the signature it is a proposal as any, and says what it would do.
    assert "mallory" in str(swapped.difference()).lower()
    # What Ben signed does not come together with what Ada signed.
    with pytest.raises(RefusedError, match="these are two proposals"):
        signed_by(swapped, "ben").merge(honest)
    with pytest.raises(IncompleteError, match="old root needs 1 more of Ada"):
        signed_by(swapped, "ben", "mallory").finalize()

    raw["signatures"] += json.loads(signed_by(swapped, "ben").data)["signatures"]
    device_refuses(
        hall, json.dumps(raw).encode(), 2, "root v2 has 1 of 2 required signatures"
    )
    assert hall.files() == before
    rotate(hall)


def test_signature_from_a_removed_key(hall: Hall) -> None:
    """Cyd's token was stolen and her key replaced. Who has it signs the next root with
    one more holder who was talked into it."""
    rotate(hall)
    before = hall.files()
    proposal = signed_by(hall.propose(plan_of("ada", "ben", "cyd-3")), "ada")
    with pytest.raises(RefusedError, match="is no root key of root v2 or root v3"):
        proposal.sign(key("cyd"))
    stolen = forge(proposal.data, ["ada", "cyd"])
    with pytest.raises(RefusedError, match="is no root key of root v2 or root v3"):
        RootProposal.parse(stolen, trusted=hall.root(2))
    with pytest.raises(IncompleteError, match="old root needs 1 more of"):
        proposal.finalize()
    device_refuses(hall, stolen, 3, "root v3 has 1 of 2 required signatures")
    # Nor does the key come back: a root that names it again is not even proposed.
    with pytest.raises(RefusedError, match="left the role root"):
        hall.propose(plan_of("ada", "ben", "cyd"))
    assert hall.files() == before
    assert hall.device.trusted["root"] == 2


def test_lowered_threshold_without_the_consent_of_the_old_root(hall: Hall) -> None:
    """Ada proposes that one signature is enough, and gives it: her root has what it
    demands, and not what the one before demands."""
    before = hall.files()
    lowered = signed_by(hall.propose(plan_of("ada", "ben", "cyd", threshold=1)), "ada")
    assert lowered.new.met
    assert lowered.old is not None
    assert not lowered.old.met
    with pytest.raises(IncompleteError, match=r"^old root needs 1 more of Ben, Cyd$"):
        lowered.finalize()
    device_refuses(hall, lowered.data, 2, "root v2 has 1 of 2 required signatures")
    # All of root's keys in hers alone: she is the new root, and nobody follows.
    alone = signed_by(hall.propose(plan_of("ada", threshold=1)), "ada")
    device_refuses(hall, alone.data, 2, "root v2 has 1 of 2 required signatures")
    assert hall.files() == before
    rotate(hall)


@pytest.mark.parametrize("who", [["ada"], ["cyd"], ["cyd-2"], []])
def test_one_key_less_than_the_threshold(hall: Hall, who: list[str]) -> None:
    """Whatever a single holder has, a new root is not among it."""
    before = hall.files()
    proposal = signed_by(renewed(hall), *who)
    with pytest.raises(IncompleteError, match=r"old root needs [12] more of"):
        proposal.finalize()
    # There is no other way to what `adopt_root` takes.
    with pytest.raises(TypeError, match=r"made only by RootProposal.finalize"):
        SignedRoot(root=proposal.root, seal=object())
    if who:
        count = 0 if who == ["cyd-2"] else 1
        device_refuses(hall, proposal.data, 2, f"root v2 has {count} of 2 required")
    assert hall.files() == before
    rotate(hall)


def test_old_root_met_and_new_root_not(hall: Hall) -> None:
    """Two old holders sign a root whose own new holders never did: no device could go
    on from there, so it is not adopted, and none takes it."""
    before = hall.files()
    strangers = signed_by(
        hall.propose(plan_of("dan", "eve", "fay")), "ada", "ben", "dan"
    )
    with pytest.raises(IncompleteError, match=r"^new root needs 1 more of Eve, Fay$"):
        strangers.finalize()
    device_refuses(hall, strangers.data, 2, "root v2 has 1 of 2 required signatures")
    assert hall.files() == before
    rotate(hall)
