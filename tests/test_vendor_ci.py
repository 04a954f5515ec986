"""The workflows of `examples/vendor_ci`: their own steps, run by sh, on a registry.

A project is put together as docs/how-to/ci.md says, the steps are taken out of the YAML
as the CI would take them, and at the end a device that knows nothing but the root says
what it thinks of what was published.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.cli.running import environment
from tests.house.tree import ROOT
from tests.registries.servers import LOGIN, DockerRegistry, docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

VENDOR_CI: Final = ROOT / "examples" / "vendor_ci"
APPLICATIONS: Final = ("line-counter", "pump-monitor")  # Helm, Compose
_EXPRESSION: Final = re.compile(r"\$\{\{ *(secrets|vars)\.([A-Z_]+) *\}\}")
_VARIABLE: Final = re.compile(r"\$([A-Z_]+)")
PASSPHRASE: Final = "correct horse battery staple"
FILES: Final = {"SIGNING_KEY", "SIGNING_PASSPHRASE", "STEP_KEY", "STEP_PASSPHRASE"}


class Desk:
    """The vendor's desk: a project with a workflow, keys, and what the CI is told.

    Args:
        place: an empty directory.
        registry: where everything goes.
    """

    def __init__(self, place: Path, registry: DockerRegistry) -> None:
        self.registry = registry
        self.project = place / "project"
        shutil.copytree(VENDOR_CI / "project", self.project)
        shutil.copytree(
            ROOT / "examples" / "pump-monitor", self.project / "apps" / "pump-monitor"
        )
        self.programs = place / "bin"
        self.programs.mkdir()
        # What the runner's own pip and pipx would do; they need a network.
        for name in ("pip", "pipx"):
            self._program(name, f'echo {name} "$@" >> {place / "installed"}')
        program = f'exec {shlex.quote(sys.executable)} -m margo_supplychain "$@"'
        self._program("margo-supplychain", program)
        self._point_at(registry.host)
        (self.project / "passphrase").write_text(f"{PASSPHRASE}\n")
        (self.project / "passphrase").chmod(0o600)
        self._begin(place / "no-login", registry.docker_config.parent)
        assert sorted(one.name for one in self.project.rglob("*.pub")) == [
            "ci.pub",
            "offline.pub",
        ]
        self.demand(registry.docker_config.parent)
        (self.project / "passphrase").unlink()
        # What is in the repository that the CI checks out, and what is not.
        keys = list(self.project.glob("*.key"))
        self.keys = {one.stem: one.read_text() for one in keys}
        for one in keys:
            one.unlink()
        shutil.rmtree(self.project / ".margo-supplychain", ignore_errors=True)
        shutil.rmtree(self.project / "trust", ignore_errors=True)

    def _begin(self, nowhere: Path, logins: Path) -> None:
        """Begin without a login first: it breaks off, and goes on when run again."""
        named = [f"{name}.key=passphrase" for name in ("offline", "ci")]
        files = [word for one in named for word in ("--passphrase-file", one)]
        begin = ('sh begin.sh "$@"', *files)
        keys = [self.project / name for name in ("offline.key", "ci.key")]
        done = run_script(
            self.project, self.programs, *begin, DOCKER_CONFIG=str(nowhere)
        )
        assert done.returncode == 4
        assert f"run `docker login {self.registry.host}`" in done.stdout
        assert "added acme/" not in done.stdout
        before = [one.read_bytes() for one in keys]
        assert "created trust" not in self.shell(*begin, DOCKER_CONFIG=str(logins))
        assert [one.read_bytes() for one in keys] == before
        said = self.shell(*begin, DOCKER_CONFIG=str(logins))
        assert said.startswith("begun before: oci://")

    def demand(self, logins: Path) -> None:
        """Do what else the offline key is needed for."""

    def shell(self, script: str, *arguments: str, **variables: str) -> str:
        """Run a script in the project as a person or a CI would; it must succeed."""
        done = run_script(self.project, self.programs, script, *arguments, **variables)
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    def checkout(self, place: Path) -> Path:
        """Return a copy of the project, as a job begins with it."""
        shutil.copytree(self.project, place)
        return place

    def _program(self, name: str, line: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def _point_at(self, host: str) -> None:
        for path in self.project.rglob("*"):
            if path.is_file() and b"registry.example" in path.read_bytes():
                text = path.read_text("utf-8")
                path.write_text(text.replace("registry.example", host), "utf-8")


def run_script(
    directory: Path, programs: Path, script: str, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a script by `sh -e` with the product first on PATH and no terminal."""
    surroundings = environment(**variables)
    surroundings["PATH"] = f"{programs}:{surroundings['PATH']}"
    return subprocess.run(
        ["sh", "-e", "-c", script, "sh", *arguments],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
        start_new_session=True,
        env=surroundings,
    )


