"""Every rotation of root, and what a thief did before it: devices come back, ours and
other people's, and nothing that was published is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tuf.ngclient import Updater

from margo_supplychain.authoring.plan import RoleKeys
from margo_supplychain.errors import (
    FetchError,
    RefusedError,
    RollbackError,
    SupplyChainError,
    ThresholdError,
)
from margo_supplychain.formats.pins import Pin
from margo_supplychain.signing.keyring import open_keyring
from margo_supplychain.verify.clock import SystemClock
from tests.authoring import thief
from tests.authoring.ceremony import keys_of, signed_root
from tests.authoring.clients import FileFetcher
from tests.authoring.trust import PUMP, Vendor, key
from tests.peers.clients import serve
from tests.softhsm import soft_token

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.authoring.written import Written
    from margo_supplychain.verify.trust_store import TrustStore
    from tests.peers.clients import PeerClient

ANY = Pin.range("*", grammar="npm")


@pytest.fixture
def filled(vendor: Vendor) -> Vendor:
    # Other people's clients read the machine's clock.
    vendor.clock.when = SystemClock().now().replace(microsecond=0)
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    vendor.publish("1.1.0")
    return vendor


def rotate(
    vendor: Vendor, keys: list[str], state: TrustStore | None = None, **changes: Any
) -> Written:
    root = signed_root(
        vendor.repository, ["offline"], clock=vendor.clock, state=state, **changes
    )
    return vendor.repository.adopt_root(
        root, [key(one) for one in keys], clock=vendor.clock, state=state
    )


def newest(vendor: Vendor, store: TrustStore | None = None) -> str:
    return str(vendor.device(store).verify(PUMP, ANY).version)


def sound(vendor: Vendor, store: TrustStore | None = None) -> None:
    report = vendor.repository.check(clock=vendor.clock, state=store)
    assert report.violations == ()


def updater(vendor: Vendor, name: str = "updater") -> Updater:
    state = vendor.directory / name
    state.mkdir(exist_ok=True)
    return Updater(
        metadata_dir=str(state),
        metadata_base_url="https://trust.example/metadata/",
        target_dir=str(state),
        target_base_url="https://trust.example/targets/",
        fetcher=FileFetcher(vendor.trust),
        bootstrap=vendor.repository.root,
    )


def found_by_updater(vendor: Vendor, version: str) -> bool:
    path = f"acme/releases/pump-monitor/{version}"
    return updater(vendor).get_targetinfo(path) is not None


def rolled_back(meta: dict[str, Any]) -> None:
    """List the application's first release as if it were the newest."""
    meta["acme.pump-monitor.json"] = OLD["acme.pump-monitor.json"]


OLD: dict[str, Any] = {}


@pytest.mark.parametrize("remembers", [False, True])
@pytest.mark.parametrize(
    "change", [lambda _: None, thief.nonsense], ids=["huge", "nonsense"]
)
def test_fast_forward(
    filled: Vendor, change: Callable[[dict[str, Any]], None], remembers: bool
) -> None:
    """Keys of snapshot and timestamp are stolen, and versions run away."""
    author = filled.store("author/state") if remembers else None
    if author is not None:
        with filled.repository.edit([key("ci")], clock=filled.clock, state=author) as e:
            e.refresh()
    device = filled.store("device/state")
    assert newest(filled, device) == "1.1.0"
    assert found_by_updater(filled, "1.1.0")
    honest = filled.version("acme.pump-monitor")
    honest_snapshot = filled.version("snapshot")
    thief.write(filled, thief.forge(filled, change=change))
    try:
        newest(filled, device)
    except FetchError:
        assert change is thief.nonsense
    assert device.status().timestamp == thief.HIGHEST
    assert device.status().snapshot == thief.HIGHEST - 1
    if change is not thief.nonsense:
        assert found_by_updater(filled, "1.1.0")
    new = keys_of("ci-2")
    done = rotate(filled, ["ci-2"], author, snapshot=new, timestamp=new)
    assert set(done.roles) == {"root", "snapshot", "timestamp"}
    # Counting goes on where it was sane; roles never begin anew.
    assert honest_snapshot < done.roles["snapshot"][0] < honest_snapshot + 4
    assert filled.version("acme.pump-monitor") == honest
    assert newest(filled, device) == newest(filled) == "1.1.0"
    assert found_by_updater(filled, "1.1.0")
    sound(filled, author)
    sound(filled, device)
    filled.publish("1.2.0", keys=[key("ci"), key("ci-2")], state=author)
    assert newest(filled, device) == newest(filled) == "1.2.0"
    assert found_by_updater(filled, "1.2.0")
    # What the thief wrote is worth nothing any more.
    thief.write(filled, thief.forge(filled))
    with pytest.raises(ThresholdError):
        newest(filled, device)


