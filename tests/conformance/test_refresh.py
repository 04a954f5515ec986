"""The client workflow for the top-level roles: order, bytes, refusals and floors."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import MetaFile

from tests.attacks.scenes import resign
from tests.conformance.running import started, versions
from tests.world.repository import bound, key

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conformance.running import Client
    from tests.world import World

ROLES = ("root", "timestamp", "snapshot", "targets")
FIRST = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
# What is stored when version 2 of a role fails: all that comes before it.
BEFORE = {
    "root": versions(1, 1, 1, 1),
    "timestamp": versions(2, 1, 1, 1),
    "snapshot": versions(2, 2, 1, 1),
    "targets": versions(2, 2, 2, 1),
}


def everything(world: World, **lives: float) -> None:
    """Publish version 2 of each top-level role; `lives` says how many days it lives."""
    world.touch("targets")
    world.rotate("targets", keep_old=True)  # a new root, the same keys
    if "root" in lives:
        world.root.expires = world.clock.when + timedelta(days=lives["root"])
        world.files.metadata["2.root.json"] = world.sign("root")
    days: Any = {role: period for role, period in lives.items() if role != "root"}
    world.publish(days=days)


def test_order_and_nothing_more(client: Client, world: World) -> None:
    started(client, world)
    assert client.site.asked == [f"metadata/{name}" for name in FIRST]
    assert client.versions == versions(1, 1, 1, 1)
    again = client.refresh()
    assert again.status == 0
    assert again.metadata == ["2.root.json", "timestamp.json"]


def test_order_of_an_update(client: Client, world: World) -> None:
    started(client, world)
    for _ in range(3):
        world.rotate("root", keep_old=True)
    everything(world)
    client.site.serve(world.files)
    run = client.refresh()
    assert run.status == 0, run.said
    assert run.metadata == [
        *(f"{number}.root.json" for number in range(2, 7)),
        "timestamp.json",
        "2.snapshot.json",
        "2.targets.json",
    ]
    assert client.versions == versions(5, 2, 2, 2)


def test_only_what_changed_is_fetched(client: Client, world: World) -> None:
    started(client, world)
    world.publish_online()
    client.site.serve(world.files)
    run = client.refresh()
    assert run.status == 0
    assert run.metadata == ["2.root.json", "timestamp.json", "2.snapshot.json"]


def test_stored_bytes_are_the_served_bytes(client: Client, world: World) -> None:
    """Unknown fields, signed and unsigned, and whatever layout the JSON had."""
    for role in ROLES:
        world.roles[role].unrecognized_fields["x-other"] = {"kept": [1, "\u00e9\n"]}

    def odd(role: str) -> bytes:
        raw = json.loads(world.sign(role))
        raw["x-unsigned"] = None
        return json.dumps(raw, indent=3).encode() + b"\n"

    world.write("root", odd("root"))
    world.write("targets", odd("targets"))
    world.bump("snapshot", 9)
    world.write("snapshot", odd("snapshot"))
    world.publish_timestamp()
    world.files.metadata["timestamp.json"] = odd("timestamp")
    started(client, world)
    served = world.files.metadata
    assert client.stored == {
        "root.json": served["1.root.json"],
        "timestamp.json": served["timestamp.json"],
        "snapshot.json": served["2.snapshot.json"],
        "targets.json": served["1.targets.json"],
    }


@pytest.mark.parametrize("role", ROLES)
def test_expired(client: Client, world: World, role: str) -> None:
    started(client, world)
    everything(world, **{role: -1})
    client.site.serve(world.files)
    run = client.refresh()
    assert run.status == 1
    assert "[expired]" in run.said
    # An expired root is still a link of the chain (TUF 5.3.10).
    expected = versions(2, 1, 1, 1) if role == "root" else BEFORE[role]
    assert client.versions == expected


def test_a_newer_root_replaces_an_expired_one(client: Client, world: World) -> None:
    """Intermediate roots may have expired; only the last one must not have."""
    world.root.expires = world.clock.when - timedelta(days=1)
    world.files.metadata["1.root.json"] = world.sign("root")
    client.site.serve(world.files)
    client.init(world.files.metadata["1.root.json"])
    run = client.refresh()
    assert (run.status, run.metadata) == (1, ["2.root.json"])
    everything(world)
    client.site.serve(world.files)
    assert client.refresh().status == 0
    assert client.versions == versions(2, 2, 2, 2)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("signers", [[], [key("mallory")]])
def test_signed_by_nobody_or_another(
    client: Client, world: World, role: str, signers: list[CryptoSigner]
) -> None:
    started(client, world)
    everything(world)
    data = world.sign(role, signers)
    if role == "timestamp":
        world.files.metadata["timestamp.json"] = data
    else:
        world.write(role, data)
    if role == "targets":
        world.write("snapshot", world.sign("snapshot"))
    if role in ("targets", "snapshot"):
        world.roles["timestamp"].snapshot_meta = bound(
            2, world.files.metadata["2.snapshot.json"]
        )
        world.files.metadata["timestamp.json"] = world.sign("timestamp")
    client.site.serve(world.files)
    run = client.refresh()
    assert run.status == 1
    assert "[threshold]" in run.said
    assert client.versions == BEFORE[role]
    assert client.refresh().status == 1


def test_new_root_needs_the_old_keys_and_its_own(client: Client, world: World) -> None:
    started(client, world)
    world.rotate("root", "root-2")
    world.files.metadata["2.root.json"] = world.sign("root", [key("root-2")])
    client.site.serve(world.files)
    assert client.refresh().status == 1
    world.files.metadata["2.root.json"] = world.sign("root", [key("root")])
    client.site.serve(world.files)
    assert client.refresh().status == 1
    assert client.versions == versions(1, 1, 1, 1)
    both = world.sign("root", [key("root"), key("root-2")])
    world.files.metadata["2.root.json"] = both
    client.site.serve(world.files)
    assert client.refresh().status == 0
    assert client.versions == versions(2, 1, 1, 1)


@pytest.mark.parametrize("offered", [1, 3])
def test_root_must_be_the_next(client: Client, world: World, offered: int) -> None:
    started(client, world)
    world.root.version = offered
    world.files.metadata["2.root.json"] = world.sign("root")
    client.site.serve(world.files)
    run = client.refresh()
    assert run.status == 1
    assert run.metadata == ["2.root.json"]
    assert client.versions == versions(1, 1, 1, 1)


def test_rollback_of_the_whole_repository(client: Client, world: World) -> None:
    old = world.files.copy()
    everything(world)
    started(client, world)
    client.site.serve(old)
    run = client.refresh()
    assert run.status == 1
    assert "[rollback]" in run.said
    assert client.versions == versions(2, 2, 2, 2)


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_rollback_by_those_who_list(client: Client, world: World, role: str) -> None:
    """Timestamp lists an older snapshot; snapshot an older targets, or none."""
    old = world.files.copy()
    everything(world)
    started(client, world)
    if role == "snapshot":
        world.bump("timestamp", 4)
        world.roles["timestamp"].snapshot_meta = bound(
            1, old.metadata["1.snapshot.json"]
        )
        world.files.metadata["timestamp.json"] = world.sign("timestamp")
    else:
        world.roles["snapshot"].meta["targets.json"] = bound(
            1, old.metadata["1.targets.json"]
        )
        world.publish_online()
    client.site.serve(world.files)
    run = client.refresh()
    assert run.status == 1
    assert "[rollback]" in run.said
    timestamp = 2 if role == "snapshot" else 3
    assert client.versions == versions(2, timestamp, 2, 2)


def test_a_role_never_vanishes_from_snapshot(client: Client, world: World) -> None:
    started(client, world)
    world.roles["snapshot"].meta = {"other.json": MetaFile(1)}
    world.publish_online()
    client.site.serve(world.files)
    assert client.refresh().status == 1
    assert client.versions == versions(1, 2, 1, 1)


def test_timestamp_of_the_same_version_is_discarded(
    client: Client, world: World
) -> None:
    """TUF 5.4.3.1: not an update, and no failure either."""
    started(client, world)
    stored = client.stored
    world.publish_online()
    world.roles["timestamp"].version = 1
    world.files.metadata["timestamp.json"] = world.sign("timestamp")
    client.site.serve(world.files)
    run = client.refresh()
    assert (run.status, run.metadata) == (0, ["2.root.json", "timestamp.json"])
    assert client.stored == stored


@pytest.mark.parametrize("what", ["hash", "length", "version"])
@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_other_file_than_listed(
    client: Client, world: World, role: str, what: str
) -> None:
    started(client, world)
    world.touch("targets")
    world.publish()
    delegator = "timestamp" if role == "snapshot" else "snapshot"
    signed = world.roles[delegator]
    entry = signed.snapshot_meta if role == "snapshot" else signed.meta["targets.json"]
    if what == "hash":
        entry.hashes = {"sha256": "0" * 64}
    elif what == "length":
        entry.length = 10
    else:
        entry.version = 3
        name = f"2.{role}.json"
        world.files.metadata[f"3.{role}.json"] = world.files.metadata[name]
    if role == "targets":
        world.publish_online()
    else:
        world.files.metadata["timestamp.json"] = world.sign("timestamp")
    client.site.serve(world.files)
    assert client.refresh().status == 1
    assert client.versions["targets"] == 1
    assert client.versions["snapshot"] == (1 if role == "snapshot" else 3)


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json"])
def test_missing_file(client: Client, world: World, name: str) -> None:
    started(client, world)
    everything(world)
    del world.files.metadata[name]
    client.site.serve(world.files)
    run = client.refresh()
    assert run.status == 1
    assert run.metadata[-1] == name
    role = name.removeprefix("2.").removesuffix(".json")
    assert client.versions == BEFORE[role]


def test_fast_forward_ends_with_new_keys(client: Client, world: World) -> None:
    """TUF 5.3.11: floors fall with the keys that earned them."""
    world.roles["timestamp"].version = world.roles["snapshot"].version = 99_998
    world.publish()
    started(client, world)
    assert client.versions == versions(1, 99_999, 99_999, 1)
    world.rotate("timestamp", "timestamp-2")
    world.rotate("snapshot", "snapshot-2")
    world.roles["timestamp"].version = world.roles["snapshot"].version = 0
    world.publish()
    client.site.serve(world.files)
    run = client.refresh()
    assert run.status == 0, run.said
    assert client.versions == versions(3, 1, 1, 1)


@pytest.mark.parametrize("hashes", [True, False])
@pytest.mark.parametrize("length", [True, False])
def test_length_and_hashes_are_optional(
    client: Client, world: World, hashes: bool, length: bool
) -> None:
    """TUF 4.4: a snapshot may list versions alone, and so may a timestamp."""

    def thin(data: bytes) -> MetaFile:
        sha512 = hashlib.sha512(data).hexdigest()
        return MetaFile(
            1, len(data) if length else None, {"sha512": sha512} if hashes else None
        )

    world.roles["snapshot"].meta["targets.json"] = thin(
        world.files.metadata["1.targets.json"]
    )
    world.write("snapshot", world.sign("snapshot"))
    world.roles["timestamp"].snapshot_meta = thin(
        world.files.metadata["1.snapshot.json"]
    )
    world.files.metadata["timestamp.json"] = world.sign("timestamp")
    started(client, world)
    again = client.refresh()
    assert (again.status, again.metadata) == (0, ["2.root.json", "timestamp.json"])


def test_without_signed_times(client: Client, world: World) -> None:
    """`x-issued` is ours: nobody else's repository has it."""
    for role in ("root", "timestamp"):
        del world.roles[role].unrecognized_fields["x-issued"]
    world.write("root", world.sign("root"))
    world.files.metadata["timestamp.json"] = world.sign("timestamp")
    started(client, world)
    assert client.versions == versions(1, 1, 1, 1)


