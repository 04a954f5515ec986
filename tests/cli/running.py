"""Run the command line: in this process, in a process of its own, on a terminal."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import jsonschema

from margo_supplychain.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PASSPHRASE: Final = "correct horse battery"
_PATIENCE: Final = 30.0  # seconds; a process starts in less than one


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a run printed and how it ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        document: dict[str, Any] = json.loads(self.out)
        return document


def run(*arguments: str) -> Ran:
    """Run `margo-supplychain` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    return Ran(status=status, out=out.getvalue(), err=err.getvalue())


def run_json(schema: str, *arguments: str) -> dict[str, Any]:
    """Run with --format json and validate the document by a shipped schema."""
    document = run("--format", "json", *arguments).json
    validate(document, schema)
    return document


def validate(document: object, schema: str) -> None:
    """Check a document by the shipped schema `schema`.schema.json."""
    folder = resources.files("margo_supplychain.cli") / "schemas"
    definition = json.loads((folder / f"{schema}.schema.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(definition)
    jsonschema.Draft202012Validator(definition).validate(document)


def environment(**changes: str) -> dict[str, str]:
    """Return an environment for a process that finds this package."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MARGO_SUPPLYCHAIN_")
    }
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | changes


def spawn(
    *arguments: str, cwd: Path, stdin: bytes = b"", **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run in a process of its own, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "margo_supplychain", *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        check=False,
        timeout=_PATIENCE,
        start_new_session=True,  # no controlling terminal, wherever the tests run
        env=environment(**options.pop("env", {})),
        **options,
    )


_ON_TERMINAL: Final = """
import os, sys
terminal = os.open(sys.argv[1], os.O_RDWR)  # a session's first: it controls us
for stream in (0, 1, 2):
    os.dup2(terminal, stream)
program = [sys.executable, "-m", "margo_supplychain", *sys.argv[2:]]
os.execv(program[0], program)
"""


class Terminal:
    """A process on a terminal of its own, and somebody who types."""

    def __init__(self, *arguments: str, cwd: Path, **env: str) -> None:
        self.text = ""
        self._master, slave = pty.openpty()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _ON_TERMINAL, os.ttyname(slave), *arguments],
                cwd=cwd,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment(**env),
            )
            # Until the process has it open, nobody else would: keep it.
            self.wait_for("", opened=slave)
        finally:
            os.close(slave)

    def wait_for(self, text: str, *, opened: int | None = None) -> None:
        """Read until `text` was printed; with `opened`, until anything was."""
        end = time.monotonic() + _PATIENCE
        seen = len(self.text)
        while (text not in self.text[seen:]) or (opened and len(self.text) == seen):
            if not self._read(end):
                break

    def type(self, text: str) -> None:
        """Type something."""
        self.type_bytes(text.encode())

    def type_bytes(self, data: bytes) -> None:
        """Type something that need not be text."""
        os.write(self._master, data)

    def finish(self) -> int:
        """Read to the end and return the exit status."""
        end = time.monotonic() + _PATIENCE
        while self._read(end):
            pass
        os.close(self._master)
        return self._process.wait(_PATIENCE)

    def answer(self, dialogue: Sequence[tuple[str, str]]) -> int:
        """Answer prompts in order and return the exit status."""
        for prompt, reply in dialogue:
            if prompt not in self.text:
                self.wait_for(prompt)
            self.type(reply)
        return self.finish()

    def _read(self, end: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], end - time.monotonic())
        if not ready:
            self._process.kill()
            raise AssertionError(f"nothing happens after {self.text!r}")
        try:
            data = os.read(self._master, 4096)
        except OSError:  # Linux: the other side is closed
            return False
        self.text += data.decode().replace("\r\n", "\n")
        return bool(data)
