"""Somebody who attests: a key, files to record, and commands that make some."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from margo_supplychain.formats.dsse import Envelope
from tests.cli.running import Ran, run, validate

if TYPE_CHECKING:
    from pathlib import Path


class Step:
    """The step `build` of a pipeline in `place`: from src/ to dist/."""

    def __init__(self, place: Path, secret: str) -> None:
        self.place = place
        self.secret = secret
        self.links = place / "links"
        (place / "src").mkdir()
        (place / "src" / "main.c").write_text("int main;\n")

    def options(self, *more: str) -> list[str]:
        """What a recording of this step is told."""
        return [
            *("--step", "build", "--materials", "src", "--key", "ci.key"),
            *("--output", "links", "--passphrase-file", self.secret, *more),
        ]

    def run(self, *more: str, command: list[str] | None = None) -> Ran:
        """Run the step: it makes dist/out."""
        return run(
            *("attest", "run", *self.options("--products", "dist", *more)),
            *("--", *(self.making() if command is None else command)),
        )

    def record(self, *more: str) -> Ran:
        """Record what is there."""
        return run("attest", "record", *self.options(*more))

    def record_json(self, *more: str) -> dict[str, Any]:
        """Record what is there, and return the document."""
        ran = run("--format", "json", "attest", "record", *self.options(*more))
        validate(ran.json, "attest-run")
        return ran.json

    def making(self, text: str = "made", then: str = "") -> list[str]:
        """Return a command that makes dist/out."""
        return python(
            "import os, sys; os.makedirs('dist', exist_ok=True)\n"
            f"with open('dist/out', 'w') as file: file.write({text!r})\n{then}"
        )

    @property
    def files(self) -> list[Path]:
        """The envelopes that were written."""
        return sorted(self.links.glob("*")) if self.links.exists() else []

    @property
    def link(self) -> dict[str, Any]:
        """What the one link says."""
        (file,) = self.files
        return said(file)


def python(program: str) -> list[str]:
    """Return a command that runs a program."""
    return [sys.executable, "-c", program]


def said(file: Path) -> dict[str, Any]:
    """Return the payload of an envelope."""
    envelope = Envelope.parse(file.read_bytes(), what=file.name)
    payload: dict[str, Any] = json.loads(envelope.payload)
    return payload
