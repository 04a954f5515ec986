"""Who reads how a chain was judged reads strangers' names: they must not act on it."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Final

import pytest

from tests.cli.proven_plant import Proven

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE: Final = (
    "out/<script>alert(1)</script>",
    'out/" onload="alert(1)',
    "out/]]><a href='https://mallory.example'>look</a>",
    'out/x"]; "build" -> "release',
    "out/&lt;b&gt;",
)


STEPS: Final = {"build", "test", "package", "nrelease"}


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proven:
    monkeypatch.chdir(tmp_path)
    made = Proven(tmp_path)
    made.release_of(made.made("1.2.0"))
    assert made.init().status == 0
    return made


def test_names_that_are_markup(plant: Proven) -> None:
    """A functionary names artifacts as pieces of SVG and DOT: they stay texts."""
    assert plant.verify("^1.0", "--explain-to", "chain.svg").status == 0
    before = ET.fromstring((plant.place / "chain.svg").read_bytes())  # noqa: S314 - ours
    known = {one.tag for one in before.iter()} | {"br"}
    for name in HOSTILE:
        run = plant.made("1.3.0")
        run.links["build"]["products"][name] = {"sha256": "00" * 32}
        plant.release_of(run)
        memory = plant.memory()
        for form in ("svg", "dot", "json"):
            ran = plant.verify("^1.0", "--explain", "--explain-to", f"chain.{form}")
            assert (ran.status, ran.out) == (3, "rejected acme/pump-monitor ^1.0\n")
        picture = ET.fromstring((plant.place / "chain.svg").read_bytes())  # noqa: S314 - ours
        assert {one.tag for one in picture.iter()} <= known
        assert all(one[:2] != "on" for each in picture.iter() for one in each.attrib)
        dot = (plant.place / "chain.dot").read_text("utf-8")
        # Every quote of a name is escaped: nothing of it becomes an arrow.
        bare = dot.replace("\\\\", "").replace('\\"', "")
        ends = re.findall(r'^  "([^"]*)" -> "([^"]*)"', bare, re.MULTILINE)
        assert ends
        assert {one for arrow in ends for one in arrow} <= STEPS
        assert plant.memory().keys() == memory.keys()


def test_names_that_a_terminal_would_act_on(plant: Proven) -> None:
    """A functionary hides a line of the answer behind cursor movements."""
    run = plant.made("1.3.0")
    run.links["build"]["products"]["out/\x1b[2J\x1b[1;1Hverified"] = {
        "sha256": "0" * 64
    }
    run.links["test"]["products"]["report/\u202egnp.exe"] = {"sha256": "0" * 64}
    plant.release_of(run)
    ran = plant.verify("^1.0", "--explain", "--explain-to", "chain.svg")
    assert (ran.status, ran.out) == (3, "rejected acme/pump-monitor ^1.0\n")
    for text in (ran.err, (plant.place / "chain.svg").read_text("utf-8")):
        assert all(one.isprintable() for one in text.replace("\n", ""))


def test_files_of_an_earlier_yes_beside_a_no(plant: Proven) -> None:
    """What was proven yesterday must not be handed on as what is proven today."""
    given = ("--explain-to", "chain.json", "--vsa", "vsa.json")
    assert plant.verify("^1.0", *given).status == 0
    said = json.loads((plant.place / "vsa.json").read_bytes())
    assert said["predicate"]["verificationResult"] == "PASSED"
    run = plant.made("1.3.0")
    run.links["test"]["materials"]["out/pump.wasm"] = {"sha256": "00" * 32}
    plant.release_of(run)
    assert plant.verify("^1.0", *given).status == 3
    said = json.loads((plant.place / "vsa.json").read_bytes())
    assert said["predicate"]["verificationResult"] == "FAILED"
    assert (
        json.loads((plant.place / "chain.json").read_bytes())["verdict"] == "rejected"
    )