@pytest.mark.parametrize("remembers", [False, True])
def test_an_old_list(filled: Vendor, remembers: bool) -> None:
    """The thief lists what was withdrawn from the list long ago."""
    author = filled.store("author/state")
    device = filled.store("device/state")
    assert newest(filled, device) == "1.1.0"
    with filled.repository.edit([key("ci")], clock=filled.clock, state=author) as e:
        e.refresh()
    OLD.update(filled.signed("3.snapshot.json")["meta"])
    thief.write(
        filled, thief.forge(filled, timestamp=20, snapshot=20, change=rolled_back)
    )
    assert newest(filled) == "1.0.0"  # a fresh device can't tell
    with pytest.raises(RollbackError):
        newest(filled, device)
    new = keys_of("ci-2")
    done = rotate(
        filled,
        ["ci-2"],
        author if remembers else None,
        snapshot=new,
        timestamp=new,
    )
    assert any("acme.pump-monitor" in one for one in done.warnings)
    assert newest(filled, device) == newest(filled) == "1.1.0"
    sound(filled, author)


def test_the_key_of_timestamp_alone(filled: Vendor) -> None:
    """Snapshot's key stays: what it lists can't go back, and need not."""
    both = keys_of("snapshot-key")
    rotate(filled, ["ci", "snapshot-key"], snapshot=both)
    device = filled.store("device/state")
    assert newest(filled, device) == "1.1.0"
    now = filled.signed("timestamp.json")
    now["version"] = thief.HIGHEST
    now["meta"]["snapshot.json"] = thief.entry(thief.HIGHEST, b"nothing")
    thief.write(filled, {"timestamp.json": thief.signed_as("timestamp", now, "ci")})
    with pytest.raises(SupplyChainError):
        newest(filled, device)
    assert device.status().timestamp == thief.HIGHEST
    done = rotate(filled, ["ci-2"], timestamp=keys_of("ci-2"))
    assert set(done.roles) == {"root", "timestamp"}
    assert newest(filled, device) == newest(filled) == "1.1.0"
    assert found_by_updater(filled, "1.1.0")
    sound(filled, device)


def test_half_a_replacement(filled: Vendor) -> None:
    """Both keys are stolen: with timestamp's alone replaced, snapshot's versions stay
    where the thief drove them; counting begins anew with both."""
    rotate(filled, ["ci", "snapshot-key"], snapshot=keys_of("snapshot-key"))
    device = filled.store("device/state")
    newest(filled, device)
    files = thief.forge(filled, name="snapshot-key")
    now = filled.signed("timestamp.json")
    now["version"] = thief.HIGHEST
    name = f"{thief.HIGHEST - 1}.snapshot.json"
    now["meta"]["snapshot.json"] = thief.entry(thief.HIGHEST - 1, files[name])
    files["timestamp.json"] = thief.signed_as("timestamp", now, "ci")
    thief.write(filled, files)
    newest(filled, device)
    before = filled.files()
    done = rotate(filled, ["ci-2"], timestamp=keys_of("ci-2"))
    assert set(done.roles) == {"root", "timestamp"}
    assert newest(filled, device) == "1.1.0"
    assert set(filled.files()) - set(before) == {"metadata/3.root.json"}
    with filled.repository.edit(
        [key("ci-2"), key("snapshot-key")], clock=filled.clock
    ) as edit:
        edit.refresh()
    assert filled.version("snapshot") == thief.HIGHEST
    with (
        pytest.raises(RefusedError, match="there is no number above"),
        filled.repository.edit(
            [key("ci-2"), key("snapshot-key")], clock=filled.clock
        ) as edit,
    ):
        edit.refresh()
    rotate(filled, ["s-2", "ci-3"], snapshot=keys_of("s-2"), timestamp=keys_of("ci-3"))
    assert newest(filled, device) == newest(filled) == "1.1.0"
    sound(filled, device)
    assert filled.version("snapshot") < 20


