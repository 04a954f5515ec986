"""Real registries on loopback: Debian's docker-registry, and olareg.

Each lives in a directory that the test gives, on a port that the kernel gives, and ends
with its block. What it said stays in `registry.log` beside its data.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest

from tests.peers.clients import find_program
from tests.registries.certificates import Authority, Pair
from tests.registries.token_server import ISSUER, SERVICE, basic, token_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from margo_supplychain.transport.network import Network
    from tests.registries.token_server import TokenServer

LOGIN: Final = ("plant", "insecure-password")
PATIENCE: Final = 20  # seconds for a server to start or end
_LISTENING: Final = re.compile(r"listening on [0-9.]+:([0-9]+)")


@dataclass(kw_only=True)
class RunningRegistry:
    """A registry that answers at `host` ("127.0.0.1:PORT").

    Args:
        directory: its data, configuration and log.
        tls: over https, trusted through `authority`.
        login: what a client must know, or None.
        client: the certificate that a client must show, or None.
        tokens: where tokens come from, or None.
    """

    directory: Path
    host: str
    authority: Authority | None = None
    login: tuple[str, str] | None = None
    client: Pair | None = None
    tokens: TokenServer | None = None

    @property
    def url(self) -> str:
        """The registry as other clients are told of it."""
        return f"{'http' if self.authority is None else 'https'}://{self.host}"

    @property
    def port(self) -> int:
        """The port alone."""
        return int(self.host.rpartition(":")[2])

    @cached_property
    def docker_config(self) -> Path:
        """A file with the login, as `docker login` leaves it."""
        path = self.directory / "docker" / "config.json"
        path.parent.mkdir(exist_ok=True)
        auths = {}
        if self.login is not None:
            said = basic(*self.login).removeprefix("Basic ")
            auths[self.host] = {"auth": said}
        path.write_text(json.dumps({"auths": auths}), encoding="utf-8")
        return path

    def network(self, **limits: Any) -> Network:
        """Return what our client needs to be let in."""
        from margo_supplychain.transport.network import Network, RegistryAccess

        access = RegistryAccess(
            ca_file=None if self.authority is None else self.authority.file,
            certificate=None if self.client is None else self.client.certificate,
            private_key=None if self.client is None else self.client.key,
        )
        return Network(
            registries={self.host: access}, docker_config=self.docker_config, **limits
        )

    def ask(
        self, path: str, *, method: str = "GET", accept: str = "*/*"
    ) -> tuple[int, bytes]:
        """Ask the registry itself, without our client (open and mTLS registries)."""
        connection: http.client.HTTPConnection
        if self.authority is None:
            connection = http.client.HTTPConnection(self.host, timeout=PATIENCE)
        else:
            context = ssl.create_default_context(cafile=str(self.authority.file))
            if self.client is not None:
                context.load_cert_chain(*self.client)
            connection = http.client.HTTPSConnection(
                self.host, timeout=PATIENCE, context=context
            )
        with contextlib.closing(connection):
            connection.request(method, path, headers={"Accept": accept})
            answer = connection.getresponse()
            return answer.status, answer.read()


class ServerFailedError(RuntimeError):
    """A server that is installed does not start."""


# --- docker-registry -----------------------------------------------------------------


@dataclass(kw_only=True)
class DockerRegistry(RunningRegistry):
    """Debian's docker-registry, which also has a garbage collector."""

    config: Path

    def collect_garbage(self) -> str:
        """Do what operators run at night: every untagged manifest goes too."""
        done = subprocess.run(
            [
                _debian("docker-registry"),
                "garbage-collect",
                "--delete-untagged",
                str(self.config),
            ],
            capture_output=True,
            check=True,
            timeout=60,
            text=True,
        )
        return done.stdout


