"""Root keys, targets keys and online keys on machines of their own: directories here.

Files go from one to another on a stick; no private key ever leaves where it was made.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from margo_supplychain.formats import strict_json
from tests.cli.running import PASSPHRASE, Ran, run, run_json, validate
from tests.cli.vendor import Vendor

MACHINES = {
    "office": ("a.key", "b.key"),
    "vault": ("t-old.key", "t-1.key"),
    "annex": ("t-2.key",),
    "online": ("ci.key", "ci-2.key"),
}
ROOT = "../stick/root-2.json"
DRAFT = "../stick/root-2.targets.json"
FINALIZE = f"margo-supplychain root finalize {ROOT} --with {DRAFT}"


@dataclass(frozen=True, slots=True)
class Plant:
    """Machines side by side, and the stick that is carried between them."""

    place: Path
    patch: pytest.MonkeyPatch

    def at(self, machine: str, *arguments: str) -> Ran:
        """Run a command at a machine, which has its own keys alone."""
        self.patch.chdir(self.place / machine)
        return run(*arguments)

    def sign(self, machine: str, *arguments: str) -> Ran:
        """Run a command that opens keys there."""
        secret = ("--passphrase-file", "../passphrase")
        return self.at(machine, *arguments, *secret)

    def must(self, machine: str, *arguments: str, status: int = 0) -> Ran:
        """Run a command that opens keys, and ends as it should."""
        ran = self.sign(machine, *arguments)
        assert ran.status == status, ran.err
        return ran

    def key_id(self, name: str) -> str:
        """Return the short id of a public key on the stick."""
        found: str = run_json("key", "key", "show", str(self.stick / name))["result"][
            "keyId"
        ]
        return found[:12]

    @property
    def stick(self) -> Path:
        """Where everything public is carried."""
        return self.place / "stick"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the repository once: all together, keys go to their machines afterwards."""
    place = tmp_path_factory.mktemp("plant")
    (place / "passphrase").write_text(PASSPHRASE + "\n")
    (place / "passphrase").chmod(0o600)
    (place / "stick").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        plant = Plant(place, patch)
        for machine, names in MACHINES.items():
            (place / machine).mkdir()
            patch.chdir(place / machine)
            vendor = Vendor(place / machine, "../passphrase")
            for name in names:
                vendor.key(name)
                public = Path(name).with_suffix(".pub").name
                shutil.copy(public, plant.stick)
        plant.must(
            "online",
            *("repo", "init", "trust", "--profile", "standard", "--publisher", "acme"),
            *("--root-key", "../office/a.key", "--root-key", "../office/b.key"),
            *("--targets-key", "../vault/t-old.key", "--publisher-key", "ci-2.key"),
            *("--root-threshold", "2", "--online-key", "ci.key"),
        )
        (place / "online" / "margo-supplychain.toml").unlink()
        shutil.copy("trust/metadata/1.root.json", plant.stick)
    return place


