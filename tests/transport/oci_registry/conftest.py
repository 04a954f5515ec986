"""A registry that can lie, and nothing of the caller's logins and proxies."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.registries.hostile import HostileRegistry
from tests.transport.oci_registry.logins import LOGIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def docker_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Where Docker's own configuration would be."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    folder = tmp_path_factory.mktemp("docker")
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder


@pytest.fixture
def server() -> Iterator[HostileRegistry]:
    with HostileRegistry() as server:
        yield server


@pytest.fixture
def logged_in(docker_folder: Path) -> Callable[..., None]:
    """Do as `docker login` does."""

    def do(*hosts: str, login: tuple[str, str] = LOGIN) -> None:
        auth = base64.b64encode(":".join(login).encode()).decode()
        auths = {host: {"auth": auth} for host in hosts}
        (docker_folder / "config.json").write_text(json.dumps({"auths": auths}))

    return do


@pytest.fixture
def helper(
    docker_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Install a credential helper, and name it for a host, or for all."""

    def do(script: str, *, host: str | None = None) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "docker-credential-test"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        config = {"credsStore": "test"} if host is None else {}
        named = {} if host is None else {"credHelpers": {host: "test"}}
        (docker_folder / "config.json").write_text(json.dumps(config | named))

    return do
