"""`device init`: trust begins with a root from elsewhere, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import StorageError
from margo_supplychain.verify.trust_store import TrustStore
from tests.cli.plant import Plant
from tests.cli.running import run, validate
from tests.world.on_disk import write_files

if TYPE_CHECKING:
    from pathlib import Path

ROOT = "trust/metadata/1.root.json"


@pytest.fixture
def plant(place: Path) -> Plant:
    made = Plant(place)
    made.publish("1.0.0")
    return made


def init(*arguments: str, state: str = "device") -> tuple[int, str]:
    ran = run("device", "init", *arguments, "--state", state)
    assert (ran.out == "") == (ran.status != 0)
    return ran.status, ran.err


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree(directory: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(directory)): one.read_bytes() if one.is_file() else b""
        for one in sorted(directory.rglob("*"))
        if one.name != ".lock"
    }


def test_by_a_root_file(plant: Plant) -> None:
    ran = plant.init()
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "trusted acme: root v1, for acme",
        f"  root    sha256:{sha256(plant.place / ROOT)}",
        f"  source  {plant.trust}",
        "  store   device/stores/acme",
        "  policy  device/device.toml: acme/*",
        "next: margo-supplychain device verify acme/NAME --pin '^1.0' --state device",
    ]
    text = (plant.state / "device.toml").read_text()
    assert tomllib.loads(text) == {
        "repository": {"acme": {"source": str(plant.trust)}},
        "policy": {"acme/*": {"require": ["signed"]}},
    }
    assert "# content = [" in text
    assert "\n\n\n" not in text
    assert (plant.state / "stores" / "acme").stat().st_mode & 0o777 == 0o700
    assert plant.verify().status == 0


def test_as_json(plant: Plant) -> None:
    given = ["--root", ROOT, "--publisher", "acme", "--state", "device"]
    ran = run("--format", "json", "device", "init", *given)
    validate(ran.json, "device-init")
    assert ran.json["result"]["policies"] == ["acme/*"]
    again = run("--format", "json", "device", "init", *given)
    validate(again.json, "error")
    assert again.status == 2


def test_by_the_digest_of_the_first_root(plant: Plant) -> None:
    right = sha256(plant.place / ROOT)
    given = ["--source", "trust", "--publisher", "acme", "--root-sha256"]
    status, err = init(*given, "0" * 64)
    assert status == 3
    assert f"1.root.json of trust is sha256:{right}, expected sha256:000" in err
    assert "[digest-mismatch]" in err
    assert not plant.state.exists()
    assert init(*given, right)[0] == 0
    assert plant.verify().status == 0


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--publisher", "acme"], 2, "give either --root or --root-sha256"),
        (["--root", ROOT], 2, "missing option '--publisher'"),
        (
            ["--root", ROOT, "--root-sha256", "0" * 64, "--publisher", "acme"],
            2,
            "give either --root or --root-sha256",
        ),
        (
            ["--root-sha256", "0" * 64, "--publisher", "acme"],
            2,
            "--source is missing, and --root lies in no repository",
        ),
        (
            ["--root-sha256", "x", "--publisher", "acme", "--source", "trust"],
            2,
            "digest 'sha256:x' is not",
        ),
        (
            ["--root-sha256", "0" * 64, "--publisher", "acme", "--source", "nowhere"],
            4,
            "nowhere/metadata is not a directory",
        ),
        (["--root", "none", "--publisher", "acme", "--source", "trust"], 2, "no such"),
        (["--root", ROOT, "--publisher", "Acme"], 2, "publisher 'Acme' is not a name"),
        (
            ["--root", ROOT, "--publisher", "acme", "--name", "../x"],
            2,
            "repository '../x' is not a name",
        ),
        (
            ["--root", ROOT, "--publisher", "acme", "--source", "a\nb"],
            2,
            "is not a path or URL",
        ),
        (
            ["--root", "trust/metadata/timestamp.json", "--publisher", "acme"],
            2,
            "this is no root to start from",
        ),
        (
            ["--root", "bad.json", "--publisher", "acme", "--source", "trust"],
            2,
            "this is no root to start from",
        ),
    ],
)
def test_what_is_wrong_leaves_nothing(
    plant: Plant, arguments: list[str], status: int, message: str
) -> None:
    (plant.place / "bad.json").write_text("{")
    found, err = init(*arguments)
    assert found == status
    assert message in err
    assert "Traceback" not in err
    assert not plant.state.exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "127.0.0.1:5611/acme/trust",
            "hint: write oci://127.0.0.1:5611/acme/trust for",
        ),
        (
            "registry.example:5000/trust",
            "hint: write oci://registry.example:5000/trust",
        ),
        ("oci://registry.example/trust:timestamp", "names one manifest"),
        ("oci://registry.example", "registry.example"),
        ("ftp://registry.example/trust", "ftp: is no kind of source"),
        ("https://user:secret@updates.example/acme", "credentials"),
    ],
)
def test_a_source_of_another_form(plant: Plant, source: str, message: str) -> None:
    ran = plant.init("--source", source)
    assert (ran.status, ran.out) == (2, "")
    assert message in ran.err
    assert not plant.state.exists()


def test_a_source_that_is_not_there_yet(plant: Plant) -> None:
    ran = plant.init("--source", "registry.example/acme/trust")
    assert ran.status == 0
    assert ran.err == (
        "note: registry.example/acme/trust does not exist; a registry is "
        "oci://HOST/PATH, a web server https://\n"
    )
    # The second try says where to mend the first.
    ran = plant.init()
    assert ran.status == 2
    assert "hint: edit its `source` in device/device.toml if that is wrong" in ran.err


def test_a_root_that_is_not_signed_by_itself(plant: Plant) -> None:
    path = plant.place / ROOT
    root = json.loads(path.read_bytes())
    root["signatures"][0]["sig"] = "00" * 64
    (plant.place / "bad.json").write_text(json.dumps(root))
    status, err = init("--root", "bad.json", "--source", "trust", "--publisher", "acme")
    assert (status, "[threshold]" in err) == (3, True)
    assert not plant.state.exists()


def second(plant: Plant, publisher: str) -> list[str]:
    other = Plant(plant.place / "other", publishers=(publisher,))
    other.world.release("1.0.0", f"{publisher}/app")
    write_files(other.world.publish(), other.trust)
    root = str(other.trust / "metadata" / "1.root.json")
    return ["--root", root, "--publisher", publisher]


def test_a_second_repository_is_appended(plant: Plant) -> None:
    plant.init()
    path = plant.state / "device.toml"
    mine = path.read_text() + '# mine\n[policy."beta/app"]\nrequire = ["signed"]'
    path.write_text(mine)
    path.chmod(0o600)
    assert init(*second(plant, "beta"))[0] == 0
    text = path.read_text()
    assert text.startswith(mine + "\n\n[repository.beta]\nsource = ")
    assert set(tomllib.loads(text)["policy"]) == {"acme/*", "beta/app", "beta/*"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert plant.run("verify", "beta/app", "--pin", "*").status == 0
    assert plant.verify().status == 0


def test_a_policy_that_is_there_stays(plant: Plant) -> None:
    plant.init()
    path = plant.state / "device.toml"
    path.write_text(path.read_text() + '[policy."beta/*"]\nrequire = ["signed"]\n')
    ran = run("device", "init", *second(plant, "beta"), "--state", "device")
    assert ran.status == 0
    assert "device/device.toml: nothing added" in ran.out
    assert path.read_text().count('[policy."beta/*"]') == 1


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ([], 2, "format"),
        (["--name", "again"], 3, "ambiguous-role"),
    ],
)
def test_a_claimed_publisher(
    plant: Plant, more: list[str], status: int, code: str
) -> None:
    """A second repository that defines a publisher already claimed is refused."""
    plant.init()
    before = tree(plant.state)
    found, err = init(*second(plant, "acme"), *more)
    assert (found, f"[{code}]" in err) == (status, True)
    assert tree(plant.state) == before
    assert plant.verify().status == 0


def test_a_broken_device_toml_is_not_touched(plant: Plant) -> None:
    plant.init()
    path = plant.state / "device.toml"
    path.write_text("[policy\n")
    before = tree(plant.state)
    status, err = init(*second(plant, "beta"))
    assert status == 2
    assert "device/device.toml: the policy is not TOML" in err
    assert tree(plant.state) == before


@pytest.mark.parametrize("existing", [False, True])
def test_a_failing_disk_leaves_nothing_half_made(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    if existing:
        plant.init()
    arguments = second(plant, "beta")
    before = tree(plant.place)

    def fail(directory: Path, **_: Any) -> TrustStore:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "memory-a").write_bytes(b"half")
        raise StorageError("no space left on device", path=str(directory))

    with monkeypatch.context() as patch:
        patch.setattr(TrustStore, "create", fail)
        status, err = init(*arguments)
    assert (status, "no space left on device" in err) == (4, True)
    assert tree(plant.place) == before
    assert init(*arguments)[0] == 0


def test_a_store_that_was_never_made_is_made(plant: Plant) -> None:
    """A power cut between the file and the store: the same command goes on."""
    plant.init()
    stored = plant.state / "stores" / "acme"
    for one in stored.iterdir():
        one.unlink()
    stored.rmdir()
    text = (plant.state / "device.toml").read_text()
    assert plant.verify().status == 4
    assert plant.init().status == 0
    assert (plant.state / "device.toml").read_text() == text
    assert plant.verify().status == 0


def test_a_damaged_store_is_never_replaced(plant: Plant) -> None:
    plant.init()
    for copy in ("memory-a", "memory-b"):
        (plant.state / "stores" / "acme" / copy).write_bytes(b"x")
    assert plant.init().status == 2
    (plant.state / "device.toml").unlink()
    ran = plant.init()
    assert ran.status == 4
    assert "holds a store already" in ran.err
    assert not (plant.state / "device.toml").exists()


def test_relative_sources_are_kept_whole(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = plant.place / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    given = ["--root", f"../{ROOT}", "--publisher", "acme"]
    state = str(plant.state)
    assert init(*given, "--source", "../trust", state=state)[0] == 0
    file = (plant.state / "device.toml").read_text()
    assert f'source = "{plant.place / "trust"}"' in file
    monkeypatch.chdir(plant.place)
    assert plant.verify().status == 0
