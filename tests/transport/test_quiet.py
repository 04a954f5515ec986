"""What of a server's words reaches logs and messages."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import urllib3

from margo_supplychain.errors import FetchError
from margo_supplychain.transport.broken import broken, visible
from margo_supplychain.transport.http import HttpSource
from margo_supplychain.transport.network import Network
from margo_supplychain.transport.quiet import quiet
from tests.transport.liar import Liar, says

if TYPE_CHECKING:
    from collections.abc import Iterator

ONCE = Network(tries=1, response_timeout=5)
TIMESTAMP = "/metadata/timestamp.json"


@pytest.fixture
def liar() -> Iterator[Liar]:
    with Liar() as server:
        yield server


def test_signed_url_of_a_redirect_is_not_logged(
    liar: Liar, caplog: pytest.LogCaptureFixture
) -> None:
    broken_header = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nno header\r\nX: y\r\n\r\n{}"
    )
    liar.answers_with("/x?signature=secret", says(broken_header))
    signed = f"{liar.url}x?signature=secret"
    liar.answers_with(TIMESTAMP, lambda talk: talk.say(307, Location=signed))
    chunks = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    )
    liar.answers_with("/metadata/2.root.json", says(chunks))
    caplog.set_level(logging.DEBUG)
    source = HttpSource.of(liar.url, network=ONCE)
    assert source.metadata("timestamp.json", limit=10) == b"{}"
    assert source.metadata("2.root.json", limit=10) == b"{}"
    assert caplog.records == []
    # What others do with urllib3 is logged as it was.
    with urllib3.PoolManager() as others:
        others.request("GET", f"{liar.url}x?signature=secret")
    assert "signature=secret" in caplog.text


def test_quiet_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logger = logging.getLogger("urllib3.connectionpool")
    with quiet():
        with quiet():
            logger.warning("one")
        logger.warning("two")
    logger.warning("three")
    assert caplog.messages == ["three"]


@pytest.mark.parametrize(
    "location",
    [
        b"https://\x9b31mEVIL\x9bK.example/",
        b"ftp://\x9b31mEVIL/",
        b"https://a\x85b/",
        b"//a\x1bb/",
        b"https://\xe9.example/",
    ],
)
def test_redirect_to_what_a_terminal_would_act_on(liar: Liar, location: bytes) -> None:
    head = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: "
    liar.answers_with(TIMESTAMP, says(head + location + b"\r\n\r\n"))
    with pytest.raises(FetchError, match="redirects to what is no URL") as caught:
        HttpSource.of(liar.url, network=ONCE).metadata("timestamp.json", limit=10)
    assert str(caught.value).isprintable()


def test_redirect_to_a_path_beyond_ascii(liar: Liar) -> None:
    head = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /\xc3\xa9\r\n\r\n"
    liar.answers_with(TIMESTAMP, says(head))
    with pytest.raises(FetchError, match="does not exist") as caught:
        HttpSource.of(liar.url, network=ONCE).metadata("timestamp.json", limit=10)
    assert str(caught.value).isprintable()


def test_words_from_outside_are_made_visible() -> None:
    assert visible("quiet ü") == "quiet ü"
    assert visible("\x1b[31m\x9bK\u202e") == "\\x1b[31m\\x9bK\\u202e"
    assert str(broken(OSError("Bad\x1b[31m name"))) == "bad\\x1b[31m name"
