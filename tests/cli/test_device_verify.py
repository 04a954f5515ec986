"""`device verify`: the verdict first, one document, an exit status by class."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.cli import describe
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from tests.cli.plant import APPLICATION, Plant
from tests.cli.running import Ran, run, spawn, validate
from tests.world.on_disk import write_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def plant(place: Path) -> Plant:
    made = Plant(place)
    made.publish("1.0.0", "1.2.0", "2.0.0", "3.0.0-rc.1")
    assert made.init().status == 0
    return made


def rejected(plant: Plant, *arguments: str, status: int = 3) -> dict[str, Any]:
    """Run as JSON and check the document of a failure; return it."""
    ran = plant.run(*arguments, json=True)
    assert ran.status == status
    assert ran.err == ""
    validate(ran.json, "error")
    if ran.json["report"] is not None:
        validate(ran.json["report"], "report")
    return ran.json


def key_id(plant: Plant, role: str) -> str:
    return plant.world.signers[role][0].public_key.keyid[:12]


def test_verified(plant: Plant) -> None:
    ran = plant.verify()
    assert ran.err == ""
    assert ran.status == 0
    digest = plant.world.release("1.2.0").short
    signer = key_id(plant, "acme.pump-monitor")
    assert ran.out.splitlines() == [
        "verified acme/pump-monitor 1.2.0",
        "  newest in ^1.0 (3.0.0-rc.1 exists, outside the pin)",
        f"  package     sha256:{digest}",
        (
            f"  signed      acme.pump-monitor v1 by {signer}, "
            "for acme v2, targets v1, root v1"
        ),
        "  fresh       timestamp v2, issued 3 h ago, good for 3 d 20 h",
        "  images      none named",
        "  provenance  none demanded",
    ]


@pytest.mark.parametrize(
    ("pin", "version", "line"),
    [
        (
            "*",
            "2.0.0",
            "newest in * (3.0.0-rc.1 exists, pre-release, and the pin names",
        ),
        ("1.0.0", "1.0.0", "exactly 1.0.0 (3.0.0-rc.1 exists, outside the pin)"),
        ("^3.0.0-rc.0", "3.0.0-rc.1", "newest in ^3.0.0-rc.0"),
    ],
)
def test_the_newest_is_named(plant: Plant, pin: str, version: str, line: str) -> None:
    lines = plant.verify(pin).out.splitlines()
    assert lines[0] == f"verified acme/pump-monitor {version}"
    assert lines[1].startswith(f"  {line}")


def test_a_newest_that_is_barred_inside_the_pin(place: Path) -> None:
    plant = Plant(place)
    plant.publish("1.0.0", "1.3.0")
    plant.world.withdraw("1.3.0")
    plant.publish()
    assert plant.init().status == 0
    assert plant.verify().out.splitlines()[:2] == [
        "verified acme/pump-monitor 1.0.0",
        "  newest in ^1.0 (1.3.0 exists, withdrawn by its publisher)",
    ]


def test_verified_as_json(plant: Plant) -> None:
    ran = plant.verify(json=True)
    assert (ran.status, ran.err) == (0, "")
    validate(ran.json, "device-verify")
    result = ran.json["result"]
    validate(result["report"], "report")
    assert result["version"] == "1.2.0"
    assert result["newest"] == "3.0.0-rc.1"
    assert [one["role"] for one in result["signed"]] == [
        "acme.pump-monitor",
        "acme",
        "targets",
    ]
    assert result["repository"] == "acme"
    assert result["freshness"] == "fresh"
    assert [one["number"] for one in result["report"]["steps"]] == [0, 1, 2, 3, 4, 5]


def test_explain_tells_the_steps(plant: Plant) -> None:
    lines = plant.verify("^1.0", "--explain").out.splitlines()
    assert lines[:7] == plant.verify().out.splitlines()
    assert [line.split()[0] for line in lines[7:]] == ["0", "1", "2", "3", "4", "5"]
    assert "passed over" not in plant.verify("^3.0.0-rc.0", "--explain").out
    assert lines[7] == "  0  store and clock      passed  publishers acme"
    failed = plant.verify("^9", "--explain")
    assert failed.out == "rejected acme/pump-monitor ^9\n"
    notes = failed.err.splitlines()[:3]
    assert notes[2].startswith("note: 2  resolve the pin  failed")


def test_nothing_inside_the_pin(plant: Plant) -> None:
    ran = plant.verify("^3")
    assert ran.status == 3
    assert ran.out == "rejected acme/pump-monitor ^3\n"
    assert ran.err.splitlines() == [
        "error: no release inside ^3 [no-matching-version]",
        "  3.0.0-rc.1   pre-release, and the pin names none of 3.0.0",
        "  2.0.0        outside the pin",
        "  1.2.0        outside the pin",
        "  1.0.0        outside the pin",
        "hint: widen the pin, or wait for acme to release inside it",
    ]
    document = rejected(plant, "verify", APPLICATION, "--pin", "^3")
    assert document["error"]["facts"]["candidates"][0][0] == "3.0.0-rc.1"
    assert document["report"]["subject"] == "acme/pump-monitor ^3"


def test_rollback_names_the_source_and_moves_nothing(plant: Plant) -> None:
    """A mirror serves last month's copy; the device keeps what it knows."""
    old = plant.world.files.copy()
    plant.publish("1.2.1")
    assert plant.verify().status == 0
    before = plant.memory()
    write_files(old, plant.trust)
    ran = plant.verify()
    assert ran.status == 3
    assert ran.out == "rejected acme/pump-monitor ^1.0\n"
    assert ran.err.splitlines() == [
        "error: timestamp v2 is older than trusted v3 [rollback]",
        (
            f"hint: {plant.trust} serves an old copy; do not install, report it. "
            "Nothing on this device changed"
        ),
    ]
    assert plant.memory() == before
    document = rejected(plant, "verify", APPLICATION, "--pin", "^1.0")
    assert document["error"]["facts"] == {
        "role": "timestamp",
        "trusted": 3,
        "offered": 2,
    }


