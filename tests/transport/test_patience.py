"""Mirrors that don't answer: what they cost those who could ask others."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from margo_supplychain.errors import FetchError, TooSlowError
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.transport import patience
from margo_supplychain.transport.mirrors import (
    MirroredContent,
    MirrorMap,
    open_mirrored_source,
)
from margo_supplychain.transport.network import Network
from margo_supplychain.transport.patience import HOLD, Impatient, Silence, impatient
from tests.world import MemorySource
from tests.world.sources import Files

if TYPE_CHECKING:
    from collections.abc import Callable

    from margo_supplychain.formats.names import TargetPath
    from margo_supplychain.transport.protocols import Source

DATA = b"content"
WHAT = Descriptor.of(DATA, "application/wasm")
VENDOR = "oci://registry.acme.example/acme"


def test_limits_are_never_raised() -> None:
    usual = impatient(Network())
    assert (usual.connect_timeout, usual.response_timeout, usual.tries) == (10, 10, 2)
    assert usual.longest_delay == 5
    strict = Network(connect_timeout=1, response_timeout=2, tries=1, longest_delay=0)
    assert impatient(strict) == strict


class Story:
    """Two repositories of one host, and one of another."""

    def __init__(self) -> None:
        files = Files(
            metadata={"timestamp.json": b"{}"},
            targets={("a", WHAT.digest.hex): DATA},
            blobs={str(WHAT.digest): DATA},
        )
        self.below = [MemorySource(files.copy()) for _ in range(3)]
        self.silence = Silence()
        self.asked = [
            Impatient(cast("Source", one), host=host, silence=self.silence)
            for one, host in zip(self.below, ("a", "a", "b"), strict=True)
        ]


def metadata(source: Source) -> bytes:
    return source.metadata("timestamp.json", limit=10)


def target(source: Source) -> bytes:
    with source.target(cast("TargetPath", "a"), WHAT, start=2) as stream:
        return stream.read()


def blob(source: Source) -> bytes:
    with source.blob(WHAT, start=2) as stream:
        return stream.read()


@pytest.mark.parametrize("ask", [metadata, target, blob])
def test_a_host_that_is_silent_is_asked_once(
    ask: Callable[[Source], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story()
    first, beside, other = story.asked
    expected = ask(cast("Source", story.below[2]))
    assert [ask(one) for one in story.asked] == [expected] * 3
    for below in story.below:
        below.asked.clear()
    story.below[0].down = True
    for one in (first, first, beside):
        with pytest.raises(FetchError, match="the wire is cut") as caught:
            ask(one)
        assert caught.value.unreachable
    assert [len(one.asked) for one in story.below] == [1, 0, 0]
    assert (beside.is_held, other.is_held) == (True, False)
    assert ask(other) == expected
    # Not for ever.
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + HOLD + 1)
    monkeypatch.setattr(patience, "time", later)
    assert not beside.is_held
    assert ask(beside) == expected


def test_an_answer_is_no_silence() -> None:
    story = Story()
    first, _, _ = story.asked
    story.below[0].forbidden = True
    with pytest.raises(FetchError, match="forbidden"):
        metadata(first)
    story.below[0].forbidden = False
    assert not first.is_held
    with pytest.raises(FetchError, match="no 2"):
        first.metadata("2.root.json", limit=10)
    assert metadata(first) == b"{}"


def test_slowness_is_as_good_as_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(_: MemorySource, *args: object, **named: object) -> bytes:
        raise TooSlowError("slow gave 3 bytes in 30 s", url="slow")

    monkeypatch.setattr(MemorySource, "metadata", slow)
    story = Story()
    first, beside, _ = story.asked
    for one in (first, beside):
        with pytest.raises(TooSlowError, match="gave 3 bytes") as caught:
            metadata(one)
        assert not caught.value.unreachable
    assert beside.is_held
    beside.release()
    assert not first.is_held


def test_a_failure_while_it_is_read_is_the_readers() -> None:
    story = Story()
    first, _, _ = story.asked
    with (
        pytest.raises(FetchError, match="elsewhere"),
        first.blob(WHAT),
    ):
        raise FetchError("elsewhere", url="x", unreachable=True)
    assert not first.is_held


def test_who_is_opened_impatiently() -> None:
    """All of the network, but the last of a list: it has nobody behind it."""
    mirrors = MirrorMap(
        {
            VENDOR: ["oci://a.example/acme", "oci-layout:/srv/x", "oci://b.example/y"],
            f"{VENDOR}/one": ["oci://a.example/one"],
        }
    )
    content = MirroredContent(mirrors, network=Network())
    found = content.sources([f"{VENDOR}/pump", f"{VENDOR}/one"])
    kinds = [isinstance(one, Impatient) for one in found]
    assert kinds == [True, False, False, False]
    source = open_mirrored_source(f"{VENDOR}/trust", mirrors)
    # Content in the trust repository is asked for at each of its mirrors.
    trust = MirroredContent(mirrors, always=[source]).sources([])
    assert [isinstance(one, Impatient) for one in trust] == [True, False, False]
    assert [one.url for one in trust][::2] == [
        "oci://a.example/acme/trust",
        "oci://b.example/y/trust",
    ]