def test_without_consistent_snapshots(client: Client, world: World) -> None:
    world.root.consistent_snapshot = False
    world.write("root", world.sign("root"))
    client.site.serve(world.files, consistent=False)
    client.init(world.files.metadata["1.root.json"])
    run = client.refresh()
    assert run.status == 0, run.said
    names = ["2.root.json", "timestamp.json", "snapshot.json", "targets.json"]
    assert run.metadata == names
    everything(world)
    client.site.serve(world.files, consistent=False)
    run = client.refresh()
    assert run.status == 0, run.said
    assert run.metadata == ["2.root.json", "3.root.json", *names[1:]]
    assert client.versions == versions(2, 2, 2, 2)


@pytest.mark.parametrize(
    "make",
    [
        CryptoSigner.generate_ed25519,
        CryptoSigner.generate_ecdsa,
        lambda: CryptoSigner.generate_rsa(scheme="rsassa-pss-sha256"),
        lambda: CryptoSigner.generate_rsa(scheme="rsa-pkcs1v15-sha256"),
    ],
    ids=["ed25519", "ecdsa", "rsa-pss", "rsa-pkcs1"],
)
def test_kinds_of_keys(
    client: Client, world: World, make: Callable[[], CryptoSigner]
) -> None:
    signer = make()
    public = signer.public_key
    assert isinstance(public, SSlibKey)
    public.unrecognized_fields["x-owner"] = "somebody"
    world.root.revoke_key(key("timestamp").public_key.keyid, "timestamp")
    world.root.add_key(public, "timestamp")
    world.write("root", world.sign("root"))
    world.files.metadata["timestamp.json"] = world.sign("timestamp", [signer])
    started(client, world)


