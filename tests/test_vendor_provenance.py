"""The provenance variant of `examples/vendor_ci`: its workflows, and `run.sh`.

Three jobs with a key each build, test and package; what they leave goes from job to job
as the CI would carry it; a device that demands provenance says what it thinks of it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.cli.running import environment
from tests.registries.servers import docker_registry
from tests.test_quickstart import in_this_order
from tests.test_vendor_ci import (
    APPLICATIONS,
    PASSPHRASE,
    VENDOR_CI,
    Desk,
    GitHub,
    GitLab,
    as_a_device,
    given,
    nothing_secret_was_said,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.registries.servers import DockerRegistry

STEPS: Final = ("build", "test", "package")
SCRIPT: Final = VENDOR_CI / "run.sh"
USAGE: Final = "sh examples/vendor_ci/run.sh [--keep] [--registry HOST:PORT]"
_KEPT: Final = (".margo-supplychain", "trust")


class ProvenDesk(Desk):
    """A desk where the offline key demands three steps, and git has the project."""

    def demand(self, logins: Path) -> None:
        given = ('sh demand.sh "$@"', "--passphrase-file", "passphrase")
        said = self.shell(*given, DOCKER_CONFIG=str(logins))
        assert said.endswith("read layout.toml, change it to fit, and run this again\n")
        for _ in range(2):  # if it breaks off, it is run again
            said = self.shell(*given, DOCKER_CONFIG=str(logins))
        assert "provenance required" in said
        for name in ("passphrase", *_KEPT):
            with (self.project / ".git-exclude").open("a") as file:
                file.write(f"/{name}\n")
        self.shell(
            "git init --quiet; mv .git-exclude .git/info/exclude; git add --all; "
            "git -c user.name=acme -c user.email=ci@acme.example commit -qm Sources"
        )


@dataclass(kw_only=True)
class ProvenGitHub(GitHub):
    """Runs the provenance variant; artifacts go from job to job."""

    file: str = "github-provenance.yml"
    kept: dict[str, Path] = field(default_factory=dict)

    def secrets_of(self, job: Mapping[str, Any]) -> Mapping[str, str]:
        return secrets_of(self.desk, job)

    def use(self, step: Mapping[str, Any], checkout: Path) -> None:
        action = step["uses"].partition("@")[0]
        if action == "actions/upload-artifact":
            self._keep(step["with"], checkout)
        elif action == "actions/download-artifact":
            place = checkout / step["with"].get("path", ".")
            shutil.copytree(self.kept[step["with"]["name"]], place, dirs_exist_ok=True)
        else:
            assert action == "actions/checkout"

    def _keep(self, said: Mapping[str, Any], checkout: Path) -> None:
        """Keep what the action keeps: below the directory that all paths have."""
        place = self.place / f"artifact-{said['name']}"
        shutil.rmtree(place, ignore_errors=True)
        paths = said["path"].split()
        for path in paths:
            target = place if len(paths) == 1 else place / path
            shutil.copytree(checkout / path, target)
        self.kept[said["name"]] = place


@dataclass(kw_only=True)
class ProvenGitLab(GitLab):
    """Runs the provenance variant; artifacts of all earlier stages are given."""

    file: str = "gitlab-provenance.yml"

    def files_of(self, job: Mapping[str, Any]) -> Mapping[str, str]:
        return secrets_of(self.desk, job)

    def before(self, checkout: Path) -> None:
        kept = self.place / "artifacts"
        if kept.exists():
            shutil.copytree(kept, checkout, dirs_exist_ok=True)

    def after(self, job: Mapping[str, Any], checkout: Path) -> None:
        for path in job.get("artifacts", {}).get("paths", ()):
            shutil.copytree(
                checkout / path, self.place / "artifacts" / path, dirs_exist_ok=True
            )


def secrets_of(desk: Desk, job: Mapping[str, Any]) -> dict[str, str]:
    """Return what a job's environment alone has: the key of its step."""
    name = job.get("environment")
    if name not in STEPS:
        return {}
    return {"STEP_KEY": desk.keys[name], "STEP_PASSPHRASE": PASSPHRASE}