def expired(plant: Plant) -> None:
    plant.publish(days={"timestamp": 0.01})


def tampered(plant: Plant) -> None:
    path = plant.trust / "metadata" / "1.acme.pump-monitor.json"
    data = path.read_bytes()
    assert b'"version":1' in data
    path.write_bytes(data.replace(b'"version":1', b'"version":2'))


def unsigned(plant: Plant) -> None:
    path = plant.trust / "metadata" / "timestamp.json"
    document = json.loads(path.read_bytes())
    document["signatures"][0]["sig"] = "00" * 64
    path.write_text(json.dumps(document))


def nonsense(plant: Plant) -> None:
    (plant.trust / "metadata" / "timestamp.json").write_text("<html>")


def provenance(plant: Plant) -> None:
    policy = PublisherPolicy(epoch=1, provenance="required")
    plant.world.set_policy(APPLICATION, policy)
    plant.publish()


def withdrawn(plant: Plant) -> None:
    for version in ("1.0.0", "1.2.0"):
        plant.world.withdraw(version)
    plant.publish()


def old_age(plant: Plant) -> None:
    plant.edit('["signed"]', '["signed"]\nmax-age = "1h"')


def no_pattern(plant: Plant) -> None:
    plant.edit("acme/*", "beta/*")


def gone(plant: Plant) -> None:
    shutil.rmtree(plant.trust)


def lost(plant: Plant) -> None:
    for copy in ("memory-a", "memory-b"):
        (plant.state / "stores" / "acme" / copy).write_bytes(b"x")


def no_store(plant: Plant) -> None:
    shutil.rmtree(plant.state / "stores")


def no_file(plant: Plant) -> None:
    (plant.state / "device.toml").unlink()


def no_manifest(plant: Plant) -> None:
    shutil.rmtree(plant.trust / "blobs")


def two_claims(plant: Plant) -> None:
    stores = plant.state / "stores"
    shutil.copytree(stores / "acme", stores / "copied")


FAILURES: list[tuple[Callable[[Plant], None], str, int, str]] = [
    (expired, "expired", 3, "timestamp v3 expired "),
    (tampered, "mix-and-match", 3, "acme.pump-monitor is not the file that "),
    (unsigned, "threshold", 3, "timestamp v2 has 0 of 1 required signatures"),
    (nonsense, "malformed", 3, "timestamp: "),
    (provenance, "provenance", 3, "the record of acme/pump-monitor 1.2.0 names no la"),
    (withdrawn, "withdrawn", 3, "acme/pump-monitor 1.2.0 is withdrawn: leaks oil"),
    (old_age, "policy", 3, "acme/pump-monitor 1.2.0 violates the device's policy"),
    (no_pattern, "policy", 3, "the device's policy names no pattern for acme/"),
    (two_claims, "ambiguous-role", 3, "publisher acme is claimed by two stores, acme "),
    (gone, "fetch", 4, "is not a directory"),
    (no_manifest, "fetch", 4, "does not exist"),
    (lost, "state-lost", 4, "stores/acme has no readable memory"),
    (no_store, "state-lost", 4, "stores/acme has no readable memory"),
    (no_file, "state-lost", 4, "device/device.toml does not exist"),
]


