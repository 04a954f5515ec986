"""Runs the conformance client as a subprocess against a web server on loopback."""

from __future__ import annotations

import http.server
import importlib.util
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

if TYPE_CHECKING:
    from tests.world import Files, World

TIMEOUT = 60  # seconds; the protocol never times a client out, a test does
MODULE = "margo_supplychain.conformance"
TOP_LEVEL = ("root", "timestamp", "snapshot", "targets")


class _Conversation(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        name = self.path.removeprefix("/")
        self.server.asked.append(name)
        data = self.server.files.get(name)
        if data is None and name.startswith("targets/"):
            data = self.server.files.get(unquote(name))
        self.send_response(200 if data is not None else 404)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write(data or b"")

    def log_message(self, *_: object) -> None:
        pass


class Site(http.server.ThreadingHTTPServer):
    """Serves exactly `files`, by path without the first slash; notes each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def serve(self, files: Files, *, consistent: bool = True) -> None:
        """Serve a repository; without consistent snapshots, under plain names."""
        self.files = {
            f"metadata/{name if consistent else plain(name)}": data
            for name, data in sorted(files.metadata.items(), key=_by_version)
        }
        for (path, sha256), data in files.targets.items():
            *directories, name = path.split("/")
            name = f"{sha256}.{name}" if consistent else name
            self.files["/".join(["targets", *directories, name])] = data

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


def _by_version(item: tuple[str, bytes]) -> int:
    version = item[0].partition(".")[0]
    return int(version) if version.isdecimal() else 0


def plain(name: str) -> str:
    """Return a metadata file's name without its version; roots keep theirs."""
    version, _, rest = name.partition(".")
    if not version.isdecimal() or rest == "root.json":
        return name
    return rest


@dataclass(frozen=True, slots=True)
class Run:
    """What one run did."""

    status: int
    said: str
    asked: list[str]

    @property
    def metadata(self) -> list[str]:
        """The metadata files that were asked for, in order."""
        found = [one for one in self.asked if one.startswith("metadata/")]
        return [one.removeprefix("metadata/") for one in found]

    @property
    def targets(self) -> list[str]:
        """The target files that were asked for, in order."""
        found = [one for one in self.asked if one.startswith("targets/")]
        return [one.removeprefix("targets/") for one in found]


@dataclass
class Client:
    """A client program with its directories, and the site that it asks."""

    site: Site
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def metadata(self) -> Path:
        return self.directory / "metadata"

    @property
    def downloads(self) -> Path:
        return self.directory / "targets"

    def run(self, *arguments: str) -> Run:
        """Run the program; nothing but 0 and 1 is in the protocol."""
        self.site.asked.clear()
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", MODULE, *arguments],
            env=_environment() | self.environment,
            cwd=self.directory,
            capture_output=True,
            check=False,
            timeout=TIMEOUT,
        )
        said = done.stderr.decode()
        assert done.returncode in (0, 1), said
        assert "Traceback" not in said, said
        assert done.stdout == b"" or "-h" in arguments
        return Run(done.returncode, said, list(self.site.asked))

    def init(self, root: bytes) -> Run:
        trusted = self.directory / "trusted_root.json"
        trusted.write_bytes(root)
        return self.run("--metadata-dir", str(self.metadata), "init", str(trusted))

    def refresh(self) -> Run:
        return self.run(*self._where(), "refresh")

    def download(self, *paths: str) -> Run:
        names = [part for path in paths for part in ("--target-name", path)]
        return self.run(
            *self._where(),
            *names,
            *("--target-dir", str(self.downloads)),
            *("--target-base-url", f"{self.site.url}/targets/"),
            "download",
        )

    def _where(self) -> list[str]:
        return [
            *("--metadata-dir", str(self.metadata)),
            *("--metadata-url", f"{self.site.url}/metadata/"),
        ]

    @property
    def stored(self) -> dict[str, bytes]:
        """The trusted metadata, by file name."""
        return {one.name: one.read_bytes() for one in self.metadata.glob("*.json")}

    @property
    def versions(self) -> dict[str, int]:
        """Role → version of what is stored under its plain name."""
        found: dict[str, int] = {}
        for name, data in self.stored.items():
            signed: Any = json.loads(data)["signed"]
            found[unquote(name.removesuffix(".json"))] = signed["version"]
        return found

    @property
    def downloaded(self) -> list[bytes]:
        """Every file below the target directory."""
        found = sorted(self.downloads.rglob("*")) if self.downloads.exists() else []
        return [one.read_bytes() for one in found if one.is_file()]


def versions(root: int, timestamp: int, snapshot: int, targets: int) -> dict[str, int]:
    """Return what a client with these top-level roles stores."""
    return dict(zip(TOP_LEVEL, (root, timestamp, snapshot, targets), strict=True))


def started(client: Client, world: World) -> None:
    """Bring a new client up to date with a world, and see that it is."""
    client.site.serve(world.files)
    assert client.init(world.files.metadata["1.root.json"]).status == 0
    run = client.refresh()
    assert run.status == 0, run.said


def _environment() -> dict[str, str]:
    package = importlib.util.find_spec("margo_supplychain")
    assert package is not None
    assert package.submodule_search_locations
    # The same package that these tests use: the wheel's, or the working tree's.
    where = Path(next(iter(package.submodule_search_locations))).parent
    proxies = {name for name in os.environ if name.lower().endswith("_proxy")}
    kept = {name: text for name, text in os.environ.items() if name not in proxies}
    return kept | {"PYTHONPATH": str(where)}