@pytest.fixture
def plant(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Return the machines as they stand before the ceremony, with a proposal."""
    place = tmp_path / "plant"
    shutil.copytree(template, place)
    found = Plant(place, monkeypatch)
    ran = found.at(
        "online",
        *("root", "propose", "--repo", "trust", "--out", ROOT),
        *("--replace-key", f"{found.key_id('t-old.pub')}=../stick/t-1.pub"),
        *("--add-key", "targets=../stick/t-2.pub", "--threshold", "targets=2"),
    )
    assert ran.status == 0, ran.err
    for name in ("a.key", "b.key"):
        found.sign(
            "office",
            *("root", "sign", ROOT, "--root", "../stick/1.root.json"),
            *("--key", name, "--yes"),
        )
    return found


def drafted(plant: Plant) -> Ran:
    return plant.at("online", "root", "draft", ROOT, "--repo", "trust")


def signed(plant: Plant, machine: str, name: str, *options: str) -> Ran:
    return plant.sign(
        machine,
        *("root", "sign", DRAFT, "--proposal", ROOT, "--key", name, "--yes"),
        *("--root", "../stick/1.root.json", *options),
    )


def finalized(plant: Plant, *options: str) -> Ran:
    return plant.sign(
        "online",
        *("root", "finalize", ROOT, "--repo", "trust", "--key", "ci.key", *options),
    )


def checked(plant: Plant) -> None:
    assert plant.at("online", "repo", "check", "--repo", "trust").status == 0


def test_the_whole_ceremony_on_machines_apart(plant: Plant) -> None:
    ran = drafted(plant)
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[:2] == [
        f"drafted targets v3: {DRAFT}",
        "targets v3 under root v1 -> v2",
    ]
    assert lines[-2] == "  changes    nothing but version and expiry of what stands"
    assert lines[-1].startswith(f"next: send {ROOT} and {DRAFT} to ")
    ran = signed(plant, "vault", "t-1.key")
    assert ran.status == 5
    assert "not compared: what stands is not at hand here" in ran.err
    assert "signed: old root 0 of 1, new root 1 of 2\n" in ran.out
    assert "incomplete: targets v3 under root v2 needs 1 more of" in ran.out
    ran = finalized(plant, "--with", DRAFT)
    assert ran.status == 5
    assert "targets v3 under root v2 needs 1 more of" in ran.err
    assert f"root sign {DRAFT} --proposal {ROOT} --key …; nothing was" in ran.err
    ran = signed(plant, "annex", "t-2.key")
    assert ran.status == 0
    assert "if 1 more of" in ran.out
    ran = signed(plant, "vault", "t-old.key")
    assert ran.status == 0
    assert ran.out.splitlines()[1:] == [
        "signed: old root 1 of 1, new root 2 of 2",
        "complete: targets v3 is handed over, and no device meets a gap",
        f"next: send {DRAFT} to whoever proposed it: {FINALIZE}",
    ]
    ran = finalized(plant, "--with", DRAFT)
    assert (ran.status, ran.err) == (0, "")
    assert "  signed again  targets v3, snapshot v3, timestamp v3\n" in ran.out
    checked(plant)
    ran = finalized(plant, "--with", DRAFT)
    assert ran.status == 0
    assert ran.out.startswith("unchanged: root v2 is adopted in trust\n")


def test_online_keys_are_replaced_along_with_them(plant: Plant) -> None:
    for file in (ROOT, DRAFT):
        (plant.place / "online" / file).unlink(missing_ok=True)
    ran = plant.at(
        "online",
        *("root", "propose", "--repo", "trust", "--out", ROOT),
        *("--replace-key", f"{plant.key_id('t-old.pub')}=../stick/t-1.pub"),
        *("--replace-key", f"{plant.key_id('ci.pub')}=../stick/ci-2.pub"),
    )
    assert ran.status == 0, ran.err
    for name in ("a.key", "b.key"):
        plant.sign(
            "office",
            *("root", "sign", ROOT, "--root", "../stick/1.root.json"),
            *("--key", name, "--yes"),
        )
    drafted(plant)
    signed(plant, "vault", "t-1.key")
    signed(plant, "vault", "t-old.key")
    ran = finalized(plant, "--key", "ci-2.key", "--with", DRAFT)
    assert (ran.status, ran.err) == (0, "")
    checked(plant)


def test_signed_apart_and_brought_together(plant: Plant) -> None:
    drafted(plant)
    signed(plant, "vault", "t-1.key", "--out", "../stick/one.json")
    signed(plant, "annex", "t-2.key", "--out", "../stick/two.json")
    ran = plant.at(
        "online",
        *("root", "merge", "../stick/one.json", "../stick/two.json"),
        *("--proposal", ROOT, "--repo", "trust", "--out", "../stick/both.json"),
    )
    assert ran.status == 0
    assert ran.out.startswith("merged 2 files into ../stick/both.json\nsigned: old ")
    ran = plant.at(
        "online",
        *("--format", "json", "root", "status", "../stick/both.json"),
        *("--proposal", ROOT, "--repo", "trust"),
    )
    assert ran.status == 0
    validate(ran.json, "root-draft")
    result = ran.json["result"]
    assert (result["complete"], result["withoutGap"], result["compared"]) == (
        True,
        False,
        True,
    )
    ran = finalized(plant, "--with", "../stick/both.json")
    assert ran.status == 0
    assert "for a moment devices refused what lay there" in ran.err
    checked(plant)


def test_json_of_a_draft(plant: Plant) -> None:
    plant.patch.chdir(plant.place / "online")
    document = run_json("root-draft", "root", "draft", ROOT, "--repo", "trust")
    assert document["result"]["lacking"] != []
    ran = plant.at(
        "online",
        *("--format", "json", "root", "status", DRAFT),
        *("--proposal", ROOT, "--repo", "trust"),
    )
    validate(ran.json, "root-draft")
    assert ran.status == 5


def test_whose_keys_are_elsewhere_is_told_what_to_do(plant: Plant) -> None:
    ran = finalized(plant)
    assert ran.status == 5
    assert f"sign what `margo-supplychain root draft {ROOT}` writes" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sign", ROOT, "--proposal", ROOT, "--key", "x"), "expected 'targets'"),
        (("sign", "gone", "--proposal", ROOT, "--key", "x"), "gone"),
        (
            ("sign", DRAFT, "--proposal", ROOT, "--export-payload", "x"),
            "a draft of targets is signed by --key alone",
        ),
        (("draft", ROOT), "is another file"),
        (("draft", "trust/metadata/1.root.json", "--out", "x"), "root v1"),
    ],
)
def test_what_is_refused(
    plant: Plant, arguments: tuple[str, ...], message: str
) -> None:
    drafted(plant)
    (plant.place / "online" / DRAFT).write_bytes(
        (plant.place / "online" / DRAFT).read_bytes() + b" "
        if arguments[0] == "draft"
        else (plant.place / "online" / DRAFT).read_bytes()
    )
    ran = plant.at("online", "root", *arguments, "--repo", "trust")
    assert ran.status == 2
    assert message in ran.err


def test_another_draft_is_not_written_over(plant: Plant) -> None:
    drafted(plant)
    shutil.copy(plant.stick / "root-2.json", plant.stick / "other.json")
    ran = plant.sign(
        "vault",
        *("root", "sign", DRAFT, "--proposal", ROOT, "--key", "t-1.key", "--yes"),
        *("--root", "../stick/1.root.json", "--out", "../stick/other.json"),
    )
    assert ran.status == 2
    assert "exists, and is another file" in ran.err


def edited(plant: Plant, **changes: object) -> None:
    file = plant.stick / "root-2.targets.json"
    value = json.loads(file.read_bytes())
    value["signed"].update(changes)
    file.write_bytes(strict_json.canonical(value))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expires": "2126-01-01T00:00:00Z"}, "more than 2 times the 365 days"),
        ({"expires": "2020-01-01T00:00:00Z"}, "before anybody adopted it"),
        ({"version": 2**53 - 1}, "beyond any version that is counted to"),
        ({"x-note": {}}, "has the field x-note, which nobody is shown"),
    ],
)
def test_who_has_nothing_to_compare_it_with_signs_what_is_shown(
    plant: Plant, changes: dict[str, object], message: str
) -> None:
    drafted(plant)
    edited(plant, **changes)
    ran = signed(plant, "vault", "t-1.key")
    assert (ran.status, ran.out) == (2, "")
    assert message in ran.err
    assert (
        json.loads((plant.stick / "root-2.targets.json").read_bytes())["signatures"]
        == []
    )


def test_keys_that_left_are_shown(plant: Plant) -> None:
    drafted(plant)
    edited(plant, **{"x-left": {"acme": ["ab" * 32]}})
    ran = signed(plant, "vault", "t-1.key")
    assert f'  left       acme  ["{"ab" * 32}"]\n' in ran.err


def test_who_signs_the_root_last_is_told_of_the_draft(plant: Plant) -> None:
    at = ("root", "status", ROOT, "--root", "../stick/1.root.json")
    ran = plant.at("vault", *at)
    assert ran.out.endswith(
        f"margo-supplychain root finalize {ROOT} --root ../stick/1.root.json\n"
    )
    drafted(plant)
    ran = plant.at("vault", *at)
    assert f"margo-supplychain root finalize {ROOT} --with {DRAFT} --root" in ran.out


def test_who_has_the_repository_sees_a_publisher_that_changed(plant: Plant) -> None:
    drafted(plant)
    file = plant.stick / "root-2.targets.json"
    value = json.loads(file.read_bytes())
    value["signed"]["delegations"]["roles"][0]["threshold"] = 2
    file.write_bytes(strict_json.canonical(value))
    ran = plant.sign(
        "vault",
        *("root", "sign", DRAFT, "--proposal", ROOT, "--repo", "../online/trust"),
        *("--key", "t-1.key", "--yes"),
    )
    assert ran.status == 2
    assert "does not say the same as targets v2, which stands: publisher acme" in (
        ran.err
    )
    assert json.loads(file.read_bytes())["signatures"] == []