@pytest.mark.parametrize(
    ("damage", "code", "status", "message"),
    FAILURES,
    ids=[one[0].__name__ for one in FAILURES],
)
def test_failures(
    plant: Plant,
    damage: Callable[[Plant], None],
    code: str,
    status: int,
    message: str,
) -> None:
    damage(plant)
    ran = plant.verify()
    verdict = {3: "rejected", 4: "inconclusive"}[status]
    assert ran.out == f"{verdict} acme/pump-monitor ^1.0\n"
    assert ran.status == status
    lines = ran.err.splitlines()
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert lines[0].endswith((f" [{code}]", f" [{code}: no-layout]"))
    assert lines[-1].startswith("hint: ")
    document = rejected(plant, "verify", APPLICATION, "--pin", "^1.0", status=status)
    assert document["error"]["code"] == code
    assert document["error"]["exit"] == status
    assert document["report"]["verdict"] == verdict
    assert document["report"]["code"] == code
    assert document["report"]["steps"][-1]["outcome"] == "failed"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["pump-monitor", "--pin", "^1"], "format", "is not a release name"),
        (["acme/pump-monitor", "--pin", "^1 ||| 2"], "format", "'^1 ||| 2'"),
        (["acme/pump-monitor", "--pin", ""], "format", "range"),
        (["acme/pump-monitor", "--pin", "1.0.0@sha256:0"], "oci-format", "digest"),
        (["acme/pump-monitor", "--pin", "1", "--slot", "../x"], "format", "slot"),
        (["acme/pump-monitor"], "usage", "missing option '--pin'"),
        (["--pin", "^1"], "usage", "missing argument"),
        (["acme/x", "--pin", "1", "--policy", "none"], "format", "none: no such file"),
        (["acme/x", "--pin", "1", "--source", "ftp://x"], "format", "ftp: is no kind"),
        (["acme/x", "--pin", "1", "--force"], "usage", "no such option"),
    ],
)
def test_wrong_input_has_no_verdict(
    plant: Plant, arguments: list[str], code: str, message: str
) -> None:
    ran = plant.run("verify", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert message in ran.err
    document = rejected(plant, "verify", *arguments, status=2)
    assert document["error"]["code"] == code
    assert document["report"] is None
    if "--policy" not in arguments and "--source" not in arguments:
        assert "correct the file" not in ran.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[policy", "is not TOML"),
        (f"x = {'1' * 4301}", "is not TOML: Exceeds the limit"),
        ('[repositry.acme]\nsource = "x"\n', "unknown table 'repositry'"),
        ("[repository.acme]\n", "repository.acme has no source"),
        ('[repository.acme]\nsource = "x"\nsorce = "y"\n', "unknown key 'sorce'"),
        ('repository = "x"\n', "repository is not tables"),
        ('[repository]\nacme = "x"\n', "repository.acme is not a table"),
        ('[repository.acme]\nsource = ""\n', "repository.acme.source is ''"),
        ("[repository.acme]\nsource = 7\n", "repository.acme.source is 7"),
        ('[repository.acme]\nsource = "a\\nb"\n', "expected a path or URL"),
        ('[repository."../x"]\nsource = "x"\n', "repository '../x' is not a name"),
        ('[repository.acme]\nsource = "x"\ncontent = "y"\n', "content is not a list"),
        ('[repository.acme]\nsource = "x"\ncontent = []\n', "content is empty"),
        ('[repository.acme]\nsource = "x"\ncontent = [""]\n', "content is ''"),
        ("#" * (1 << 20) + "\n", "is larger than 1048576 bytes"),
    ],
)
def test_a_wrong_device_toml_is_named(plant: Plant, text: str, message: str) -> None:
    path = plant.state / "device.toml"
    path.write_text(text + '\n[policy."acme/*"]\nrequire = ["signed"]\n')
    ran = plant.verify()
    assert ran.status == (4 if "larger" in message else 2)
    assert "device/device.toml" in ran.err
    assert message in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the policy has no patterns"),
        ('[policy."acme/*"]\n', "requires nothing"),
        ('[policy."acme/*"]\nrequire = []\n', "expected a list of rules"),
        ('[policy."acme/*"]\nrequire = ["singed"]\n', "unknown rule 'singed'"),
        ('[policy."acme/*"]\nrequires = ["signed"]\n', "unknown key 'requires'"),
    ],
)
def test_an_empty_or_misspelt_policy_never_passes(
    plant: Plant, text: str, message: str
) -> None:
    path = plant.place / "policy.toml"
    path.write_text(text)
    ran = plant.verify("^1.0", "--policy", "policy.toml")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("error: policy.toml: ")
    assert message in ran.err


