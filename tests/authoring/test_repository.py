"""Creating and opening repositories: what is written, and what is refused."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Root

from margo_supplychain.authoring.holders import Holder
from margo_supplychain.authoring.plan import RoleKeys, RootPlan
from margo_supplychain.authoring.repository import Repository
from margo_supplychain.authoring.settings import (
    Settings,
    periods_field,
    signed_periods,
)
from margo_supplychain.errors import (
    FormatError,
    IncompleteError,
    KeyFormatError,
    MetadataFormatError,
    RefusedError,
)
from margo_supplychain.formats.pins import Pin
from margo_supplychain.storage.content_store import ContentStore
from tests.authoring.trust import NOW, OPEN, PUMP, Vendor, key

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.authoring.plan import Kind, Profile


def test_create_small(vendor: Vendor) -> None:
    repository = vendor.create()
    names = {name for name in vendor.files() if name.startswith("metadata/")}
    assert names == {
        "metadata/1.root.json",
        "metadata/1.targets.json",
        "metadata/1.acme.json",
        "metadata/1.snapshot.json",
        "metadata/timestamp.json",
    }
    root = vendor.signed("1.root.json")
    assert root["consistent_snapshot"] is True
    assert root["x-issued"] == "2026-11-21T10:00:00Z"
    assert root["expires"] == "2028-11-20T10:00:00Z"
    assert root["spec_version"] == "1.0.31"
    assert vendor.signed("timestamp.json")["x-issued"] == "2026-11-21T10:00:00Z"
    assert vendor.signed("timestamp.json")["expires"] == "2026-11-25T10:00:00Z"
    delegated = vendor.signed("1.targets.json")["delegations"]["roles"]
    assert delegated == [
        {
            "keyids": [key("offline").public_key.keyid],
            "name": "acme",
            "paths": [
                "acme/releases/*/*",
                "acme/layouts/*/*",
                "acme/policies/*/*",
            ],
            "terminating": True,
            "threshold": 1,
        }
    ]
    assert (repository.profile, repository.publisher) == ("small", "acme")
    assert repository.root == (vendor.trust / "metadata/1.root.json").read_bytes()
    assert ContentStore.open(vendor.trust).index().manifests == ()
    vendor.device().refresh()


def test_everything_listed_has_length_and_sha256(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    version = vendor.version("snapshot")
    files = {"snapshot.json": f"{version}.snapshot.json"}
    meta = dict(vendor.signed("timestamp.json")["meta"])
    for name, entry in vendor.signed(f"{version}.snapshot.json")["meta"].items():
        files[name] = f"{entry['version']}.{name}"
        meta[name] = entry
    assert set(meta) == {
        "snapshot.json",
        "targets.json",
        "acme.json",
        "acme.pump-monitor.json",
    }
    for name, entry in meta.items():
        data = (vendor.trust / "metadata" / files[name]).read_bytes()
        assert entry["length"] == len(data)
        assert entry["hashes"] == {"sha256": hashlib.sha256(data).hexdigest()}


def test_files_are_compact_with_sorted_keys(vendor: Vendor) -> None:
    vendor.create_with_pump()
    for name, data in vendor.files().items():
        if name.startswith("metadata/"):
            value = json.loads(data)
            again = json.dumps(value, sort_keys=True, separators=(",", ":"))
            assert data == again.encode() + b"\n"


def test_create_standard(vendor: Vendor) -> None:
    vendor.profile = "standard"
    repository = vendor.create()
    assert (repository.profile, repository.publisher) == ("standard", None)
    assert "delegations" not in vendor.signed("1.targets.json")
    with repository.edit([*vendor.keys, key("acme")], clock=vendor.clock) as edit:
        edit.add_publisher("acme", [key("acme").public_key], threshold=1)
        edit.add_application(PUMP, [key("ci").public_key], policy=OPEN)
    vendor.publish("1.0.0")
    release = vendor.device().verify(PUMP, Pin.range("^1", grammar="npm"))
    assert str(release.version) == "1.0.0"


def test_create_simple(vendor: Vendor) -> None:
    vendor.profile = "simple"
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    assert "delegations" not in vendor.signed("3.targets.json")
    release = vendor.device().verify(PUMP, Pin.range("^1", grammar="npm"))
    assert str(release.version) == "1.0.0"
    assert vendor.repository.check(clock=vendor.clock).verdict == "verified"


def test_periods_and_owners_are_kept(vendor: Vendor) -> None:
    offline, ci = key("offline").public_key, key("ci").public_key
    plan = RootPlan.small(
        publisher="acme",
        offline=offline,
        online=ci,
        periods={"timestamp": timedelta(hours=36), "publisher": timedelta(days=90)},
        holders={offline.keyid: Holder(name="holder A")},
    )
    Repository.create(vendor.trust, plan=plan, keys=vendor.keys, clock=vendor.clock)
    assert vendor.signed("timestamp.json")["expires"] == "2026-11-22T22:00:00Z"
    assert vendor.signed("1.acme.json")["expires"] == "2027-02-19T10:00:00Z"
    with vendor.repository.edit([key("ci")], clock=vendor.clock) as edit:
        edit.refresh()
    assert vendor.signed("timestamp.json")["expires"] == "2026-11-22T22:00:00Z"
    found = vendor.repository.status(within=timedelta(0), clock=vendor.clock)
    holders = {one.role: one.holders for one in found}
    assert (holders["root"], holders["timestamp"]) == (("holder A",), (ci.keyid[:12],))
    # Who holds a key is signed beside it: inside, it would change the key's id.
    root = vendor.signed("1.root.json")
    assert root["x-holders"] == {offline.keyid: {"name": "holder A"}}
    assert not any("holder A" in str(one) for one in root["keys"].values())


def test_settings_are_a_convenience(vendor: Vendor) -> None:
    vendor.create_with_pump()
    (vendor.trust / "authoring/settings.json").unlink()
    vendor.publish("1.0.0")
    assert vendor.repository.profile == "small"
    assert vendor.repository.check(clock=vendor.clock).verdict == "verified"


def test_settings_of_a_simple_repository_are_guessed(vendor: Vendor) -> None:
    vendor.profile = "simple"
    vendor.create_with_pump()
    (vendor.trust / "authoring/settings.json").unlink()
    assert vendor.repository.profile == "simple"
    vendor.publish("1.0.0")


def test_damaged_settings_are_an_error(vendor: Vendor) -> None:
    vendor.create()
    path = vendor.trust / "authoring/settings.json"
    path.write_bytes(b'{"format":1,"profile":"huge","owners":{}}')
    with pytest.raises(MetadataFormatError, match="'huge' is none of standard, small"):
        _ = vendor.repository
    path.write_bytes(
        b'{"format":1,"profile":"small","periods":{"root":"1d"},"owners":{}}'
    )
    with pytest.raises(MetadataFormatError, match="unknown field 'periods'"):
        _ = vendor.repository


def test_settings_round_trip() -> None:
    settings = Settings(profile="simple", publisher="acme")
    assert Settings.parse(settings.to_bytes()) == settings


def test_signed_periods_round_trip() -> None:
    periods: dict[Kind, timedelta] = {
        "root": timedelta(days=100),
        "timestamp": timedelta(hours=36),
    }
    root = Root(unrecognized_fields=periods_field(periods))
    assert root.unrecognized_fields == {
        "x-periods": {"root": "100d", "timestamp": "36h"}
    }
    assert signed_periods(root) == periods
    assert periods_field({}) == {}
    assert signed_periods(Root()) == {}


@pytest.mark.parametrize("value", [[], {"root": "1y"}, {"pump": "1d"}, {"root": "1h1"}])
def test_signed_periods_of_another_form(value: object) -> None:
    with pytest.raises(FormatError):
        signed_periods(Root(unrecognized_fields={"x-periods": value}))


def test_the_served_settings_change_nothing_that_is_signed(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    path = vendor.trust / "authoring/settings.json"
    profiles: tuple[Profile, ...] = ("simple", "standard")
    for profile in profiles:
        path.write_bytes(Settings(profile=profile, publisher="bolt").to_bytes())
        assert vendor.repository.profile == "small"
        vendor.publish(f"1.0.{len(profile)}")
        assert "acme" not in str(vendor.signed("1.targets.json")["targets"])
        assert vendor.signed("timestamp.json")["expires"] == "2026-11-25T10:00:00Z"
    path.write_bytes(Settings(profile="small", publisher="bolt").to_bytes())
    assert vendor.repository.publisher == "acme"
    assert vendor.repository.check(clock=vendor.clock).verdict == "verified"


def test_the_served_settings_of_a_simple_repository(vendor: Vendor) -> None:
    vendor.profile = "simple"
    vendor.create_with_pump()
    path = vendor.trust / "authoring/settings.json"
    path.write_bytes(Settings(profile="small", publisher="bolt").to_bytes())
    repository = vendor.repository
    assert (repository.profile, repository.publisher) == ("simple", "acme")


def test_a_repository_that_cannot_be_verified_is_named_as_written(
    vendor: Vendor,
) -> None:
    vendor.create()
    (vendor.trust / "metadata/timestamp.json").unlink()
    repository = vendor.repository
    assert (repository.profile, repository.publisher) == ("small", "acme")


def test_create_refuses_a_directory_with_something_in_it(vendor: Vendor) -> None:
    vendor.trust.mkdir()
    (vendor.trust / "letters").write_text("dear")
    with pytest.raises(RefusedError, match="is not empty: it holds letters"):
        vendor.create()
    assert [one.name for one in vendor.trust.iterdir()] == ["letters"]


def test_create_refuses_a_layout_of_somebody(vendor: Vendor) -> None:
    ContentStore.create(vendor.trust)
    with pytest.raises(RefusedError, match="is not empty: it holds blobs"):
        vendor.create()


def test_create_refuses_a_repository(vendor: Vendor) -> None:
    vendor.create()
    before = vendor.files()
    with pytest.raises(RefusedError, match="holds a trust repository already"):
        vendor.create()
    assert vendor.files() == before


def test_create_takes_an_empty_directory(vendor: Vendor) -> None:
    vendor.trust.mkdir()
    vendor.create()


def test_create_without_a_key_writes_nothing(vendor: Vendor) -> None:
    with pytest.raises(IncompleteError, match="root needs 1 more of ") as caught:
        Repository.create(vendor.trust, plan=vendor.plan(), keys=[key("ci")])
    assert key("offline").public_key.keyid[:12] in str(caught.value)
    assert "targets needs 1 more" in str(caught.value)
    assert "acme needs 1 more" in str(caught.value)
    assert "snapshot" not in str(caught.value)
    assert not vendor.trust.exists()


def test_thresholds_want_all_signers(vendor: Vendor) -> None:
    offline = RoleKeys(
        keys=tuple(key(one).public_key for one in ("A", "B", "C")), threshold=2
    )
    online = RoleKeys(keys=(key("ci").public_key,))
    plan = RootPlan.standard(
        root=offline, targets=offline, snapshot=online, timestamp=online
    )
    with pytest.raises(IncompleteError, match="root needs 1 more of"):
        Repository.create(vendor.trust, plan=plan, keys=[key("A"), key("ci")])
    keys = [key("C"), key("A"), key("ci")]
    Repository.create(vendor.trust, plan=plan, keys=keys, clock=vendor.clock)
    data = json.loads((vendor.trust / "metadata/1.root.json").read_bytes())
    assert len(data["signatures"]) == 2
    vendor.device().refresh()


def test_open_what_is_no_repository(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="holds no trust repository") as caught:
        Repository.open(tmp_path)
    assert "repo init" in str(caught.value.hint)


# --- plans ---------------------------------------------------------------------------


def test_a_key_counts_once_in_a_role() -> None:
    one = key("A").public_key
    assert isinstance(one, SSlibKey)
    alias = SSlibKey(
        one.keyid, one.keytype, one.scheme, one.keyval, {"x-comment": "another"}
    )
    with pytest.raises(KeyFormatError, match="is given twice in one role"):
        RoleKeys(keys=(one, alias), threshold=2)
    with pytest.raises(KeyFormatError, match="is given twice in one role"):
        RoleKeys(keys=(one, one), threshold=2)


def test_a_key_id_must_be_computed() -> None:
    one = key("A").public_key
    wrong = SSlibKey("ab" * 32, one.keytype, one.scheme, one.keyval)
    with pytest.raises(KeyFormatError, match="'abababababab' is not computed"):
        RoleKeys(keys=(wrong,))


@pytest.mark.parametrize("threshold", [0, 3, -1])
def test_thresholds_that_cannot_be_met(threshold: int) -> None:
    keys = key("A").public_key, key("B").public_key
    with pytest.raises(KeyFormatError, match=r"threshold is -?\d, expected 1 to 2"):
        RoleKeys(keys=keys, threshold=threshold)


def test_a_role_without_keys() -> None:
    with pytest.raises(KeyFormatError, match="has 0 keys, expected 1 to 64"):
        RoleKeys(keys=())


def test_offline_and_online_keys_are_apart() -> None:
    one = key("A").public_key
    with pytest.raises(KeyFormatError, match="of the offline role root is also an"):
        RootPlan.small(publisher="acme", offline=one, online=one)
    # In simple one role says everything anyway.
    RootPlan.simple(publisher="acme", offline=one, online=one)


def test_periods_have_bounds() -> None:
    a, b = key("A").public_key, key("B").public_key
    with pytest.raises(FormatError, match="the period of root is 0:00:01, expected"):
        RootPlan.small(
            publisher="acme",
            offline=a,
            online=b,
            periods={"root": timedelta(seconds=1)},
        )


def test_publishers_have_names() -> None:
    a, b = key("A").public_key, key("B").public_key
    with pytest.raises(FormatError, match="publisher 'Acme' is not a name"):
        RootPlan.small(publisher="Acme", offline=a, online=b)
    keys = RoleKeys(keys=(a,))
    with pytest.raises(FormatError, match="small needs the publisher's name"):
        RootPlan(
            profile="small", root=keys, targets=keys, snapshot=keys, timestamp=keys
        )


def test_now_is_signed_in_whole_seconds(vendor: Vendor) -> None:
    vendor.clock.when = NOW.replace(microsecond=999_999)
    vendor.create()
    assert vendor.signed("1.root.json")["x-issued"] == "2026-11-21T10:00:00Z"
