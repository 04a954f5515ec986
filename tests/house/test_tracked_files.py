"""What may stand in tracked files, and what must."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.house.tree import ROOT, tracked

# In two pieces each, so that this file does not find itself.
OTHER_PEOPLES_MACHINES = [
    "/wo" + "rk/",
    "/ro" + "ot/",
    "/tm" + "p/venv",
    "/ho" + "me/",
    "py" + "pi.org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "proxy." + "golang.org",
    "sum." + "golang.org",
    "crates" + ".io",
    "deb." + "debian.org",
    "maven" + ".org",
]
COMMANDS = ("sh examples/quickstart.sh", "sh tests/run.sh")


def test_no_machine_path_and_no_registry_host() -> None:
    wrong = re.compile("|".join(map(re.escape, OTHER_PEOPLES_MACHINES)).encode())
    found = [
        f"{name}: {hit.group().decode()} at byte {hit.start()}"
        for name, data in tracked().items()
        for hit in wrong.finditer(data)
    ]
    assert found == []


def test_nothing_huge_and_nothing_made_is_tracked() -> None:
    made = re.compile(r"(^|/)(__pycache__|node_modules|\.build|\.venv[^/]*)/|\.pyc$")
    files = tracked()
    assert [name for name in files if made.search(name)] == []
    assert [name for name, data in files.items() if len(data) > 1 << 20] == []


def test_readme_opens_with_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    opening = readme[: readme.index("\n## ")]
    places = [opening.index(command) for command in COMMANDS]
    assert places == sorted(places)
    for command in COMMANDS:
        assert (ROOT / command.removeprefix("sh ")).is_file()


def test_ci_runs_the_tests_and_nothing_else() -> None:
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert lines == ["#!/bin/sh", 'exec sh "$(dirname "$0")/../tests/run.sh"']


@pytest.mark.parametrize(
    ("file", "extras"),
    [
        ("requirements.lock", ["hsm"]),
        ("services.lock", ["aws", "azure", "gcp", "vault"]),
    ],
)
def test_every_dependency_is_locked_with_hashes(file: str, extras: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    for extra in extras:
        wanted += project["project"]["optional-dependencies"][extra]
    names = {re.split(r"[^A-Za-z0-9-]", one)[0].lower() for one in wanted}
    lock = (ROOT / "tests" / file).read_text("utf-8")
    entries = [
        line.replace("\\\n", "").split()
        for line in re.split(r"\n(?=[a-z])", lock.replace(" \\\n", " "))[1:]
    ]
    locked = {words[0].partition("==")[0] for words in entries}
    assert names - locked == set()
    assert all("==" in words[0] for words in entries)
    assert all(words[-1].startswith("--hash=sha256:") for words in entries)


def test_decisions_are_numbered_without_gaps() -> None:
    names = sorted(path.name for path in (ROOT / "docs" / "adr").glob("*.md"))
    assert [name[:4] for name in names] == [f"{n + 1:04}" for n in range(len(names))]