@contextlib.contextmanager
def docker_registry(
    directory: Path,
    *,
    auth: Literal["none", "basic", "token"] = "none",
    tls: Literal["none", "server", "mutual"] = "none",
    delete: bool = True,
) -> Iterator[DockerRegistry]:
    """Run docker-registry; skips the test where it is not installed.

    Args:
        directory: for data, configuration and log.
        auth: `basic` checks `LOGIN` itself, `token` sends clients to a token server.
        tls: `mutual` asks clients for a certificate.
        delete: manifests may be deleted.
    """
    program = _debian("docker-registry")
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        authority = client = tokens = None
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"accesslog": {"disabled": False}, "level": "info"},
            "storage": {
                "filesystem": {"rootdirectory": str(directory / "data")},
                "delete": {"enabled": delete},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": {"addr": "127.0.0.1:0", "secret": "insecure-secret"},
        }
        if tls != "none":
            authority = Authority(directory / "tls")
            server = authority.issue("registry")
            config["http"]["tls"] = {
                "certificate": str(server.certificate),
                "key": str(server.key),
            }
            if tls == "mutual":
                client = authority.issue("device")
                config["http"]["tls"]["clientcas"] = [str(authority.file)]
        if auth == "basic":
            config["auth"] = {
                "htpasswd": {"realm": "plant", "path": str(_htpasswd(directory))}
            }
        elif auth == "token":
            tokens = stack.enter_context(
                token_server(directory / "tokens", login=LOGIN)
            )
            config["auth"] = {
                "token": {
                    "realm": tokens.realm,
                    "service": SERVICE,
                    "issuer": ISSUER,
                    "rootcertbundle": str(tokens.certificate),
                }
            }
        file = directory / "registry.yml"
        # JSON is YAML.
        file.write_text(json.dumps(config), encoding="utf-8")
        log = directory / "registry.log"
        process = stack.enter_context(_running([program, "serve", str(file)], log))
        port = _until(lambda: _LISTENING.search(_said(log)), process, log)[1]
        registry = DockerRegistry(
            directory=directory,
            host=f"127.0.0.1:{port}",
            authority=authority,
            login=None if auth == "none" else LOGIN,
            client=client,
            tokens=tokens,
            config=file,
        )
        _until(lambda: _answers(registry), process, log)
        yield registry


def _htpasswd(directory: Path) -> Path:
    # docker-registry takes bcrypt alone, which Python does not have.
    user, password = LOGIN
    program = _debian("htpasswd")
    done = subprocess.run(
        [program, "-niBC", "4", user],
        input=password.encode(),
        capture_output=True,
        check=True,
        timeout=30,
    )
    path = directory / "htpasswd"
    path.write_bytes(done.stdout)
    return path


# --- olareg --------------------------------------------------------------------------


@contextlib.contextmanager
def olareg(directory: Path, *, referrers: bool = True) -> Iterator[RunningRegistry]:
    """Run olareg, whose storage is a directory of OCI image layouts.

    Args:
        referrers: it has the referrers API.

    Raises:
        PeerMissingError: it is not built.
    """
    program = str(find_program("olareg"))
    directory.mkdir(parents=True, exist_ok=True)
    data = directory / "data"
    data.mkdir(exist_ok=True)
    log = directory / "registry.log"
    for attempt in range(5):
        # It can't say which port the kernel gave it; another process may be quicker.
        port = _free_port()
        command = [
            *(program, "serve", "--addr", "127.0.0.1", "--port", str(port)),
            *("--dir", str(data), "--api-delete", "--gc-frequency=-1s"),
            f"--api-referrer={str(referrers).lower()}",
        ]
        with _running(command, log) as process:
            registry = RunningRegistry(directory=directory, host=f"127.0.0.1:{port}")
            try:
                _until(lambda: _answers(registry), process, log)  # noqa: B023 - called at once
            except ServerFailedError:
                if attempt == 4 or process.poll() is None:
                    raise
                continue
            yield registry
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


# --- processes -----------------------------------------------------------------------


def _debian(name: str) -> str:
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed")
    return program


@contextlib.contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as said:
        # Nothing of the caller's settings may reach a registry (REGISTRY_…).
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={"HOME": str(log.parent), "PATH": "/usr/bin:/bin"},
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until(ask: Callable[[], Any], process: subprocess.Popen[bytes], log: Path) -> Any:
    """Ask until there is an answer, and return it; a server that ended has none."""
    last = time.monotonic() + PATIENCE
    while not (answer := ask()):
        if process.poll() is not None or time.monotonic() > last:
            raise ServerFailedError(f"{process.args!r} does not serve:\n{_said(log)}")
        time.sleep(0.01)
    return answer


def _answers(registry: RunningRegistry) -> bool:
    try:
        return registry.ask("/v2/")[0] in (200, 401)
    except (OSError, http.client.HTTPException):
        return False


def _said(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")