@pytest.fixture
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry"), auth="basic") as found:
        yield found


def a_device_has_proof_of_both(desk: Desk, state: Path) -> None:
    file = state / "device.toml"
    file.write_text(file.read_text().replace('["signed"]', '["signed", "provenance"]'))
    for name in APPLICATIONS:
        verdict = as_a_device(desk, state, "verify", f"acme/{name}", "--pin", "*")
        proof = verdict["result"]["provenance"]
        assert (proof["tier"], proof["layout"]) == ("full", 1)
        assert [one["name"] for one in proof["steps"]] == list(STEPS)
        assert len(proof["functionaries"]) == 3


def test_github_records_three_steps_and_devices_see_them(
    tmp_path: Path, registry: DockerRegistry
) -> None:
    desk = ProvenDesk(tmp_path, registry)
    runner = ProvenGitHub(desk=desk, given=given(desk), place=tmp_path)
    for name in (*STEPS, "publish"):
        runner.job(name)
    scratch = runner.job("verify")
    a_device_has_proof_of_both(desk, scratch / "device")
    # The next push without another version changes nothing.
    for name in (*STEPS, "publish"):
        shutil.rmtree(tmp_path / name)
        shutil.rmtree(tmp_path / f"{name}-temp")
        runner.job(name)
    assert "nothing changed" in runner.said[-1]
    runner.job("refresh")
    assert "no duty within 14 days" in runner.said[-1]
    nothing_secret_was_said(runner.said)


def test_gitlab_records_three_steps_and_devices_see_them(
    tmp_path: Path, registry: DockerRegistry
) -> None:
    desk = ProvenDesk(tmp_path, registry)
    runner = ProvenGitLab(desk=desk, given=given(desk), place=tmp_path)
    for name in (*STEPS, "publish"):
        runner.job(name)
    checkout = runner.job("verify")
    a_device_has_proof_of_both(desk, checkout / "device")
    runner.job("refresh")
    assert "no duty within 14 days" in runner.said[-1]
    nothing_secret_was_said(runner.said)


def test_each_step_has_a_key_of_its_own() -> None:
    jobs = yaml.safe_load((VENDOR_CI / "github-provenance.yml").read_text("utf-8"))
    assert jobs["permissions"] == {"contents": "read"}
    for name, job in jobs["jobs"].items():
        said = str(job)
        assert ("secrets.STEP_KEY" in said) == (name in STEPS)
        assert ("secrets.SIGNING_KEY" in said) == (name in ("publish", "refresh"))
        if name in STEPS:
            # Its own environment, and no login to the registry.
            assert job["environment"] == name
            assert "REGISTRY" not in said
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")
    jobs = yaml.safe_load((VENDOR_CI / "gitlab-provenance.yml").read_text("utf-8"))
    for name in STEPS:
        assert jobs[name]["environment"] == name
        assert "STEP_KEY" in str(jobs[jobs[name]["extends"]])


# --- run.sh --------------------------------------------------------------------------


