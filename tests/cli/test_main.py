"""The frame: exit statuses, one JSON document, no traceback, nothing loaded early."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
import pytest

from margo_supplychain import errors
from margo_supplychain.cli import main as main_module
from margo_supplychain.cli.failures import failure_of
from margo_supplychain.cli.key import key
from margo_supplychain.cli.output import Result
from margo_supplychain.formats.reports import Report, Violation
from margo_supplychain.version import __version__
from tests.cli.running import (
    PASSPHRASE,
    Ran,
    Terminal,
    environment,
    run,
    run_json,
    spawn,
    validate,
)

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
REJECTED = Report(
    subject="acme/pump-monitor ^1.0",
    verdict="rejected",
    code="rollback",
    time=NOW,
    steps=(),
)


def rollback() -> errors.RollbackError:
    error = errors.RollbackError(
        "timestamp v81 is older than trusted v94",
        role="timestamp",
        trusted=94,
        offered=81,
    )
    error.report = REJECTED
    return error


CASES = [
    pytest.param(
        errors.RefusedError("a key that left never returns"), "refused", 2, id="refused"
    ),
    pytest.param(
        errors.ApplicationFormatError("margo.yaml is wrong"),
        "application-format",
        2,
        id="format",
    ),
    pytest.param(rollback(), "rollback", 3, id="rejected"),
    pytest.param(errors.ClockError("no time"), "clock", 4, id="inconclusive"),
    pytest.param(PermissionError(13, "Permission denied", "x"), "storage", 4, id="os"),
    pytest.param(errors.IncompleteError("1 of 2"), "incomplete", 5, id="incomplete"),
    pytest.param(errors.SignerError("no key"), "signer", 6, id="signer"),
    pytest.param(click.UsageError("Wrong."), "usage", 2, id="usage"),
    pytest.param(click.FileError("x", "gone"), "usage", 2, id="file"),
    pytest.param(KeyError("x"), "internal", 1, id="internal"),
    pytest.param(RecursionError(), "internal", 1, id="recursion"),
    pytest.param(MemoryError(), "inconclusive", 4, id="memory"),
    pytest.param(BrokenPipeError(32, "Broken pipe"), "storage", 4, id="network-pipe"),
    pytest.param(KeyboardInterrupt(), "interrupted", 1, id="ctrl-c"),
    pytest.param(click.Abort(), "interrupted", 1, id="abort"),
]


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `key show` raise `error`."""

    def callback(**_: object) -> None:
        raise error

    monkeypatch.setattr(key.commands["show"], "callback", callback)


@pytest.mark.parametrize(("error", "code", "status"), CASES)
def test_every_failure_has_its_status_and_one_document(
    monkeypatch: pytest.MonkeyPatch,
    place: Path,
    error: BaseException,
    code: str,
    status: int,
) -> None:
    failing(monkeypatch, error)
    ran = run("--format", "json", "key", "show", "x")
    validate(ran.json, "error")
    assert ran.status == status
    assert ran.json["error"]["code"] == code
    assert ran.json["error"]["exit"] == status
    assert ran.err == ""
    text = run("key", "show", "x")
    assert text.status == status
    assert f"[{code}]\n" in text.err
    assert text.err.startswith("error: ")
    assert "Traceback" not in text.err


