"""`repo init`, `repo refresh`, `repo status`, `repo check`."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.duties import Duty, HeldKey
from margo_supplychain.authoring.holders import Holder
from margo_supplychain.authoring.plan import PROFILES
from margo_supplychain.authoring.repository import Repository
from margo_supplychain.cli import repo_check, repo_init
from margo_supplychain.cli.repo_status import describe_status, who
from margo_supplychain.errors import InconclusiveError
from margo_supplychain.formats.reports import Report, Violation
from margo_supplychain.verify.trust_store import TrustStore
from tests.cli.running import run, run_json, spawn, validate
from tests.cli.vendor import Vendor, date, files_below, move_clock

if TYPE_CHECKING:
    from collections.abc import Sequence

SMALL = ("repo", "init", "trust", "--profile", "small", "--publisher", "acme")
KEYS = ("--offline-key", "offline.key", "--online-key", "ci.key")
STANDARD = (
    *("repo", "init", "trust", "--profile", "standard", "--publisher", "acme"),
    *("--root-key", "a.key", "--root-key", "b.key", "--root-key", "c.pub"),
    *("--root-threshold", "2", "--targets-key", "targets.key"),
    *("--publisher-key", "acme.key", "--online-key", "ci.key"),
)


@pytest.fixture
def vendor(place: Path, secret: str) -> Vendor:
    return Vendor(place, secret)


def standard(vendor: Vendor) -> None:
    for name in ("a.key", "b.key", "c.key", "targets.key", "acme.key", "ci.key"):
        vendor.key(name)


# --- init ----------------------------------------------------------------------------


def test_init_as_printed_in_the_first_hour(vendor: Vendor) -> None:
    offline = vendor.key("offline.key", "ecdsa-sha2-nistp256")
    online = vendor.key("ci.key")
    ran = vendor.sign(*SMALL, *KEYS)
    root = (vendor.place / "trust" / "metadata" / "1.root.json").read_bytes()
    assert ran.err == ""
    assert ran.out == (
        "created trust: root v1, publisher acme\n"
        f"  offline  {offline}  root, targets, acme  sign again by {date(365)}\n"
        f"  online   {online}  snapshot, timestamp  refresh by {date(4)}\n"
        "devices trust it by trust/metadata/1.root.json  "
        f"sha256 {hashlib.sha256(root).hexdigest()}\n"
        "next: margo-supplychain app add acme/NAME --release-key ci.pub\n"
    )


def test_init_leaves_the_defaults_of_the_place_and_a_memory(vendor: Vendor) -> None:
    vendor.init()
    assert (vendor.place / "margo-supplychain.toml").read_text().splitlines()[1:] == [
        'repo = "trust"',
        'state = ".margo-supplychain/state"',
        'publisher = "acme"',
        'offline-key = "offline.key"',
        'online-key = "ci.key"',
    ]
    status = TrustStore.open(vendor.place / ".margo-supplychain" / "state").status()
    assert (status.root, status.timestamp, status.snapshot) == (1, 1, 1)
    assert status.publishers == {"acme"}


def test_init_elsewhere_writes_paths_that_still_hold(vendor: Vendor) -> None:
    vendor.key("offline.key")
    (vendor.place / "site").mkdir()
    (vendor.place / "ci.key").parent.mkdir(exist_ok=True)
    vendor.key("site/ci.key")
    vendor.must(
        *("repo", "init", "site/trust", "--profile", "small", "--publisher", "acme"),
        *("--offline-key", "file:offline.key", "--online-key", "site/ci.key"),
        *("--state", "memory"),
    )
    text = (vendor.place / "site" / "margo-supplychain.toml").read_text()
    assert 'online-key = "ci.key"' in text
    assert f'offline-key = "{vendor.place.resolve()}/offline.key"' in text
    assert f'state = "{vendor.place.resolve()}/memory"' in text
    assert (vendor.place / "memory" / "memory-a").exists()


def test_init_document(vendor: Vendor) -> None:
    vendor.key("offline.key")
    vendor.key("ci.key")
    document = vendor.sign_json("repo-init", *SMALL, *KEYS)
    result = document["result"]
    root = vendor.place / result["rootFile"]
    assert hashlib.sha256(root.read_bytes()).hexdigest() == result["rootSha256"]
    assert [(one["label"], one["keyId"]) for one in result["keys"]] == [
        ("offline", vendor.key_id("offline.key")),
        ("online", vendor.key_id("ci.key")),
    ]


def test_init_standard_with_several_holders(vendor: Vendor) -> None:
    standard(vendor)
    ran = vendor.must(*STANDARD, "--owner", "a.key=Ada", "--owner", "c.pub=Cy")
    assert ran.out.startswith("created trust: root v1, publisher acme\n")
    assert "  root needs 2 of 3 keys\n" in ran.out
    text = (vendor.place / "margo-supplychain.toml").read_text()
    # Whose public key it is has a place of their own.
    assert 'root-key = ["a.key", "b.key"]' in text
    b = vendor.key_id("b.key")[:12]
    due = run("repo", "status", "--within", "3000d")
    assert due.status == 5
    act = f"  2 of Ada, {b}, Cy, in 730 days: margo-supplychain root propose\n"
    assert act in due.out
    assert [
        one.role for one in Repository.open(Path("trust")).status(within=timedelta(0))
    ] == ["root", "targets", "acme", "snapshot", "timestamp"]


def test_init_simple_has_no_delegations(vendor: Vendor) -> None:
    ran = vendor.init("simple")
    assert "  root, targets        sign again by " in ran.out
    assert ran.out.endswith("next: margo-supplychain app add acme/NAME\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--offline-key is missing for the profile small"),
        (("--offline-key", "a"), "--online-key is missing for the profile small"),
        ((*KEYS, "--online-key", "x.key"), "--online-key may be given once"),
        ((*KEYS, "--root-key", "x"), "--root-key is not of the profile small"),
        (
            (*KEYS, "--root-threshold", "1"),
            "--root-threshold is not of the profile small",
        ),
        ((*KEYS, "--state", "trust/x"), "--state trust/x lies inside trust, which is"),
        ((*KEYS, "--owner", "x=y"), "--owner 'x=y' is not KEY=NAME with one of the"),
        ((*KEYS, "--owner", "ci.key="), "--owner 'ci.key=' is not KEY=NAME with one"),
    ],
)
def test_init_with_wrong_options(
    vendor: Vendor, options: tuple[str, ...], message: str
) -> None:
    vendor.key("offline.key")
    vendor.key("ci.key")
    ran = vendor.sign(*SMALL, *options)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {message}"), ran.err
    assert not (vendor.place / "trust").exists()
    assert not (vendor.place / ".margo-supplychain").exists()


@pytest.mark.parametrize(
    ("publisher", "message"),
    [("Acme", "publisher 'Acme' is not a name"), ("root", "publisher 'root' is not")],
)
def test_init_with_a_name_that_is_none(
    vendor: Vendor, publisher: str, message: str
) -> None:
    ran = vendor.sign(*SMALL[:-1], publisher, *KEYS)
    assert ran.status == 2
    assert message in ran.err


def test_thresholds_have_no_default_beside_several_keys(vendor: Vendor) -> None:
    standard(vendor)
    without = [one for one in STANDARD if one not in ("--root-threshold", "2")]
    ran = vendor.sign(*without)
    assert ran.status == 2
    assert ran.err.startswith(
        "error: --root-threshold is missing: 3 keys are given, and 1 to 3 of them may "
        "be enough [usage]\n"
    )
    ran = vendor.sign(*without, "--root-threshold", "4")
    assert ran.err.startswith("error: --root-threshold is 4, and 3 keys are given")
    assert not (vendor.place / "trust").exists()


def test_init_needs_enough_signatures_and_else_makes_nothing(vendor: Vendor) -> None:
    standard(vendor)
    for changed, lacking in (
        ({"--root-threshold": "3"}, "root needs 1 more of "),
        ({"targets.key": "targets.pub"}, "targets needs 1 more of "),
    ):
        arguments = list(STANDARD)
        for name, value in changed.items():
            place = arguments.index(name)
            arguments[place + name.startswith("--")] = value
        ran = vendor.sign(*arguments)
        assert ran.status == 5
        assert ran.err.startswith(f"error: {lacking}"), ran.err
        assert not (vendor.place / "trust").exists()
        assert not (vendor.place / "margo-supplychain.toml").exists()


def test_init_of_a_publisher_who_signs_elsewhere(vendor: Vendor) -> None:
    standard(vendor)
    place = STANDARD.index("acme.key")
    ran = vendor.must(*STANDARD[:place], "acme.pub", *STANDARD[place + 1 :])
    assert "acme is signed with its first submission: its keys are not here" in ran.out
    assert ran.out.endswith("next: margo-supplychain repo status\n")
    assert run("repo", "check").status == 0


def test_init_with_a_root_that_was_signed_apart(vendor: Vendor) -> None:
    standard(vendor)
    plan = """