def test_a_timestamp_that_can_not_go_on(filled: Vendor) -> None:
    """The thief's last number stands as long as his key does."""
    thief.write(filled, thief.forge(filled))
    before = filled.files()
    with pytest.raises(RefusedError, match="timestamp is at v9007199254740991"):
        rotate(
            filled,
            ["offline", "ci", "t-1"],
            targets=keys_of("t-1"),
            snapshot=keys_of("ci"),
        )
    assert filled.files() == before


def test_snapshot_and_timestamp_apart(filled: Vendor) -> None:
    device = filled.store("device/state")
    newest(filled, device)
    rotate(filled, ["ci", "s-1"], snapshot=keys_of("s-1", "s-2"))
    rotate(filled, ["ci", "s-1", "t-1"], timestamp=keys_of("t-1"))
    assert newest(filled, device) == newest(filled) == "1.1.0"
    assert found_by_updater(filled, "1.1.0")
    filled.publish("1.2.0", keys=[key("ci"), key("s-2"), key("t-1")])
    assert newest(filled, device) == "1.2.0"
    sound(filled, device)


def test_thresholds_go_up_and_down(filled: Vendor) -> None:
    device = filled.store("device/state")
    newest(filled, device)
    two = keys_of("ci", "ci-2", threshold=2)
    rotate(filled, ["ci", "ci-2"], snapshot=two, timestamp=two)
    assert newest(filled, device) == newest(filled) == "1.1.0"
    one = keys_of("ci", "ci-2")
    done = rotate(filled, [], snapshot=one, timestamp=one)
    assert set(done.roles) == {"root"}
    assert newest(filled, device) == newest(filled) == "1.1.0"
    assert found_by_updater(filled, "1.1.0")
    sound(filled, device)


@pytest.mark.parametrize("peer", ["go_tuf", "tuf_js"])
@pytest.mark.parametrize("stolen", [False, True])
def test_other_clients_follow(
    filled: Vendor, peer: str, stolen: bool, request: pytest.FixtureRequest
) -> None:
    """go-tuf and tuf-js, that hold the state before, come along and come back."""
    client: PeerClient = request.getfixturevalue(peer)
    root = filled.directory / "root.json"
    root.write_bytes(filled.repository.root)

    def found(version: str) -> str:
        path = f"acme/releases/pump-monitor/{version}"
        with serve(filled.trust) as url:
            answer = client.run(
                url, [path], root=root, directory=filled.directory / "peer"
            )
        return answer.error

    assert found("1.1.0") == ""
    if stolen:
        thief.write(filled, thief.forge(filled))
        assert found("1.1.0") == ""
    new = keys_of("ci-2")
    keys = ["ci-2"] if stolen else ["ci", "ci-2"]
    rotate(filled, keys, snapshot=new, timestamp=new)
    assert found("1.1.0") == ""
    filled.publish("1.2.0", keys=[key("ci"), key("ci-2")])
    assert found("1.2.0") == ""


def test_file_keys_move_into_tokens(filled: Vendor, tmp_path: Path) -> None:
    """Every key of a live repository, root's and the online one: no device is left
    behind, whoever refreshes whenever."""
    behind, always = filled.store("behind/state"), filled.store("always/state")
    newest(filled, behind)
    newest(filled, always)
    with (
        soft_token(tmp_path / "tokens", "operator") as token,
        open_keyring(
            pin=lambda *_, **__: token.pin, pkcs11_module=token.module
        ) as keyring,
    ):
        token.make_key("root", scheme="ecdsa-sha2-nistp384", id=b"\x01")
        token.make_key("online", scheme="ed25519", id=b"\x02")
        root, new = (keyring.open(token.uri(one)) for one in ("root", "online"))
        plan = filled.repository.plan(clock=filled.clock)
        plan = replace(
            plan,
            root=RoleKeys(keys=(root.public_key,)),
            snapshot=RoleKeys(keys=(new.public_key,)),
            timestamp=RoleKeys(keys=(new.public_key,)),
        )
        proposal = filled.repository.propose_root(plan, clock=filled.clock)
        signed = proposal.sign(key("offline")).sign(root).finalize()
        done = filled.repository.adopt_root(
            signed, [key("ci"), new], clock=filled.clock
        )
        assert done.warnings == ()
        assert newest(filled, always) == newest(filled) == "1.1.0"
        filled.publish("1.2.0", keys=[key("ci"), new])
    assert newest(filled, always) == newest(filled, behind) == newest(filled) == "1.2.0"
    assert found_by_updater(filled, "1.2.0")
    sound(filled, behind)