def test_rejection_in_json_has_facts_and_report(
    monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    failing(monkeypatch, rollback())
    document = run_json("error", "key", "show", "x")
    assert document["error"]["facts"] == {
        "role": "timestamp",
        "trusted": 94,
        "offered": 81,
    }
    assert document["report"] == REJECTED.to_dict()


def test_rejection_for_people_is_verdict_error_hint(
    monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    failing(monkeypatch, rollback())
    assert run("key", "show", "x") == Ran(
        status=3,
        out="rejected acme/pump-monitor ^1.0\n",
        err=(
            "error: timestamp v81 is older than trusted v94 [rollback]\n"
            "hint: the source serves an old copy; do not install, report it. "
            "Nothing on this device changed\n"
        ),
    )


def test_all_problems_are_listed(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    problems = ('margo.yaml:14:7: type is "x"', "margo.yaml:31:19: no icon")
    error = errors.ApplicationFormatError(
        "margo.yaml has 2 problems",
        problems=problems,
        hint="nothing was built; all problems are listed above",
    )
    failing(monkeypatch, error)
    assert run("key", "show", "x").err == (
        'error: margo.yaml:14:7: type is "x" [application-format]\n'
        "error: margo.yaml:31:19: no icon [application-format]\n"
        "hint: nothing was built; all problems are listed above\n"
    )
    document = run_json("error", "key", "show", "x")
    assert document["error"]["message"] == "margo.yaml has 2 problems"
    assert document["error"]["facts"]["problems"] == list(problems)


def test_candidates_and_violations_are_listed(
    monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    failing(
        monkeypatch,
        errors.NoMatchingVersionError(
            "no release inside ^3",
            name="acme/pump-monitor",
            pin="^3",
            candidates=(("2.0.0", "outside the pin"), ("3.0.0-rc.1", "pre-release")),
        ),
    )
    assert run("key", "show", "x").err == (
        "error: no release inside ^3 [no-matching-version]\n"
        "  2.0.0        outside the pin\n"
        "  3.0.0-rc.1   pre-release\n"
        "hint: widen the pin, or wait for a release inside it\n"
    )
    violation = Violation(rule="max-age", text="older than 1 d")
    failing(monkeypatch, errors.PolicyError("1 violation", violations=[violation]))
    assert "\n  max-age   older than 1 d\n" in run("key", "show", "x").err
    facts = run_json("error", "key", "show", "x")["error"]["facts"]
    assert facts["violations"] == [
        {"rule": "max-age", "text": "older than 1 d", "inconclusive": False}
    ]


def test_traceback_only_with_v(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    failing(monkeypatch, ValueError("surprise"))
    assert run("key", "show", "x").err == (
        "error: unexpected ValueError: surprise [internal]\n"
        "hint: run again with -v for the traceback, and report it\n"
    )
    loud = run("-v", "key", "show", "x")
    assert loud.status == 1
    assert loud.err.startswith("Traceback (most recent call last):\n")
    assert loud.err.count("Traceback") == 1
    failing(monkeypatch, errors.SignerError("expected"))
    assert "Traceback" not in run("-v", "key", "show", "x").err


def test_messages_cannot_act_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    hostile = "bad\x1b[2J\r\nhint: install it\u202e"
    failing(monkeypatch, errors.OciFormatError(hostile))
    assert run("key", "show", "x").err.splitlines()[0] == (
        r"error: bad\x1b[2J\r\nhint: install it\u202e [oci-format]"
    )
    out = run("--format", "json", "key", "show", "x").out
    assert out.isascii()
    assert "\x1b" not in out


def test_a_command_that_returns_nothing_is_a_mistake_of_ours(
    monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    monkeypatch.setattr(key.commands["show"], "callback", lambda **_: None)
    ran = run("key", "show", "x")
    assert ran.status == 1
    assert "a command returned NoneType [internal]" in ran.err


def test_result_with_a_duty_is_printed_and_exits_5(
    monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    result = Result(data={"duties": ["acme"]}, lines=["1 duty"], exit_status=5)
    monkeypatch.setattr(key.commands["show"], "callback", lambda **_: result)
    assert run("key", "show", "x") == Ran(status=5, out="1 duty\n", err="")
    assert run("--format", "json", "key", "show", "x").json == {
        "ok": False,
        "exit": 5,
        "result": {"duties": ["acme"]},
    }


USAGE = [
    pytest.param([], "no command given", id="nothing"),
    pytest.param(["kye"], "no such command 'kye'", id="command"),
    pytest.param(["key", "burn"], "no such command 'burn'", id="verb"),
    pytest.param(["--bogus"], "no such option '--bogus'", id="option"),
    pytest.param(["key", "show", "--x", "f"], "no such option '--x'", id="option-2"),
    pytest.param(["key", "show"], "missing argument 'KEY'", id="argument"),
    pytest.param(
        ["reop", "check"], "no such command 'reop'. Did you mean 'repo'?", id="noun"
    ),
    pytest.param(["-v", "-q", "key", "show", "f"], "-v and -q contradict", id="v-q"),
    pytest.param(
        ["key", "generate", "a.key", "--scheme", "dsa"],
        "invalid value for '--scheme': 'dsa' is not one of",
        id="choice",
    ),
    pytest.param(
        ["key", "show", "f", "--passphrase-fd", "-1"],
        "invalid value for '--passphrase-fd'",
        id="descriptor",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), USAGE)
def test_wrong_usage(place: Path, arguments: list[str], message: str) -> None:
    text = run(*arguments)
    assert text.status == 2
    assert text.out == ""
    assert text.err.startswith(f"error: {message}")
    assert "\nhint: see `margo-supplychain" in text.err
    for form in (["--format", "json"], ["--format=json"]):
        ran = run(*form, *arguments)
        validate(ran.json, "error")
        assert (ran.status, ran.json["error"]["code"]) == (2, "usage")
        # Bare, there is no command to miss: click has its own word for it.
        if arguments:
            assert ran.json["error"]["message"].startswith(message)
        assert ran.err == ""


def test_global_option_after_the_command_says_where_it_belongs(place: Path) -> None:
    ran = run("key", "show", "f", "--format", "json")
    assert ran.status == 2
    assert "hint: --format stands before the command" in ran.err
    assert "hint: -v stands before the command" in run("key", "show", "f", "-v").err


def test_wrong_format_is_told_as_text(place: Path) -> None:
    ran = run("--format", "yaml", "key")
    assert ran.status == 2
    assert "'yaml' is not one of 'text', 'json'" in ran.err
    assert run("--format", "json", "--format", "text", "kye").out == ""


def test_version_and_help(place: Path) -> None:
    assert run("--version").out == f"margo-supplychain {__version__}\n"
    assert run("--format", "json", "--version").json == {
        "ok": True,
        "exit": 0,
        "result": {"version": __version__},
    }
    ran = run("--help")
    assert ran.status == 0
    assert "Only 0 means install." in ran.out
    assert "_MARGO_SUPPLYCHAIN_COMPLETE=bash_source" in ran.out
    for noun, (_, line) in main_module.COMMANDS.items():
        assert f"{noun}  " in ran.out
        assert line.split()[0] in ran.out
    assert run("-h").out == ran.out


def commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    context = click.Context(main_module.cli, **main_module.cli.context_settings)
    for noun in main_module.cli.list_commands(context):
        group = main_module.cli.get_command(context, noun)
        verbs = list(group.commands) if isinstance(group, click.Group) else []
        found += [(noun, verb) for verb in verbs] or [(noun,)]
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_each_help_page_has_its_parts(place: Path, command: tuple[str, ...]) -> None:
    ran = run(*command, "--help")
    assert ran.status == 0
    assert f"Usage: margo-supplychain {' '.join(command)} " in ran.out
    examples = ran.out.partition("\n  Examples:\n")[2].partition("\n\n")[0]
    assert len(examples.splitlines()) >= 2
    assert f"margo-supplychain {' '.join(command)}" in examples.replace(
        "--format json ", ""
    )
    assert "\n  Exit status:\n    0  " in ran.out
    assert "\n  Next:\n    margo-supplychain " in ran.out


def test_help_and_version_load_little(place: Path) -> None:
    """The frame pays for click and itself; a noun pays for what it uses."""
    program = (
        "import sys; from margo_supplychain.cli.main import main; "
        "status = main(sys.argv[1:]); "
        "heavy = {'rich', 'cryptography', 'securesystemslib', 'tuf', 'in_toto', 'oras',"
        " 'yaml', 'urllib3', 'requests', 'tomllib', 'importlib.metadata', 'asyncio',"
        " 'subprocess', 'margo_supplychain.signing', 'margo_supplychain.authoring',"
        " 'margo_supplychain.verify'}; "
        "print(status, sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    for arguments in (["--version"], ["--help"], ["key", "generate", "--help"]):
        ran = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            check=True,
            capture_output=True,
            text=True,
            env=environment(),
        )
        assert ran.stderr == "0 []\n"


def test_frame_alone_imports_no_command(place: Path) -> None:
    program = (
        "import sys, margo_supplychain.cli.main as m; m.main(['--help']);"
        "print([n for n in sys.modules if n == 'margo_supplychain.cli.key'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert ran.stdout.endswith("\n[]\n")


def test_process_exit_statuses(place: Path, secret: str) -> None:
    made = spawn("key", "generate", "a.key", "--passphrase-file", secret, cwd=place)
    assert (made.returncode, made.stderr) == (0, b"")
    assert spawn("key", "show", "passphrase", cwd=place).returncode == 2
    gone = spawn("key", "show", "absent", cwd=place)
    assert gone.returncode == 2
    assert gone.stderr.startswith(
        b"error: absent: no such file, expected a key [format]\nhint: "
    )
    assert spawn("--bogus", cwd=place).returncode == 2
    again = spawn("key", "generate", "a.key", "--passphrase-file", secret, cwd=place)
    assert again.returncode == 6
    nowhere = spawn("key", "import", "a.pub", "--out", "no/where/b.pub", cwd=place)
    assert nowhere.returncode == 4
    assert b"Traceback" not in nowhere.stderr


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("command", [["--version"], ["key", "show", "a.pub"]])
def test_reader_that_leaves_gets_no_traceback_and_no_success(
    place: Path, secret: str, form: str, command: list[str]
) -> None:
    assert run("key", "generate", "a.key", "--passphrase-file", secret).status == 0
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [sys.executable, "-m", "margo_supplychain", "--format", form, *command],
        cwd=place,
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        env=environment(),
    )
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (1, b"")


def test_full_disk_on_stdout_is_no_success(place: Path, secret: str) -> None:
    spawn("key", "generate", "a.key", "--passphrase-file", secret, cwd=place)
    for command, status in (("a.pub", 4), ("absent", 4)):
        with open("/dev/full", "wb") as full:  # noqa: PTH123 - no Path can be full
            ran = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "margo_supplychain",
                    "--format=json",
                    "key",
                    "show",
                    command,
                ],
                cwd=place,
                stdout=full,
                stderr=subprocess.PIPE,
                check=False,
                env=environment(),
            )
        assert ran.returncode == status
        assert ran.stderr.startswith(
            b"error: standard output: no space left on device [storage]\nhint: "
        )
        assert b"Traceback" not in ran.stderr


@pytest.mark.parametrize("stderr", ["full", "closed"])
def test_a_note_that_nobody_can_read_does_not_change_the_status(
    place: Path, secret: str, stderr: str
) -> None:
    assert run("key", "generate", "a.key", "--passphrase-file", secret).status == 0
    (place / "margo-supplychain.toml").write_text('publisher = "acme"\n')
    where = "2>/dev/full" if stderr == "full" else "2>&-"
    for command, status in (
        ("-v key show a.pub", 0),
        ("-v release build absent --output dist", 2),
    ):
        ran = subprocess.run(
            ["sh", "-c", f"{sys.executable} -m margo_supplychain {command} {where}"],
            cwd=place,
            capture_output=True,
            check=False,
            env=environment(),
        )
        assert (ran.returncode, ran.stderr) == (status, b"")
        assert (ran.stdout != b"") == (status == 0)


def test_narrow_encodings_do_not_end_the_program(place: Path, secret: str) -> None:
    ran = spawn(
        "key",
        "generate",
        "münze.key",
        "--passphrase-file",
        secret,
        cwd=place,
        env={"PYTHONIOENCODING": "ascii:strict"},
    )
    assert ran.returncode == 0
    assert rb"wrote m\xfcnze.key" in ran.stdout


def test_shell_completion_is_clicks(place: Path) -> None:
    ran = spawn(
        cwd=place,
        env={
            "_MARGO_SUPPLYCHAIN_COMPLETE": "bash_complete",
            "COMP_WORDS": "margo-supplychain k",
            "COMP_CWORD": "1",
        },
    )
    assert ran.returncode == 0
    assert ran.stdout == b"plain,key\n"


def test_ctrl_c_at_a_prompt(place: Path) -> None:
    terminal = Terminal("key", "generate", "a.key", cwd=place, NO_COLOR="1")
    assert terminal.answer([("passphrase: ", "\x03")]) == 1
    assert "\nerror: interrupted [interrupted]\n" in terminal.text
    assert "Traceback" not in terminal.text
    assert list(place.iterdir()) == []


def test_passphrase_never_in_output(place: Path, secret: str) -> None:
    ran = run("-v", "key", "generate", "a.key", "--passphrase-file", secret)
    assert PASSPHRASE not in ran.out + ran.err


def test_failure_of_os_error_without_file() -> None:
    failure = failure_of(TimeoutError())
    assert (failure.message, failure.exit_status) == ("timeouterror", 4)
    assert failure.facts == {"path": None}