def workflow(name: str, host: str) -> dict[str, Any]:
    """Return a workflow as its reader makes it their own."""
    text = (VENDOR_CI / name).read_text("utf-8").replace("registry.example", host)
    found = yaml.safe_load(text)
    assert isinstance(found, dict)
    return found


# --- GitHub --------------------------------------------------------------------------


@dataclass(kw_only=True)
class GitHub:
    """Runs the steps of a job as GitHub's runner does.

    Args:
        desk: the project.
        given: secrets and variables by name.
    """

    desk: Desk
    given: Mapping[str, str]
    place: Path
    file: str = "github.yml"
    said: list[str] = field(default_factory=list)

    def job(self, name: str) -> Path:
        """Run a job's steps; return the directory that the runner keeps for it."""
        document = workflow(self.file, self.desk.registry.host)
        given = {**self.given, **self.secrets_of(document["jobs"][name])}
        checkout = self.desk.checkout(self.place / name)
        scratch = self.place / f"{name}-temp"
        scratch.mkdir()
        lasting = scratch / "environment"
        lasting.touch()
        for step in document["jobs"][name]["steps"]:
            if "uses" in step:
                # A whole commit, never a tag: somebody else moves it.
                assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"])
                self.use(step, checkout)
                continue
            variables = dict(document["env"])
            variables |= dict(
                line.split("=", 1) for line in lasting.read_text().splitlines()
            )
            variables |= {
                key: _EXPRESSION.sub(lambda hit: given[hit[2]], value)
                for key, value in step.get("env", {}).items()
            }
            done = run_script(
                checkout,
                self.desk.programs,
                step["run"],
                RUNNER_TEMP=str(scratch),
                GITHUB_ENV=str(lasting),
                **variables,
            )
            assert done.returncode == 0, f"{step['name']}\n{done.stdout}"
            self.said.append(done.stdout)
        return scratch

    def secrets_of(self, job: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the secrets of a job's environment."""
        del job
        return {}

    def use(self, step: Mapping[str, Any], checkout: Path) -> None:
        """Do what an action of somebody else's does."""


def given(desk: Desk) -> dict[str, str]:
    user, password = LOGIN
    return {
        "SIGNING_KEY": desk.keys["ci"],
        "SIGNING_PASSPHRASE": PASSPHRASE,
        "REGISTRY_USER": user,
        "REGISTRY_PASSWORD": password,
        "READER_USER": user,
        "READER_PASSWORD": password,
        "MARGO_SUPPLYCHAIN": "./wheels/margo_supplychain.whl",
    }


@pytest.fixture
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry"), auth="basic") as found:
        yield found


def test_github_signs_publishes_verifies_and_refreshes(
    tmp_path: Path, registry: DockerRegistry
) -> None:
    desk = Desk(tmp_path, registry)
    runner = GitHub(desk=desk, given=given(desk), place=tmp_path)
    runner.job("publish")
    scratch = runner.job("verify")
    a_device_has_both(desk, scratch / "device", runner.said[-1])
    # The next push changes nothing: the same bytes, the same versions.
    shutil.rmtree(tmp_path / "publish")
    shutil.rmtree(tmp_path / "publish-temp")
    runner.job("publish")
    assert "nothing changed" in runner.said[-1]
    before = timestamp(desk, scratch / "device")
    runner.job("refresh")
    assert timestamp(desk, scratch / "device") == before + 1
    assert "no duty within 14 days" in runner.said[-1]
    nothing_secret_was_said(runner.said)


# --- GitLab --------------------------------------------------------------------------


@dataclass(kw_only=True)
class GitLab:
    """Runs the lines of a job as GitLab's runner does."""

    desk: Desk
    given: Mapping[str, str]
    place: Path
    file: str = "gitlab.yml"
    said: list[str] = field(default_factory=list)

    def job(self, name: str) -> Path:
        """Run a job's lines in one shell; return its checkout."""
        document = workflow(self.file, self.desk.registry.host)
        job = document[name]
        while "extends" in job:
            job = document[job["extends"]] | {
                k: v for k, v in job.items() if k != "extends"
            }
        given = {**self.given, **self.files_of(job)}
        checkout = self.desk.checkout(self.place / name)
        self.before(checkout)
        for path in checkout.rglob("*"):  # as runners leave it: umask 0
            path.chmod(0o777 if path.is_dir() else 0o666)
        variables = {"CI_PROJECT_DIR": str(checkout), **given}
        for key, value in document["variables"].items():
            variables[key] = _VARIABLE.sub(lambda hit: variables[hit[1]], value)
        for key in given.keys() & FILES:  # variables of type file
            path = self.place / f"{name}.{key}"
            path.write_text(given[key] + "\n")
            path.chmod(0o666)
            variables[key] = str(path)
        done = run_script(
            checkout,
            self.desk.programs,
            "\n".join([*job["before_script"], *job["script"]]),
            **variables,
        )
        assert done.returncode == 0, done.stdout
        self.said.append(done.stdout)
        self.after(job, checkout)
        return checkout

    def files_of(self, job: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the variables of a job's environment."""
        del job
        return {}

    def before(self, checkout: Path) -> None:
        """Bring what earlier jobs left."""

    def after(self, job: Mapping[str, Any], checkout: Path) -> None:
        """Keep what later jobs are given."""


def test_gitlab_signs_publishes_verifies_and_refreshes(
    tmp_path: Path, registry: DockerRegistry
) -> None:
    desk = Desk(tmp_path, registry)
    runner = GitLab(desk=desk, given=given(desk), place=tmp_path)
    runner.job("publish")
    checkout = runner.job("verify")
    a_device_has_both(desk, checkout / "device", runner.said[-1])
    before = timestamp(desk, checkout / "device")
    runner.job("refresh")
    assert timestamp(desk, checkout / "device") == before + 1
    assert "no duty within 14 days" in runner.said[-1]
    nothing_secret_was_said(runner.said)


# --- what both must come to ----------------------------------------------------------


def as_a_device(desk: Desk, state: Path, *arguments: str) -> dict[str, Any]:
    """Ask the device that a job left behind, again; return what it says as JSON."""
    printed = desk.shell(
        'margo-supplychain --format json device "$@"',
        *arguments,
        "--state",
        str(state),
        DOCKER_CONFIG=str(desk.registry.docker_config.parent),
    )
    found: dict[str, Any] = json.loads(printed)
    return found


def a_device_has_both(desk: Desk, state: Path, said: str) -> None:
    for name in APPLICATIONS:
        assert f"fetched acme/{name} " in said
        verdict = as_a_device(desk, state, "verify", f"acme/{name}", "--pin", "*")
        assert verdict["ok"] is True


def timestamp(desk: Desk, state: Path) -> int:
    (found,) = as_a_device(desk, state, "refresh")["result"]["repositories"]
    assert found["reached"] is True
    version: int = found["timestamp"]
    return version


def nothing_secret_was_said(said: list[str]) -> None:
    for text in said:
        assert PASSPHRASE not in text
        assert LOGIN[1] not in text
        assert "PRIVATE KEY" not in text


# --- the files themselves ------------------------------------------------------------


def test_no_workflow_holds_more_than_it_needs() -> None:
    document = yaml.safe_load((VENDOR_CI / "github.yml").read_text("utf-8"))
    assert document["permissions"] == {"contents": "read"}
    for name, job in document["jobs"].items():
        signs = "SIGNING_KEY" in json.dumps(job)
        assert signs == (name in ("publish", "refresh"))
        # Only jobs of the protected environment, one at a time, hold a key.
        assert signs == (job.get("environment") == "release")
        assert signs == ("concurrency" in job)
        for step in job["steps"]:
            # No secret is pasted into a script.
            assert "${{" not in step.get("run", "")
    for name in ("publish", "refresh"):
        job = yaml.safe_load((VENDOR_CI / "gitlab.yml").read_text("utf-8"))[name]
        assert job["resource_group"] == "trust-repository"


def test_the_chart_s_image_is_the_one_in_the_lock_file() -> None:
    project = VENDOR_CI / "project"
    values = yaml.safe_load(
        (project / "charts" / "line-counter" / "values.yaml").read_text("utf-8")
    )
    lock = (project / "apps" / "line-counter" / "images.lock").read_text("utf-8")
    assert values["image"]["digest"] in lock