profile = "standard"
[root]
keys = ["a.pub", "b.pub", "c.pub"]
threshold = 2
[targets]
keys = ["targets.pub"]
[snapshot]
keys = ["ci.pub"]
[timestamp]
keys = ["ci.pub"]
"""
    (vendor.place / "plan.toml").write_text(plan)
    vendor.must("root", "propose", "--plan", "plan.toml")
    given = [
        *("repo", "init", "trust", "--profile", "standard", "--publisher", "acme"),
        *("--signed-root", "root-1.json", "--targets-key", "targets.key"),
        *("--publisher-key", "acme.key", "--online-key", "ci.key"),
    ]
    ran = vendor.sign(*given)
    assert ran.status == 5
    assert ran.err.startswith("error: root needs 2 more of "), ran.err
    assert not (vendor.place / "trust").exists()
    for name in ("a.key", "b.key"):
        vendor.sign("root", "sign", "root-1.json", "--key", name, "--yes")
    ran = vendor.sign(*given, "--root-threshold", "2")
    assert (ran.status, ran.err.split("\n")[0]) == (
        2,
        "error: --root-threshold is said by --signed-root [usage]",
    )
    ran = vendor.sign(*given, "--owner", "ci.key=build machine")
    assert "--signed-root says that" in ran.err
    vendor.must(*given, "--owner", "acme.key=Acme")
    written = (vendor.place / "trust/metadata/1.root.json").read_bytes()
    assert written == (vendor.place / "root-1.json").read_bytes()
    assert run("repo", "check").status == 0


def test_init_refuses_what_is_in_the_way(vendor: Vendor) -> None:
    vendor.init()
    before = files_below(vendor.place)
    ran = vendor.sign(*SMALL, *KEYS)
    assert ran.status == 2
    assert ran.err.startswith(
        "error: margo-supplychain.toml exists: it has the defaults of another "
        "repository [refused]\n"
    )
    (vendor.place / "margo-supplychain.toml").unlink()
    ran = vendor.sign(*SMALL, *KEYS, "--state", "other")
    assert ran.status == 2
    assert ran.err.startswith("error: trust holds a trust repository already [refused]")
    del before["margo-supplychain.toml"]
    assert files_below(vendor.place) == before


def test_init_refuses_names_that_the_settings_can_not_say(vendor: Vendor) -> None:
    vendor.key("offline.key")
    vendor.key("ci.key")
    before = files_below(vendor.place)
    ran = vendor.sign("repo", "init", "tr\nx", *SMALL[3:], *KEYS)
    assert (ran.status, ran.out) == (2, "")
    assert "is not printable text for a TOML file [format]\n" in ran.err
    assert "hint: margo-supplychain.toml must name it: take another name" in ran.err
    assert files_below(vendor.place) == before
    assert not (vendor.place / "tr\nx").exists()


def test_init_refuses_a_memory_that_is_there(vendor: Vendor) -> None:
    vendor.init()
    (vendor.place / "margo-supplychain.toml").unlink()
    ran = vendor.sign("repo", "init", "other", *SMALL[3:], *KEYS)
    assert ran.status == 2
    assert ran.err.startswith("error: .margo-supplychain/state holds a memory already")
    assert not (vendor.place / "other").exists()


def test_one_key_is_not_offline_and_online(vendor: Vendor) -> None:
    vendor.key("a.key")
    ran = vendor.sign(*SMALL, "--offline-key", "a.key", "--online-key", "a.key")
    assert ran.status == 2
    assert "of the offline role root is also an online key [key-format]" in ran.err
    assert not (vendor.place / "trust").exists()


def test_init_with_keys_that_do_not_open(vendor: Vendor) -> None:
    vendor.key("offline.key")
    vendor.key("ci.key")
    ran = vendor.sign(*SMALL, "--offline-key", "absent.key", "--online-key", "ci.key")
    assert ran.status == 2
    assert ran.err.startswith(
        "error: absent.key: no such file, expected a key [format]\n"
    )
    (vendor.place / "wrong").write_text("another passphrase\n")
    (vendor.place / "wrong").chmod(0o600)
    ran = run(*SMALL, *KEYS, "--passphrase-file", "wrong")
    assert ran.status == 6
    assert "does not open with this passphrase [signer]" in ran.err
    assert spawn(*SMALL, *KEYS, cwd=vendor.place).returncode == 6
    assert not (vendor.place / "trust").exists()


def test_the_profiles_offered_are_those_that_exist() -> None:
    assert repo_init.PROFILES == PROFILES


# --- refresh -------------------------------------------------------------------------


def test_refresh_takes_the_online_key_alone(vendor: Vendor) -> None:
    vendor.init()
    (vendor.place / "offline.key").unlink()
    ran = vendor.must("repo", "refresh")
    lines = ran.out.splitlines()
    assert lines[:3] == [
        "refreshed trust: snapshot v2, timestamp v2",
        f"  snapshot   until {date(14)}, in 14 days",
        f"  timestamp  until {date(4)}, in 4 days",
    ]
    assert lines[3].startswith(f"  again before {date(4)} ")
    assert lines[4] == "next: margo-supplychain repo status --within 14d"
    document = vendor.sign_json("repo-refresh", "repo", "refresh")
    assert document["result"]["signed"]["timestamp"]["version"] == 3


def test_refresh_of_an_offline_role(vendor: Vendor) -> None:
    vendor.application()
    ran = vendor.must("repo", "refresh", "--role", "acme")
    assert ran.out.startswith("refreshed trust: acme v3, snapshot v3, timestamp v3\n")
    for role, status, message in (
        ("root", 2, "root is renewed by a root ceremony"),
        ("bolt", 2, "there is no role bolt here"),
        ("Acme/x", 2, "publisher 'Acme/x' is not a name"),
    ):
        ran = vendor.sign("repo", "refresh", "--role", role)
        assert ran.status == status, ran.err
        assert ran.err.startswith(f"error: {message}")


def test_refresh_without_the_offline_key_names_what_is_missing(vendor: Vendor) -> None:
    vendor.application()
    offline = vendor.key_id("offline.key")[:12]
    (vendor.place / "offline.key").rename(vendor.place / "usb-stick")
    before = files_below(vendor.place / "trust")
    ran = vendor.sign("repo", "refresh", "--role", "acme")
    assert ran.status == 5
    assert ran.out == ""
    assert ran.err.startswith(
        "note: offline-key offline.key is not on this machine: left out\n"
        f"error: acme needs 1 more of {offline} [incomplete]\n"
        "hint: give the keys of acme: `--key FILE` for every key that signs, or "
        'offline-key = ["a.key", "b.key"] in margo-supplychain.toml; nothing was '
        "changed\n"
    )
    assert files_below(vendor.place / "trust") == before
    ran = vendor.sign("repo", "refresh", "--role", "acme", "--key", "usb-stick")
    assert ran.status == 5
    assert ran.err.endswith(
        "hint: --key replaces all keys of margo-supplychain.toml, online-key too: add "
        "--key ci.key, or name the others there and leave --key out; nothing was "
        "changed\n"
    )
    vendor.must(
        *("repo", "refresh", "--role", "acme", "--key", "usb-stick"),
        *("--key", "ci.key"),
    )


def test_refresh_without_any_key(vendor: Vendor, tmp_path: Path) -> None:
    vendor.init()
    toml = vendor.place / "margo-supplychain.toml"
    toml.write_text('repo = "trust"\n')
    ran = vendor.sign("repo", "refresh")
    assert ran.status == 2
    assert ran.err.startswith("error: --key is missing, and neither MARGO_SUPPLYCHAIN_")
    assert "gives online-key [usage]" in ran.err


def test_a_clock_that_is_far_off_signs_nothing_unless_checked(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.init()
    for days in (-1.0, 40.0):
        move_clock(monkeypatch, days)
        ran = vendor.sign("repo", "refresh")
        assert ran.status == 4
        assert "[clock]" in ran.err
        assert "--time-checked" in ran.err
    vendor.must("repo", "refresh", "--time-checked")


# --- status --------------------------------------------------------------------------


def test_status_as_printed_in_the_first_hour(vendor: Vendor) -> None:
    vendor.application()
    ran = run("repo", "status", "--within", "14d")
    assert ran.status == 0
    lines = ran.out.splitlines()
    assert lines[:6] == [
        "trust  acme · profile small · root v1 · checked just now: ok",
        "  role                 version  signed  expires     who must act",
        f"  root                 1        1 of 1  {date(730)}",
        f"  targets              1        1 of 1  {date(365)}",
        f"  acme                 2        1 of 1  {date(365)}",
        f"  acme.pump-monitor    1        1 of 1  {date(180)}",
    ]
    assert lines[6].startswith(
        f"  snapshot, timestamp  2, 2     1 of 1  {date(4)}  scheduled refresh, last ra"
    )
    assert lines[7:] == ["no duty within 14 days"]


def test_a_due_duty_is_exit_status_5(vendor: Vendor) -> None:
    vendor.application()
    offline = vendor.key_id("offline.key")[:12]
    ran = run("repo", "status", "--within", "366d")
    assert ran.status == 5
    assert ran.err == ""
    assert (
        f"  {offline}, in 365 days: margo-supplychain repo refresh --role acme\n"
        in ran.out
    )
    assert ran.out.endswith("3 duties within 366 days\n")
    document = run_json("repo-status", "repo", "status", "--within", "366d")
    assert (document["ok"], document["exit"]) == (False, 5)
    assert document["result"]["duties"] == 3
    due = [one["role"] for one in document["result"]["roles"] if one["due"]]
    assert due == ["targets", "acme", "acme.pump-monitor"]
    quiet = run_json("repo-status", "repo", "status")
    assert (quiet["ok"], quiet["exit"], quiet["result"]["duties"]) == (True, 0, 0)


def test_the_scheduled_refresh_is_due_when_it_did_not_run(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.init()
    move_clock(monkeypatch, 1.5)
    assert run("repo", "status").status == 0
    move_clock(monkeypatch, 2.5)
    ran = run("repo", "status")
    assert ran.status == 5
    assert (
        f"  {vendor.key_id('ci.key')[:12]}, in 36 h: margo-supplychain repo refresh\n"
        in ran.out
    )
    assert ran.out.endswith("1 duty within 14 days\n")
    move_clock(monkeypatch, 20)
    ran = run("repo", "status", "--within", "0d")
    assert ran.status == 5
    assert ", expired 16 days ago: margo-supplychain repo refresh\n" in ran.out


@pytest.mark.parametrize("text", ["14", "d", "-1d", "1w", "1.5d", "99999d", "1d\n"])
def test_within_takes_days_and_hours(vendor: Vendor, text: str) -> None:
    vendor.init()
    ran = run("repo", "status", "--within", text)
    assert ran.status == 2
    assert ran.err.startswith("error: invalid value for '--within': ")


def duty(role: str, **changes: Any) -> Duty:
    facts: dict[str, Any] = {
        "role": role,
        "version": 1,
        "signed": 1,
        "needed": 1,
        "expires": NOW + timedelta(days=100),
        "begins": None,
        "issued": None,
        "keys": (HeldKey("0" * 64, Holder(name="Ada")),),
        "due": False,
        "action": None,
    }
    return Duty(**facts | changes)


NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ONLINE: Sequence[Duty] = (
    duty("snapshot"),
    duty("timestamp", issued=NOW, expires=NOW + timedelta(days=4)),
)


def test_a_thousand_applications_fit_on_a_screen(vendor: Vendor) -> None:
    vendor.init()
    duties = [
        duty("root"),
        duty("targets"),
        duty("acme"),
        *(duty(f"acme.app-{number}") for number in range(1000)),
        duty("acme.late", due=True, action="repo refresh --role acme.late"),
        duty("acme.bad", due=True, problem="acme.bad has no signature", expires=None),
        *ONLINE,
    ]
    result = describe_status(
        Repository.open(Path("trust")), duties, within=timedelta(days=101), now=NOW
    )
    assert result.exit_status == 5
    assert len(result.lines) < 12
    text = "\n".join(result.lines)
    assert "checked just now: 1 problem\n" in text
    assert "  1000 applications " in text
    assert (
        "  Ada, in 100 days: margo-supplychain repo refresh --role acme.late\n" in text
    )
    assert "  Ada (acme.bad has no signature)\n" in text
    assert len(result.data["roles"]) == 1007


def test_an_application_without_a_release_waits_for_its_first(vendor: Vendor) -> None:
    vendor.init()
    duties = [duty("root"), duty("acme.x", version=None, expires=None), *ONLINE]
    lines = describe_status(
        Repository.open(Path("trust")), duties, within=timedelta(days=1), now=NOW
    ).lines
    assert lines[3].split() == [
        "acme.x",
        "-",
        "1",
        "of",
        "1",
        "-",
        *(["signed", "with", "its", "first", "release"]),
    ]


def test_a_timestamp_that_can_not_be_read_is_a_duty(vendor: Vendor) -> None:
    vendor.init()
    broken = duty("timestamp", due=True, expires=None, problem="it is torn")
    result = describe_status(
        Repository.open(Path("trust")),
        [duty("root"), duty("targets"), duty("snapshot", signed=0), broken],
        within=timedelta(days=1),
        now=NOW,
    )
    assert result.exit_status == 5
    assert result.lines[-3].endswith("  scheduled refresh")
    assert result.lines[-2].endswith("  Ada (it is torn)")


# --- check ---------------------------------------------------------------------------


def test_check_finds_nothing(vendor: Vendor) -> None:
    vendor.application()
    vendor.publish()
    ran = run("repo", "check")
    assert ran.status == 0
    assert ran.out.startswith("verified trust: no problem found\n")
    assert "  content " in ran.out
    run_json("repo-check", "repo", "check")


def test_check_lists_all_problems_and_rejects(vendor: Vendor) -> None:
    vendor.application()
    vendor.publish()
    vendor.publish("1.2.1")
    for blob in (vendor.place / "trust" / "blobs" / "sha256").iterdir():
        data = blob.read_bytes()
        if data.startswith(b"# A Compose application"):
            blob.write_bytes(data.swapcase())
    ran = run("repo", "check")
    assert ran.status == 3
    assert ran.out == "rejected repository trust\n"
    lines = ran.err.splitlines()
    assert lines[0] == "error: trust has 2 problems [rejected]"
    assert lines[1].startswith("  digest-mismatch   acme/pump-monitor 1.2.1: ")
    assert lines[2].startswith("  digest-mismatch   acme/pump-monitor 1.2.0: ")
    assert lines[-1].startswith("hint: devices refuse what is listed")
    document = run("--format", "json", "repo", "check").json
    validate(document, "error")
    validate(document["report"], "report")
    assert document["report"]["verdict"] == "rejected"
    assert document["report"]["violations"]


def test_check_of_an_expired_repository_says_what_to_run(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.application()
    move_clock(monkeypatch, 20)
    ran = run("repo", "check")
    assert ran.status == 3
    assert "\n  expired   timestamp v2 expired " in ran.err
    assert "sign it again with `margo-supplychain repo refresh`" in ran.err


def test_an_older_copy_of_the_repository_is_noticed_by_the_memory(
    vendor: Vendor,
) -> None:
    vendor.application()
    shutil.copytree(vendor.place / "trust", vendor.place / "old")
    vendor.publish()
    shutil.rmtree(vendor.place / "trust")
    (vendor.place / "old").rename(vendor.place / "trust")
    before = files_below(vendor.place)
    for arguments in (("repo", "refresh"), ("release", "publish", "dist-1.2.0")):
        ran = vendor.sign(*arguments)
        assert ran.status == 3
        assert "timestamp v2 is older than trusted v3 [rollback]" in ran.err
    assert run("repo", "check").status == 3
    assert files_below(vendor.place) == before


def test_a_lost_memory_stops_signing_until_it_is_begun_anew(vendor: Vendor) -> None:
    vendor.init()
    state = vendor.place / ".margo-supplychain" / "state"
    shutil.copy(vendor.place / "trust" / "metadata" / "1.root.json", "trusted.json")
    shutil.rmtree(state)
    for arguments in (("repo", "refresh"), ("repo", "check")):
        ran = vendor.sign(*arguments) if arguments[1] == "refresh" else run(*arguments)
        assert ran.status == 4
        assert ran.err.startswith("error: .margo-supplychain/state is not there: your")
        assert "[state-lost]" in ran.err
        assert "margo-supplychain repo check --begin-from FILE" in ran.err
    ran = run("repo", "check", "--begin-from", "trusted.json")
    assert ran.status == 0
    assert "note: began .margo-supplychain/state from trusted.json\n" in ran.err
    vendor.must("repo", "refresh")
    ran = run("repo", "check", "--begin-from", "trusted.json")
    assert ran.status == 4  # a memory is never replaced
    ran = run("repo", "check", "--begin-from", "absent.json")
    assert ran.status == 2


def test_a_memory_is_not_begun_from_a_root_of_somebody_else(
    vendor: Vendor, tmp_path: Path
) -> None:
    vendor.init()
    shutil.rmtree(vendor.place / ".margo-supplychain")
    (vendor.place / "x").mkdir()
    vendor.key("other.key")
    vendor.must(
        *("repo", "init", "x/trust", *SMALL[3:], "--offline-key", "other.key"),
        *("--online-key", "ci.key"),
    )
    ran = run("repo", "check", "--begin-from", "x/trust/metadata/1.root.json")
    assert ran.status == 3
    assert not (vendor.place / ".margo-supplychain").exists()


def test_a_memory_of_another_repository_is_said(vendor: Vendor) -> None:
    vendor.init()
    (vendor.place / "x").mkdir()
    vendor.key("other.key")
    vendor.key("daily.key")
    vendor.must(
        *("repo", "init", "x/trust", *SMALL[3:], "--offline-key", "other.key"),
        *("--online-key", "daily.key"),
    )
    state = "x/.margo-supplychain/state"
    ran = vendor.sign("repo", "refresh", "--state", state)
    assert (ran.status, ran.out) == (3, "")
    assert f"hint: the memory {state} (--state) belongs to another rep" in ran.err


@pytest.mark.parametrize(
    ("needed", "holders", "text"),
    [
        (1, ("Ada",), "Ada"),
        (1, ("Ada", "Bo"), "Ada or Bo"),
        (2, ("Ada", "Bo"), "Ada and Bo"),
        (3, ("Ada", "Bo", "Cy"), "Ada, Bo and Cy"),
        (2, ("Ada", "Bo", "Cy"), "2 of Ada, Bo, Cy"),
    ],
)
def test_who_must_sign(needed: int, holders: tuple[str, ...], text: str) -> None:
    keys = tuple(HeldKey(one, Holder(name=one)) for one in holders)
    made = duty("acme", needed=needed, keys=keys)
    assert who(made) == text


def test_a_memory_of_a_repository_of_several_publishers(vendor: Vendor) -> None:
    standard(vendor)
    vendor.must(*STANDARD)
    root = "trust/metadata/1.root.json"
    toml = vendor.place / "margo-supplychain.toml"
    said = toml.read_text()
    for lost, message in (
        ('publisher = "acme"\n', "--publisher is missing, and neither MARGO_SUPPLYCHA"),
        ('state = ".margo-supplychain/state"\n', "--begin-from needs --state"),
    ):
        assert lost in said
        toml.write_text(said.replace(lost, ""))
        ran = run("repo", "check", "--begin-from", root)
        assert ran.status == 2
        assert ran.err.startswith(f"error: {message}"), ran.err
    toml.write_text(said)
    shutil.rmtree(vendor.place / ".margo-supplychain")
    assert run("repo", "check", "--begin-from", root).status == 0
    vendor.must("repo", "refresh", "--role", "targets")
    toml.unlink()
    place = ("--repo", "trust", "--state", "elsewhere/state")
    begin = ("repo", "check", *place, "--begin-from", root, "--publisher", "acme")
    ran = run(*begin)
    assert ran.err == f"note: began elsewhere/state from {root}\n"


def test_a_memory_is_begun_from_a_whole_root(vendor: Vendor) -> None:
    vendor.init()
    root = vendor.place / "trust" / "metadata" / "1.root.json"
    unsigned = json.loads(root.read_bytes())
    unsigned["signatures"] = unsigned["signatures"][:1]
    unsigned["signed"]["roles"]["root"]["threshold"] = 1
    unsigned["signatures"][0]["sig"] = "00"
    for data, status, message, hint in (
        (b"{}", 2, "x.json is not a root to begin with: ", "get it again, from"),
        (root.read_bytes()[:99], 2, "x.json is not a root to b", "get it again, from"),
        (json.dumps(unsigned).encode(), 3, "root v1 has 0 of 1 ", "x.json is a propos"),
    ):
        (vendor.place / "x.json").write_bytes(data)
        ran = run("repo", "check", "--state", "new", "--begin-from", "x.json")
        assert ran.status == status
        assert ran.err.startswith(f"error: {message}")
        assert f"\nhint: {hint}" in ran.err
    assert not (vendor.place / "new").exists()


def test_init_takes_no_key_twice(vendor: Vendor) -> None:
    standard(vendor)
    root = STANDARD[STANDARD.index("--root-key") + 1]
    shutil.copy(vendor.place / root, vendor.place / "copy.key")
    shutil.copy(vendor.place / f"{root[:-4]}.pub", vendor.place / "copy.pub")
    for other, message in (
        (root, f"--root-key {root} is given twice: it counts once"),
        ("copy.key", f"{root} and copy.key are the same key, "),
    ):
        ran = vendor.sign(*STANDARD, "--root-key", other, "--root-threshold", "2")
        assert ran.status == 2
        assert ran.err.startswith(f"error: {message}"), ran.err
    assert not (vendor.place / "trust").exists()


def test_whose_memory_it_is(vendor: Vendor) -> None:
    vendor.init()
    begin = ("repo", "check", "--state", "new", "--begin-from")
    root = "trust/metadata/1.root.json"
    ran = run(*begin, root, "--publisher", "bolt")
    assert ran.status == 2
    assert ran.err.startswith("error: --publisher is bolt, and trust is of acme [usage")
    ran = run("repo", "check", "--publisher", "acme")
    assert ran.err.startswith("error: --publisher goes with --begin-from [usage]")


def test_what_could_not_be_checked_is_not_rejected() -> None:
    doubt = Violation(rule="storage", text="disk trouble", inconclusive=True)
    report = Report(
        subject="repository trust",
        verdict="inconclusive",
        code="storage",
        time=NOW,
        steps=(),
        violations=(doubt,),
    )
    error = repo_check._refusal(report, "trust")
    assert isinstance(error, InconclusiveError)
    assert str(error) == "trust could not be checked: 1 problem"
    assert error.report is not None
    assert error.report.violations == (doubt,)


def test_no_repository_here(vendor: Vendor) -> None:
    for verb in ("status", "check"):
        ran = run("repo", verb)
        assert ran.status == 2
        assert ran.err.startswith("error: --repo is missing, and neither MARGO_SUPPLYC")
        ran = run("repo", verb, "--repo", "nowhere")
        assert ran.status == 2
        assert ran.err.startswith("error: nowhere holds no trust repository")
