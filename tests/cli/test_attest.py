"""`attest run` and `attest record`: a step is signed, or nothing is written."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring.release import Release
from margo_supplychain.formats.release_products import release_products
from tests.cli.attesting import Step, python
from tests.cli.running import Terminal, environment, run, validate
from tests.cli.vendor import Vendor
from tests.softhsm import soft_token

if TYPE_CHECKING:
    from pathlib import Path

_PATIENCE = 30.0


@pytest.fixture
def vendor(place: Path, secret: str) -> Vendor:
    made = Vendor(place, secret)
    made.key("ci.key")
    return made


@pytest.fixture
def step(vendor: Vendor) -> Step:
    return Step(vendor.place, vendor.secret)


def digest(text: str) -> dict[str, str]:
    return {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def test_a_step_is_run_and_signed(vendor: Vendor, step: Step) -> None:
    ran = step.run()
    assert ran.status == 0, ran.err
    keyid = vendor.key_id("ci.key")
    lines = ran.out.splitlines()
    assert lines[0] == "recorded step build"
    assert lines[2:] == [
        "  files   1 material, 1 product",
        f"  signed  by {keyid[:12]}",
        f"  link    links/build.{keyid[:8]}.link.dsse.json",
        f"next: margo-supplychain attest show links/build.{keyid[:8]}.link.dsse.json",
    ]
    assert step.link == {
        "_type": "link",
        "name": "build",
        "command": step.making(),
        "materials": {"src/main.c": digest("int main;\n")},
        "products": {"dist/out": digest("made")},
        "byproducts": {"return-value": 0},
        "environment": {},
    }


def test_what_is_there_is_recorded_without_running_anything(step: Step) -> None:
    document = step.record_json()
    assert document["result"]["command"] == []
    assert document["result"]["isNew"] is True
    assert (document["result"]["materials"], document["result"]["products"]) == (1, 0)
    assert step.link["command"] == []
    assert step.link["byproducts"] == {}


def test_the_result_of_a_run_is_one_document(step: Step) -> None:
    ran = run(
        *("--format", "json", "attest", "run", *step.options("--products", "dist")),
        *("--", *step.making(then="print('noise')")),
    )
    validate(ran.json, "attest-run")
    assert ran.json["result"]["command"][0] == sys.executable


def test_what_the_command_prints_goes_to_stderr(
    step: Step, capfd: pytest.CaptureFixture[str]
) -> None:
    then = "print('to stdout', flush=True); print('to stderr', file=sys.stderr)"
    assert step.run(command=step.making(then=then)).status == 0
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == "to stdout\nto stderr\n"
    assert "stdout" not in step.link["byproducts"]


def test_streams_are_recorded_when_asked_for(
    step: Step, capfd: pytest.CaptureFixture[str]
) -> None:
    then = "print('to stdout'); sys.stderr.buffer.write(b'\\xff!')"
    assert step.run("--record-streams", command=step.making(then=then)).status == 0
    assert step.link["byproducts"] == {
        "return-value": 0,
        "stdout": "to stdout\n",
        "stderr": "\\xff!",
    }
    assert "to stdout" in capfd.readouterr().err


def test_a_failing_command_has_no_link(step: Step) -> None:
    ran = step.run(command=step.making(then="sys.exit(3)"))
    assert ran.status == 1
    assert "ended with exit status 3 [command-failed]\n" in ran.err
    assert "hint: nothing was recorded: see what the command printed\n" in ran.err
    assert step.files == []


def test_a_failing_command_says_its_status_in_json(step: Step) -> None:
    ran = run(
        *("--format", "json", "attest", "run", *step.options(), "--"),
        *python("import os; os.kill(os.getpid(), 9)"),
    )
    validate(ran.json, "error")
    assert ran.status == 1
    assert ran.json["error"]["code"] == "command-failed"
    assert ran.json["error"]["facts"] == {"status": -9}
    assert ran.json["error"]["message"].endswith("was ended by SIGKILL")


def test_a_command_that_is_not_there(step: Step) -> None:
    ran = step.run(command=["./no-such-program"])
    assert ran.status == 1
    assert "error: ./no-such-program can't be started: No such file" in ran.err
    assert step.files == []


def test_products_that_were_not_made(step: Step) -> None:
    ran = step.run(command=python("pass"))
    assert ran.status == 2
    assert "error: dist: no such file or directory [format]\n" in ran.err
    assert "products must be there when the command ends" in ran.err
    assert step.files == []


def test_an_empty_product_directory(step: Step) -> None:
    ran = step.run(command=python("import os; os.mkdir('dist')"))
    assert ran.status == 2
    assert "error: dist holds no file to record [format]\n" in ran.err


def test_a_step_without_anything(vendor: Vendor) -> None:
    ran = vendor.sign("attest", "record", "--step", "x", "--key", "ci.key")
    assert ran.status == 2
    assert "step x has neither materials nor products: nothing to attest" in ran.err


def test_options_may_stand_before_the_command_without_dashes(step: Step) -> None:
    ran = run("attest", "run", *step.options(), sys.executable, "-c", "pass")
    assert ran.status == 0, ran.err
    assert step.link["command"] == [sys.executable, "-c", "pass"]


def test_no_command_is_wrong_usage(step: Step) -> None:
    ran = run("attest", "run", *step.options())
    assert ran.status == 2
    assert "missing argument" in ran.err


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "ä", "x" * 101])
def test_names_of_steps(step: Step, name: str) -> None:
    ran = run("attest", "record", *step.options(), "--step", name)
    assert ran.status == 2
    assert "is no name, expected 1 to 100 of A-Za-z0-9._-" in ran.err


def test_the_key_opens_before_the_command_runs(step: Step, place: Path) -> None:
    (place / "passphrase").write_text("wrong horse battery\n")
    ran = step.run()
    assert ran.status == 6
    assert not (place / "dist").exists()


# --- what is there is not lost -------------------------------------------------------


def test_the_same_again_changes_nothing(step: Step) -> None:
    assert step.run().status == 0
    (file,) = step.files
    before = file.stat()
    ran = step.run()
    assert ran.status == 0
    assert f"link    {file.relative_to(step.place)}, which said so already" in ran.out
    assert file.stat().st_ino == before.st_ino


def test_another_link_is_not_written_over(step: Step) -> None:
    assert step.run().status == 0
    (file,) = step.files
    before = file.read_bytes()
    ran = step.run(command=step.making("something else"))
    assert ran.status == 2
    assert "exists and says something else [format]\n" in ran.err
    assert file.read_bytes() == before
    assert step.run("--force", command=step.making("something else")).status == 0
    assert file.read_bytes() != before
    assert step.link["products"]["dist/out"] == digest("something else")


def test_a_link_that_another_key_signed_is_another(step: Step, vendor: Vendor) -> None:
    assert step.run().status == 0
    (file,) = step.files
    vendor.key("other.key")
    ran = step.run("--key", "other.key")
    assert ran.status == 0, ran.err
    assert len(step.files) == 2
    # The same payload under a name that promises the first key: not taken for it.
    other = next(one for one in step.files if one != file)
    file.write_bytes(other.read_bytes())
    assert step.run().status == 2


def test_a_link_does_not_record_itself(step: Step) -> None:
    ran = step.run("--output", "dist")
    assert ran.status == 2
    assert "the link would be written into dist, which it records: dist/build." in (
        ran.err
    )
    assert not (step.place / "dist").exists()
    assert step.run("--output", "dist", "--exclude", "*.link.dsse.json").status == 0


# --- what is left out, and what is asked for -----------------------------------------


def test_exclusions_are_written_down(step: Step, place: Path) -> None:
    (place / "src" / "main.pyc").write_text("x")
    (place / "src" / "tmp").mkdir()
    (place / "src" / "tmp" / "x").write_text("x")
    ran = step.record(
        *("--exclude", "*.pyc", "--exclude", "src/tmp", "--exclude", "*.o")
    )
    assert ran.status == 0
    assert "note: --exclude *.o left out nothing\n" in ran.err
    assert list(step.link["materials"]) == ["src/main.c"]
    assert step.link["byproducts"] == {
        "excluded": {
            "materials": {"*.pyc": 1, "src/tmp": 1, "*.o": 0},
            "products": {"*.pyc": 0, "src/tmp": 0, "*.o": 0},
        }
    }


def test_everything_that_is_in_the_way_is_named(step: Step, place: Path) -> None:
    (place / "src" / "link.c").symlink_to("main.c")
    os.mkfifo(place / "src" / "pipe")
    (place / "src" / os.fsdecode(b"caf\xe9")).write_text("x")
    ran = step.record()
    assert ran.status == 2
    assert "error: src/link.c is a symbolic link to main.c [format]\n" in ran.err
    assert "error: src/pipe is a pipe [format]\n" in ran.err
    assert "error: src/caf\\xe9 has a name that is not UTF-8 [format]\n" in ran.err
    assert "--follow-symlinks records the file that a link leads to" in ran.err
    assert "--exclude PATTERN leaves a file out" in ran.err
    allowed = step.record(
        *("--follow-symlinks", "--exclude", "pipe", "--exclude", "caf*")
    )
    assert allowed.status == 0, allowed.err
    assert sorted(step.link["materials"]) == ["src/link.c", "src/main.c"]
    assert step.link["byproducts"]["followed-symlinks"] == 1


def test_variables_are_recorded_by_name_alone(
    step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPILER", "cc 12")
    monkeypatch.setenv("DEPLOY_TOKEN", "abcdefgh-1234")
    assert step.record("--record-environment", "COMPILER").status == 0
    assert step.link["environment"] == {"variables": ["COMPILER=cc 12"]}
    asked = step.record("--force", "--record-environment", "DEPLOY_TOKEN")
    assert asked.status == 0
    assert "note: DEPLOY_TOKEN looks like a secret, and everybody can" in asked.err
    assert step.link["environment"] == {"variables": ["DEPLOY_TOKEN=abcdefgh-1234"]}
    missing = step.record("--record-environment", "NO_SUCH")
    assert missing.status == 2
    assert "the variable 'NO_SUCH' is not set, and was to be recorded" in missing.err


def test_the_command_can_be_left_out(step: Step) -> None:
    assert step.run("--no-command").status == 0
    assert step.link["command"] == []


@pytest.mark.parametrize("name", ["passphrase", "ci.key"])
def test_secrets_of_the_command_are_not_recorded(step: Step, name: str) -> None:
    ran = step.record("--materials", name)
    assert ran.status == 2
    assert f"error: {name} is a secret of this command, and its digest would" in ran.err
    assert f"--exclude {name}" in ran.err
    assert step.run("--products", name).status == 2
    assert step.files == []
    assert step.record("--materials", "ci.pub").status == 0


# --- git and releases ----------------------------------------------------------------


def git(place: Path, *arguments: str) -> str:
    ran = subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *arguments],
        cwd=place,
        check=True,
        capture_output=True,
        text=True,
    )
    return ran.stdout.strip()


def test_sources_come_from_git(step: Step, place: Path) -> None:
    git(place, "init", "-q")
    git(place, "add", "src")
    (place / ".gitignore").write_text("passphrase\nci.*\n")
    git(place, "add", ".gitignore")
    git(place, "commit", "-qm", "first")
    assert step.record("--git", ".").status == 0
    found = step.link["materials"]
    assert sorted(found) == [".gitignore", "git/commit", "src/main.c"]
    assert found["git/commit"]["gitCommit"] == git(place, "rev-parse", "HEAD")
    (place / "src" / "main.c").write_text("int changed;\n")
    ran = step.record("--git", ".", "--force")
    assert ran.status == 0
    assert "note: the working tree is not as the commit has it (M src/main.c)" in (
        ran.err
    )
    assert "git/dirty" in step.link["materials"]


def test_the_release_step_names_the_release(
    vendor: Vendor, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARGO_SUPPLYCHAIN_PUBLISHER", "acme")
    vendor.build()
    ran = step.record("--release", "dist")
    assert ran.status == 0, ran.err
    release = Release.from_build(vendor.place / "dist")
    wanted = release_products(release.record(datetime.now(UTC)))
    assert len(wanted) > 2
    assert step.link["products"] == {
        name: {"sha256": found.hex} for name, found in wanted.items()
    }
    assert list(step.link["materials"]) == ["src/main.c"]


# --- ends that nobody wanted ---------------------------------------------------------


def test_ctrl_c_ends_the_command_and_leaves_nothing(step: Step, place: Path) -> None:
    program = "import time; print('running', flush=True); time.sleep(60)"
    terminal = Terminal(
        *("attest", "run", *step.options(), "--", *python(program)), cwd=place
    )
    if "running" not in terminal.text:
        terminal.wait_for("running")
    terminal.type("\x03")
    assert terminal.finish() == 1
    assert "interrupted" in terminal.text
    assert step.files == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_reach_the_command_and_nothing_is_left(
    step: Step, place: Path, number: signal.Signals
) -> None:
    program = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    open('heard', 'w').close()\n"
        "    sys.exit(0)\n"
        f"signal.signal({int(number)}, end)\n"
        "open('running', 'w').close()\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "margo_supplychain", "attest", "run"),
            *(*step.options(), "--", *python(program)),
        ],
        cwd=place,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment(),
    )
    end = time.monotonic() + _PATIENCE
    while not (place / "running").exists() and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=_PATIENCE)
    # The command ended well, and all the same nobody wants this link any more.
    assert process.returncode == 1
    assert b"interrupted" in err
    assert (place / "heard").exists()
    assert step.files == []


def test_help_says_what_a_failing_command_ends_with() -> None:
    ran = run("attest", "run", "--help")
    assert "or the command failed: no link is written" in ran.out


def test_a_key_in_a_token_signs(step: Step, place: Path) -> None:
    with soft_token(place, "ci") as token:
        pin = ("--pin-file", str(token.pin_file))
        made = run(
            *("key", "generate", "--uri", token.uri("build"), "--out", "token.pub"),
            *pin,
        )
        assert made.status == 0, made.err
        for key in (token.uri("build"), "token.pub"):
            ran = step.run("--key", key, *pin)
            assert ran.status == 0, ran.err
    assert len(step.files) == 1
    assert step.link["products"] == {"dist/out": digest("made")}
