"""Registries for tests; where a program is missing they are skipped and say so."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.conftest import peer_or_skip
from tests.peers.clients import find_program
from tests.registries.servers import docker_registry, olareg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.registries.servers import RunningRegistry


@pytest.fixture(autouse=True)
def _no_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nothing of the caller's proxies and logins."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path_factory.mktemp("docker")))


@pytest.fixture(scope="session")
def open_registry(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningRegistry]:
    """docker-registry without any check; tests take paths of their own."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def olareg_registry(
    pytestconfig: pytest.Config,
) -> Callable[..., AbstractContextManager[RunningRegistry]]:
    """`olareg`, or a skip that says why not."""
    peer_or_skip(lambda: find_program("olareg"), pytestconfig)
    return olareg