def test_another_policy_file(plant: Plant) -> None:
    path = plant.place / "policy.toml"
    path.write_text('[policy."acme/pump-monitor"]\nrequire = ["signed"]\n')
    assert plant.verify("^1.0", "--policy", "policy.toml").status == 0
    path.write_text('[policy."beta/*"]\nrequire = ["signed"]\n')
    assert plant.verify("^1.0", "--policy", "policy.toml").status == 3


def test_another_source(plant: Plant) -> None:
    moved = plant.place / "mirror"
    plant.trust.rename(moved)
    assert plant.verify().status == 4
    assert plant.verify("^1.0", "--source", "mirror").status == 0
    plant.edit(str(plant.trust), "../mirror")
    assert plant.verify().status == 0


def test_content_may_lie_elsewhere(plant: Plant) -> None:
    stick = plant.place / "stick"
    shutil.copytree(plant.trust, stick)
    shutil.rmtree(plant.trust / "blobs")
    assert plant.verify().status == 4
    plant.edit("\n# content =", '\ncontent = ["oci-layout:../stick"]\n# content =')
    assert plant.verify().status == 0


def test_out_of_reach_is_said(plant: Plant) -> None:
    assert plant.verify().status == 0
    shutil.rmtree(plant.trust)
    lines = plant.verify().out.splitlines()
    assert lines[0] == "verified acme/pump-monitor 1.2.0"
    assert lines[4].endswith("; the source is out of reach, this was accepted before")
    why = f"{plant.trust}/metadata is not a directory"
    assert lines[5] == f"  source      out of reach: {why}"
    explained = plant.verify("^1.0", "--explain").out
    assert f"source {plant.trust}, reached no, out of reach {why}\n" in explained
    document = plant.verify(json=True).json
    validate(document, "device-verify")
    assert document["result"]["outOfReach"] == why
    facts = document["result"]["report"]["steps"][1]["facts"]
    assert (facts["reached"], facts["out of reach"]) == (False, why)


def test_a_publisher_that_no_store_speaks_for(plant: Plant) -> None:
    ran = plant.run("verify", "beta/app", "--pin", "^1")
    assert ran.status == 3
    assert ran.out == "rejected beta/app ^1\n"
    assert "no store in device speaks for the publisher beta [unknown" in ran.err
    assert "margo-supplychain device init --root FILE" in ran.err
    assert "--publisher beta" in ran.err


def test_a_name_that_may_have_been_removed(place: Path) -> None:
    plant = Plant(place)
    plant.publish("1.0.0")
    assert plant.init("--publisher", "bolt").status == 0
    for name, who in (
        ("acme/ghost", "acme has removed it"),
        ("bolt/valve", "the repository's operator has removed bolt"),
    ):
        ran = plant.run("verify", name, "--pin", "^1")
        assert ran.status == 3
        said = f"if it was found here before, {who}: ask them"
        assert ran.err.endswith(f"hint: check the name; {said}\n")


def test_a_lost_store_does_not_stop_another_publisher(plant: Plant) -> None:
    other = Plant(plant.place / "b", publishers=("beta",))
    other.world.release("1.0.0", "beta/app")
    write_files(other.world.publish(), other.trust)
    root = str(other.trust / "metadata" / "1.root.json")
    assert plant.run("init", "--root", root, "--publisher", "beta").status == 0
    assert plant.run("verify", "beta/app", "--pin", "*").status == 0
    lost(plant)
    assert plant.run("verify", "beta/app", "--pin", "*").status == 0
    ran = plant.verify()
    assert ran.status == 4
    store = plant.state.name + "/stores/acme"
    assert f"or remove {store} and run margo-supplychain device init" in ran.err
    # It might have been the lost store that speaks for a publisher nobody knows.
    assert plant.run("verify", "gamma/app", "--pin", "*").status == 4


