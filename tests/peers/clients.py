"""Finds and runs other people's TUF clients (`README.md` beside this file)."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parent
TIMEOUT = 60  # seconds; a client that hangs has failed


class PeerMissingError(Exception):
    """The peer is not built here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTarget:
    """A target that a peer found, verified and wrote to `file`."""

    path: str
    length: int
    sha256: str
    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAnswer:
    """What a peer said: trusted versions by role, and the targets in order."""

    ok: bool
    error: str
    versions: dict[str, int]
    targets: tuple[PeerTarget, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerClient:
    """One other client; its state lives in the directory that `run` is given."""

    name: str
    command: tuple[str, ...]

    def run(
        self, url: str, targets: Sequence[str] = (), *, root: Path, directory: Path
    ) -> PeerAnswer:
        """Refresh from `url` (holding `metadata/` and `targets/`) and fetch targets.

        Args:
            url: base URL without the final slash.
            targets: target paths to fetch.
            root: root that is trusted when `directory` holds no state yet.
            directory: keeps state and targets between runs.
        """
        done = subprocess.run(
            [
                *self.command,
                *("--root", str(root)),
                *("--metadata-url", f"{url}/metadata"),
                *("--targets-url", f"{url}/targets"),
                *("--state", str(directory / "state")),
                *("--out", str(directory / "out")),
                *targets,
            ],
            capture_output=True,
            check=False,
            timeout=TIMEOUT,
        )
        said: dict[str, Any] = json.loads(done.stdout)
        assert (done.returncode == 0) == said["ok"], done.stderr
        return PeerAnswer(
            ok=said["ok"],
            error=said.get("error", ""),
            versions=said["versions"],
            targets=tuple(
                PeerTarget(
                    path=one["path"],
                    length=one["length"],
                    sha256=one["sha256"],
                    file=Path(one["file"]),
                )
                for one in said["targets"]
            ),
        )


def find_program(name: str) -> Path:
    """Return a program in Go as built by `tests/run.sh`.

    Raises:
        PeerMissingError: it is not built.
    """
    program = HERE / ".build" / "go" / name
    if not program.is_file():
        raise PeerMissingError(f"peer {name} is not built (tests/run.sh builds it)")
    return program


def find_go() -> PeerClient:
    """Return go-tuf's client.

    Raises:
        PeerMissingError: it is not built.
    """
    return PeerClient(name="go-tuf", command=(str(find_program("tuf-client")),))


def find_node() -> PeerClient:
    """Return the client of tuf-js with the packages `tests/run.sh` installed.

    Raises:
        PeerMissingError: Node.js or the packages are not there.
    """
    node = shutil.which("node")
    if node is None:
        raise PeerMissingError("peer tuf-js needs Node.js")
    if not (HERE / "node" / "node_modules" / "tuf-js").is_dir():
        raise PeerMissingError("peer tuf-js is not installed (tests/run.sh does it)")
    return PeerClient(
        name="tuf-js", command=(node, str(HERE / "node" / "tuf_client.js"))
    )


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serve(directory: Path) -> Iterator[str]:
    """Serve `directory` on loopback; yields its URL without the final slash."""
    handler = functools.partial(_QuietHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