def _unreadable_key(signed: dict[str, Any]) -> None:
    signed["keys"]["ab" * 32] = {
        "keytype": "ecdsa",
        "scheme": "ecdsa-sha2-nistp256",
        "keyval": {"public": "no key"},
    }
    signed["roles"]["timestamp"]["keyids"].append("ab" * 32)


def _key_id_of_another_making(signed: dict[str, Any]) -> None:
    (keyid,) = signed["roles"]["targets"]["keyids"]
    signed["keys"]["my key"] = signed["keys"].pop(keyid)
    signed["roles"]["targets"]["keyids"] = ["my key"]


@pytest.mark.parametrize("change", [_unreadable_key, _key_id_of_another_making])
def test_keys_that_others_use(
    client: Client, world: World, change: Callable[[dict[str, Any]], None]
) -> None:
    """A key that can't be read counts for nothing; a key id is a name here."""
    root = resign(world.files.metadata["1.root.json"], world.signers["root"], change)
    world.files.metadata["1.root.json"] = root
    targets = json.loads(world.sign("targets"))
    (signature,) = targets["signatures"]
    targets["signatures"].append(signature | {"keyid": "my key"})
    world.write("targets", json.dumps(targets).encode())
    world.bump("snapshot", 9)
    world.write("snapshot", world.sign("snapshot"))
    world.publish_timestamp()
    started(client, world)