def played(
    tmp_path: Path, *options: str, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run the script without a terminal, in a temporary directory of its own."""
    variables = {"MARGO_SUPPLYCHAIN_PYTHON": sys.executable, "TMPDIR": str(tmp_path)}
    return subprocess.run(
        ["sh", str(SCRIPT), *options],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        start_new_session=True,
        env=environment(**(variables | changes)),
    )


STORY: Final = [
    "builder$ margo-supplychain key generate builder.key",
    "created trust: root v1, publisher acme\n",
    "published acme/pump-monitor 1.1.0\n",
    "wrote layout.toml: build, then test, then package\n",
    "built layout.json: 3 steps",
    "signed: 1 of 1 of acme\n",
    "policy    epoch 1, provenance required\n",
    "builder$ margo-supplychain attest run --step build",
    "recorded step build\n",
    "tester$ margo-supplychain attest run --step test",
    "recorded step test\n",
    "packager$ margo-supplychain attest run --step package",
    "recorded step package\n",
    "published acme/pump-monitor 1.2.0\n",
    "proof    layout 1: links of build, package, test\n",
    "error: acme/pump-monitor 1.3.0: step test has no link",
    "[provenance: missing-step]\n",
    "  step     test\n",
    "(exit status 3)\n",
]


def test_a_device_verifies_three_steps_from_a_directory(tmp_path: Path) -> None:
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed")
    ran = played(tmp_path, MARGO_SUPPLYCHAIN_REPO="elsewhere")
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr
    in_this_order(
        [
            *STORY,
            "plant$ margo-supplychain repo mirror oci://127.0.0.1:",
            "# The registry is stopped: nobody answers there any more.\n",
            "connection refused\n",
            'require = ["signed", "provenance"]\n',
            "rejected acme/pump-monitor 1.1.0\n",
            "[provenance: no-layout]\n",
            "fetched acme/pump-monitor 1.2.0, every byte verified\n",
            "confirmed acme/pump-monitor 1.2.0",
            "verified acme/pump-monitor 1.2.0\n",
            "  provenance  3 steps, 3 functionaries, layout 1\n",
            "1.1.0 is refused by the device: ",
        ],
        ran.stdout,
    )
    assert ran.stdout.endswith("how 1.2.0 was made: run this with --keep\n")
    assert "Traceback" not in ran.stdout
    assert list(tmp_path.iterdir()) == []


def test_in_a_registry_that_runs_already(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with docker_registry(tmp_path / "registry") as registry:
        ran = played(scratch, "--keep", "--registry", registry.host)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr
    in_this_order(
        [
            *STORY,
            "rejected acme/pump-monitor 1.1.0\n",
            "verified acme/pump-monitor 1.2.0\n",
            "  provenance  3 steps, 3 functionaries, layout 1\n",
            f"left in the registry: {registry.host}/vendor-ci-",
            "a picture of how 1.2.0 was made: ",
            "kept: ",
        ],
        ran.stdout,
    )
    (kept,) = scratch.iterdir()
    picture = (kept / "device" / "chain.svg").read_text("utf-8")
    assert "acme/pump-monitor ^1.0: verified" in picture
    # Nobody has the key of somebody else.
    for one in ("builder", "tester", "packager"):
        assert [path.name for path in (kept / one).glob("*.key")] == [f"{one}.key"]
    typed = re.findall(r"^(\w+)\$ (.*)$", ran.stdout, re.MULTILINE)
    assert len([what for _, what in typed if what.startswith("margo-supply")]) >= 18


def test_it_says_what_is_not_installed(tmp_path: Path) -> None:
    place = tmp_path / "a place"
    place.mkdir()
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("chmod", "dirname", "env", "mkdir", "mktemp", "rm", "sed", "sh"):
        (programs / name).symlink_to(str(shutil.which(name)))
    given = {"PATH": str(programs), "TMPDIR": str(place)}
    ran = played(tmp_path, **given)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "vendor_ci: no git on PATH; on Debian: apt install git\n"
    (programs / "git").symlink_to(str(shutil.which("git")))
    ran = played(tmp_path, **given)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("vendor_ci: no docker-registry on PATH")
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "python", "status", "message"),
    [
        (["--help-me"], sys.executable, 2, f"usage: {USAGE}\n"),
        (["--registry"], sys.executable, 2, f"usage: {USAGE}\n"),
        ([], "/nonexistent/python", 1, "has no margo_supplychain"),
    ],
)
def test_it_says_why_it_can_not_begin(
    tmp_path: Path, options: list[str], python: str, status: int, message: str
) -> None:
    ran = played(tmp_path, *options, MARGO_SUPPLYCHAIN_PYTHON=python)
    assert ran.returncode == status
    assert message in ran.stderr
    assert list(tmp_path.iterdir()) == []
