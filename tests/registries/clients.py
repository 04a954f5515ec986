"""Other people's registry clients: oras, crane, skopeo, and oras-py."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import pytest

from tests.conftest import peer_or_skip
from tests.peers.clients import find_program

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT: Final = 60


class Client(Protocol):
    """Copies one tagged manifest, and everything below it, between two places."""

    name: str

    def push(self, layout: Path, tag: str, to: str) -> None:
        """Push from an OCI image layout of one entry to `host/path:tag`."""

    def pull(self, reference: str, layout: Path, tag: str) -> None:
        """Pull `host/path:tag` into a new OCI image layout."""


class Command:
    """A program on loopback without TLS; it sees an empty home directory."""

    def __init__(self, name: str, program: Path, home: Path) -> None:
        self.name = name
        self._program = program
        self._home = home

    def run(self, *arguments: str, directory: Path | None = None) -> str:
        """Run it; it has to work."""
        done = subprocess.run(
            [self._program, *arguments],
            cwd=directory or self._home,
            capture_output=True,
            check=False,
            timeout=TIMEOUT,
            text=True,
            env={"HOME": str(self._home), "PATH": os.environ["PATH"]},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


class Oras(Command):
    """`oras cp` between a layout and a registry."""

    def push(self, layout: Path, tag: str, to: str) -> None:
        self.run(*("cp", "--from-oci-layout", "--to-plain-http"), f"{layout}:{tag}", to)

    def pull(self, reference: str, layout: Path, tag: str) -> None:
        self.run(
            *("cp", "--to-oci-layout", "--from-plain-http"),
            *(reference, f"{layout}:{tag}"),
        )


class Crane(Command):
    """`crane push` and `crane pull`."""

    def push(self, layout: Path, tag: str, to: str) -> None:
        del tag
        index = [] if _is_image(layout) else ["--index"]
        self.run("push", *index, str(layout), to)

    def pull(self, reference: str, layout: Path, tag: str) -> None:
        del tag
        self.run("pull", "--format=oci", reference, str(layout))


class Skopeo(Command):
    """`skopeo copy`, bytes unchanged."""

    _COPY: Final = ("--insecure-policy", "copy", "--all", "--preserve-digests")

    def push(self, layout: Path, tag: str, to: str) -> None:
        self.run(
            *(*self._COPY, "--dest-tls-verify=false"),
            *(f"oci:{layout}:{tag}", f"docker://{to}"),
        )

    def pull(self, reference: str, layout: Path, tag: str) -> None:
        self.run(
            *(*self._COPY, "--src-tls-verify=false"),
            *(f"docker://{reference}", f"oci:{layout}:{tag}"),
        )


def _is_image(layout: Path) -> bool:
    return b"image.manifest" in (layout / "index.json").read_bytes()


def find_client(name: str, home: Path, config: pytest.Config) -> Client:
    """Return a client, or skip and say why not."""
    if name == "skopeo":
        found = shutil.which("skopeo")
        if found is None:
            pytest.skip("skopeo is not installed")
        return Skopeo(name, Path(found), home)
    program = peer_or_skip(lambda: find_program(name), config)
    return Oras(name, program, home) if name == "oras" else Crane(name, program, home)


def blobs_below(layout: Path) -> Iterator[tuple[str, bytes]]:
    """Yield what an OCI image layout holds, by digest."""
    for path in sorted((layout / "blobs").rglob("*")):
        if path.is_file():
            yield f"{path.parent.name}:{path.name}", path.read_bytes()