def _unknown_key(signed: dict[str, Any]) -> None:
    """What python-tuf 7 does not take either."""
    signed["keys"]["ab" * 32] = {
        "keytype": "future",
        "scheme": "future-1",
        "keyval": {"public": "00"},
    }


def _version_zero(signed: dict[str, Any]) -> None:
    signed["version"] = 0


def _no_expiry(signed: dict[str, Any]) -> None:
    del signed["expires"]


def _other_specification(signed: dict[str, Any]) -> None:
    signed["spec_version"] = "2.0.0"


def _threshold_zero(signed: dict[str, Any]) -> None:
    signed["roles"]["snapshot"]["threshold"] = 0


def _repeated_key(signed: dict[str, Any]) -> None:
    signed["roles"]["snapshot"]["keyids"] *= 2


def _role_missing(signed: dict[str, Any]) -> None:
    del signed["roles"]["snapshot"]


@pytest.mark.parametrize(
    "change",
    [
        _unknown_key,
        _version_zero,
        _no_expiry,
        _other_specification,
        _threshold_zero,
        _repeated_key,
        _role_missing,
    ],
)
def test_malformed_root(
    client: Client, world: World, change: Callable[[dict[str, Any]], None]
) -> None:
    started(client, world)
    world.rotate("targets", keep_old=True)
    root = resign(world.files.metadata["2.root.json"], world.signers["root"], change)
    world.files.metadata["2.root.json"] = root
    client.site.serve(world.files)
    run = client.refresh()
    assert (run.status, run.metadata) == (1, ["2.root.json"])
    assert client.versions == versions(1, 1, 1, 1)


def test_a_signature_repeated_under_its_key_id(client: Client, world: World) -> None:
    """A threshold of two is not met by one key that signed twice."""
    started(client, world)
    world.root.add_key(key("timestamp-2").public_key, "timestamp")
    world.root.roles["timestamp"].threshold = 2
    world.rotate("targets", keep_old=True)
    raw = json.loads(world.sign("timestamp"))
    raw["signatures"] *= 2
    world.files.metadata["timestamp.json"] = json.dumps(raw).encode()
    client.site.serve(world.files)
    run = client.refresh()
    assert run.status == 1
    assert client.versions == versions(2, 1, 1, 1)


def test_endless_timestamp(client: Client, world: World) -> None:
    started(client, world)
    world.files.metadata["timestamp.json"] += b" " * 20_000
    client.site.serve(world.files)
    run = client.refresh()
    assert run.status == 1
    assert "[too-large]" in run.said
    assert client.versions == versions(1, 1, 1, 1)