def test_a_store_without_a_source(plant: Plant) -> None:
    plant.edit("[repository.acme]", "[repository.other]")
    ran = plant.verify()
    assert ran.status == 2
    assert "device.toml has no [repository.acme]" in ran.err
    assert plant.verify("^1.0", "--source", "trust").status == 0


def test_simple_profile_must_be_allowed(place: Path) -> None:
    plant = Plant(place, profile="simple")
    plant.publish("1.0.0")
    assert plant.init().status == 0
    ran = plant.verify()
    assert ran.status == 3
    assert " allow-simple-profile: the repository has the profile simple" in ran.err
    document = rejected(plant, "verify", APPLICATION, "--pin", "^1.0")
    assert document["report"]["violations"][0]["rule"] == "allow-simple-profile"
    plant.edit('["signed"]', '["signed"]\nallow-simple-profile = true')
    ran = plant.verify()
    assert ran.status == 0
    assert f"targets v2 by {key_id(plant, 'targets')}, for root v1" in ran.out
    validate(plant.verify(json=True).json, "device-verify")


def test_a_clock_that_can_not_be_believed(place: Path) -> None:
    plant = Plant(place, age=timedelta(days=-20))
    plant.publish("1.0.0")
    assert plant.init().status == 0
    ran = plant.verify("1.0.0")
    assert ran.status == 0
    issued = describe.moment(plant.world.clock.when)
    assert f"timestamp v2, issued {issued}, good until 2" in ran.out
    assert "; the clock can't be believed, signed times were used\n" in ran.out
    result = plant.verify("1.0.0", json=True).json["result"]
    assert (result["freshness"], result["reached"]) == ("unproven", True)
    shutil.rmtree(plant.trust)
    ran = plant.verify("1.0.0", json=True)
    validate(ran.json, "device-verify")
    result = ran.json["result"]
    assert (result["freshness"], result["reached"]) == ("unproven", False)
    said = plant.verify("1.0.0").out
    assert "signed times were used; the source is out of reach, this was acc" in said
    refreshed = plant.run("refresh", json=True).json
    validate(refreshed, "device-refresh")
    (one,) = refreshed["result"]["repositories"]
    assert (one["freshness"], one["reached"]) == ("unproven", False)
    old_age(plant)
    ran = plant.verify("1.0.0")
    assert ran.status == 4
    assert ran.out == "inconclusive acme/pump-monitor 1.0.0\n"
    assert "[clock]" in ran.err


def test_state_from_the_environment_or_the_place(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*more: str) -> Ran:
        return run(*more, "device", "verify", APPLICATION, "--pin", "^1.0")

    ran = ask()
    assert ran.status == 2
    assert "this directory holds no device.toml [usage]" in ran.err
    monkeypatch.setenv("MARGO_SUPPLYCHAIN_STATE", "device")
    assert ask().status == 0
    assert "note: state is device (MARGO_SUPPLYCHAIN_STATE)" in ask("-v").err
    monkeypatch.delenv("MARGO_SUPPLYCHAIN_STATE")
    monkeypatch.chdir(plant.state)
    assert ask().status == 0


def test_in_a_process_of_its_own(plant: Plant) -> None:
    """Exit status, and which stream says what."""
    asked = ["device", "verify", APPLICATION, "--state", "device", "--pin"]
    good = spawn(*asked, "^1.0", cwd=plant.place)
    assert (good.returncode, good.stderr) == (0, b"")
    assert good.stdout.startswith(b"verified acme/pump-monitor 1.2.0\n")
    bad = spawn(*asked, "^3", cwd=plant.place)
    assert (bad.returncode, bad.stdout) == (3, b"rejected acme/pump-monitor ^3\n")
    assert bad.stderr.startswith(b"error: no release inside ^3")
    wrong = spawn(*asked, "=>1", cwd=plant.place)
    assert (wrong.returncode, wrong.stdout) == (2, b"")
    gone(plant)
    shutil.rmtree(plant.state / "stores" / "acme" / "metadata")
    unknown = spawn("--format", "json", *asked, "^1.0", cwd=plant.place)
    assert (unknown.returncode, unknown.stderr) == (4, b"")
    validate(json.loads(unknown.stdout), "error")
    for each in (good, bad, wrong, unknown):
        assert b"Traceback" not in each.stdout + each.stderr
