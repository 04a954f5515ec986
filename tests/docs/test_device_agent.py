"""examples/device_agent.py does what its docstring says, against a real repository."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain import FormatError, Pin, ReleaseName, TrustStore
from margo_supplychain.authoring.testing import TinyRepository, tiny_repository
from tests.cli.running import run
from tests.house.tree import ROOT
from tests.registries.site import site_of

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


def load() -> ModuleType:
    path = ROOT / "examples" / "device_agent.py"
    spec = importlib.util.spec_from_file_location("device_agent", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["device_agent"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def example() -> Any:
    yield load()
    del sys.modules["device_agent"]


@pytest.fixture
def tiny(tmp_path: Path) -> TinyRepository:
    return tiny_repository(tmp_path / "tiny")


@pytest.fixture
def state(tmp_path: Path, tiny: TinyRepository) -> Path:
    root = tmp_path / "1.root.json"
    root.write_bytes(tiny.root)
    directory = tmp_path / "state"
    source = str(tiny.directory)
    words = ["--source", source, "--publisher", tiny.publisher]
    made = run("device", "init", "--root", str(root), *words, "--state", str(directory))
    assert made.status == 0, made.err
    return directory


def confirmed(state: Path, tiny: TinyRepository) -> str | None:
    slots = TrustStore.open(state / "stores" / tiny.publisher).status().slots
    floor = slots.get("line-1", {}).get(tiny.name)
    return None if floor is None else str(floor.version)


def agent(example: Any, state: Path, tiny: TinyRepository, pin: str) -> Any:
    wanted = example.Wanted(name=tiny.name, pin=Pin.parse_argument(pin), slot="line-1")
    return example.Agent(state, (wanted,))


def test_it_installs_confirms_and_then_leaves_alone(
    example: Any, state: Path, tiny: TinyRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[bytes] = []

    def install(content: Any, slot: str) -> None:
        assert slot == "line-1"
        for digest in content.digests:
            with content.open(digest) as stream:
                installed.append(stream.read())

    monkeypatch.setattr(example, "install", install)
    one = agent(example, state, tiny, "*")
    assert one.poll()
    assert tiny.content in installed
    assert confirmed(state, tiny) == str(tiny.version)
    count = len(installed)
    assert one.poll()
    assert agent(example, state, tiny, "*").poll()  # a restart forgets nothing
    assert len(installed) == count
    (memo,) = (state / "installed").rglob(tiny.name.role)
    memo.write_text("sha256:other components under the same package")
    assert agent(example, state, tiny, "*").poll()
    assert len(installed) == 2 * count


def test_no_is_an_alarm_with_evidence(
    example: Any, state: Path, tiny: TinyRepository
) -> None:
    assert agent(example, state, tiny, "^9").poll()
    (file,) = (state / "evidence").iterdir()
    assert file.name == f"{tiny.name.role}-no-matching-version.json"
    assert json.loads(file.read_bytes())["verdict"] == "rejected"
    assert confirmed(state, tiny) is None


def test_it_backs_off_while_nobody_answers(
    example: Any, state: Path, tiny: TinyRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(tiny.directory)
    monkeypatch.setattr(example.random, "uniform", lambda low, high: (low + high) / 2)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        agent(example, state, tiny, "*").run(sleep)
    assert pauses[:4] == [30, 60, 120, 240]
    assert max(pauses) == 3600


def test_what_runs_and_is_withdrawn_is_an_alarm(
    example: Any, state: Path, tiny: TinyRepository
) -> None:
    one = agent(example, state, tiny, "*")
    assert one.poll()
    with tiny.repository.edit([tiny.online]) as edit:
        edit.withdraw(tiny.name, tiny.version, reason="it stops the pump")
    assert one.poll()
    names = sorted(file.name for file in (state / "evidence").iterdir())
    assert names == [
        f"{tiny.name.role}-running-withdrawn.json",
        f"{tiny.name.role}-withdrawn.json",
    ]
    assert confirmed(state, tiny) == str(tiny.version)


def test_its_file_is_read(
    example: Any, tmp_path: Path, state: Path, tiny: TinyRepository
) -> None:
    file = tmp_path / "wanted.toml"
    file.write_text(
        f'[[wanted]]\nname = "{tiny.name}"\npin = "^1.0"\nslot = "line-1"\n'
    )
    (found,) = example.read_wanted(file)
    assert (found.name, str(found.pin), found.slot) == (tiny.name, "^1.0", "line-1")
    file.write_text("")
    with pytest.raises(FormatError, match="wants nothing"):
        example.read_wanted(file)
    stranger = example.Wanted(
        name=type(tiny.name)("bolt", "x"), pin=found.pin, slot="a"
    )
    with pytest.raises(FormatError, match="no repository here speaks for bolt"):
        example.Agent(state, (stranger,))


def test_it_runs_as_a_program(
    state: Path, tmp_path: Path, tiny: TinyRepository
) -> None:
    import subprocess

    from tests.cli.running import environment

    file = tmp_path / "wanted.toml"
    file.write_text(f'[[wanted]]\nname = "{tiny.name}"\npin = "*"\nslot = "line-1"\n')
    words = ["--state", str(state), "--wanted", str(file), "--once"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "device_agent.py"), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert f"line-1: runs {tiny.name} {tiny.version}" in done.stderr


def test_it_reads_registries_and_mirrors(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "docker-registry with client certificates"
    with site_of(kind, tmp_path, monkeypatch, pytest.fail) as site:
        assert site.registry is not None
        site.begin()
        site.publish("1.2.0")
        plant = f"oci://{site.registry.host}/plant"
        told = site.mirror(f"{plant}/trust")["mirrors"]
        # The agent knows the vendor's names, and the map leads to the plant's own.
        device = site.device_of_mirror("agent", site.trust, told)
        text = (device.state / "device.toml").read_text()
        assert f'source = "{site.trust}"' in text
        assert plant in text
        wanted = example.Wanted(
            name=ReleaseName.parse("acme/pump-monitor"),
            pin=Pin.parse_argument("^1.0"),
            slot="line-1",
        )
        assert example.Agent(device.state, (wanted,)).poll() is True
    slots = TrustStore.open(device.state / "stores" / "acme").status().slots
    assert str(slots["line-1"][wanted.name].version) == "1.2.0"


def test_it_imports_what_is_public_from_the_root_alone() -> None:
    text = (ROOT / "examples" / "device_agent.py").read_text("utf-8")
    modules = re.findall(
        r"^\s*from (margo_supplychain[\w.]*) import", text, re.MULTILINE
    )
    assert modules == ["margo_supplychain"]
