"""What holds for every test: nothing random, nothing beyond loopback, peers on demand.

Warnings are errors and markers are strict by `pyproject.toml`.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, TypeVar

import hypothesis
import pytest

from tests.peers.clients import PeerClient, PeerMissingError, find_go, find_node
from tests.peers.intoto_clients import GoInToto, find_go_in_toto

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# The same examples on every run; --hypothesis-long looks further, at random.
hypothesis.settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=60, database=None
)
hypothesis.settings.register_profile(
    "long", deadline=None, max_examples=3000, database=None, print_blob=True
)


class NetworkUsedError(RuntimeError):
    """A test tried to leave the machine; not an OSError, so nothing handles it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--hypothesis-long",
        action="store_true",
        help="many random examples instead of a few that never change",
    )
    parser.addoption(
        "--peers",
        action="store_true",
        help="a peer of another language that is not built fails its tests",
    )


def pytest_configure(config: pytest.Config) -> None:
    long = config.getoption("--hypothesis-long")
    hypothesis.settings.load_profile("long" if long else "ci")


def _is_local(address: object) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket
    host = str(address[0])
    return host in ("", "localhost", "::1", "0.0.0.0", "::") or host.startswith("127.")  # noqa: S104 - compared, not bound


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Any:
    """Refuse connections and look-ups beyond loopback."""
    patch = pytest.MonkeyPatch()

    def guard(original: Callable[..., Any], position: int) -> Callable[..., Any]:
        def guarded(*arguments: Any, **options: Any) -> Any:
            address = arguments[position]
            if not _is_local(address if position else (address,)):
                raise NetworkUsedError(f"a test asked for {address!r}")
            return original(*arguments, **options)

        return guarded

    patch.setattr(socket.socket, "connect", guard(socket.socket.connect, 1))
    patch.setattr(socket.socket, "connect_ex", guard(socket.socket.connect_ex, 1))
    patch.setattr(socket, "getaddrinfo", guard(socket.getaddrinfo, 0))
    yield
    patch.undo()


def peer_or_skip(find: Callable[[], T], config: pytest.Config) -> T:
    """Return what `find` finds; where it is not built, skip or, by --peers, fail."""
    try:
        return find()
    except PeerMissingError as why:
        if config.getoption("--peers"):
            pytest.fail(str(why))
        pytest.skip(str(why))


@pytest.fixture
def go_tuf(pytestconfig: pytest.Config) -> PeerClient:
    """go-tuf's client, or a skip that says why not."""
    return peer_or_skip(find_go, pytestconfig)


@pytest.fixture
def tuf_js(pytestconfig: pytest.Config) -> PeerClient:
    """The client of tuf-js, or a skip that says why not."""
    return peer_or_skip(find_node, pytestconfig)


@pytest.fixture
def go_in_toto(pytestconfig: pytest.Config) -> GoInToto:
    """in-toto-golang, or a skip that says why not."""
    return peer_or_skip(find_go_in_toto, pytestconfig)
