"""T-73 to T-77: servers and proxies that use HTTP, or TLS below it, to their ends."""

from __future__ import annotations

import base64
import json
import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import pytest

from margo_supplychain.errors import FetchError, TooSlowError
from margo_supplychain.transport import watchdog
from margo_supplychain.transport.connections import Connections
from margo_supplychain.transport.http import HttpSource
from margo_supplychain.transport.network import Network, RegistryAccess
from margo_supplychain.verify.limits import Control
from tests.attacks.standing import refused, require_true_names
from tests.attacks.test_broken_downloads import with_layers
from tests.registries.certificates import Authority
from tests.registries.hostile import HostileRegistry
from tests.registries.plant import plant_on, quick
from tests.transport.liar import Liar, says, serve
from tests.transport.tickets import TicketFlood
from tests.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.transport.liar import Answer, Conversation

SOON: Final = Network(
    tries=2, connect_timeout=5, read_timeout=5, response_timeout=5, longest_delay=0
)
LOGIN: Final = ("operator", "insecure-password")
CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
NOT_FOUND: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
MIB: Final = 1 << 20


@pytest.fixture
def liar() -> Iterator[Liar]:
    with Liar() as server:
        yield server


@pytest.mark.parametrize("what", ["metadata", "content"])
def test_tickets_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Mallory's server pours TLS's own messages where the body should come, so that the
    device never looks at the clock again; it leaves her, and is updated elsewhere."""
    monkeypatch.setattr(watchdog, "_LOOK", 0.05)
    device, _ = with_layers(tmp_path, os.urandom(MIB))
    honest = device.source
    authority = Authority(tmp_path / "authority")
    network = Network(ca_file=authority.file, tries=2, longest_delay=0)
    with TicketFlood(authority, tmp_path) as flood:
        hers = HttpSource.of(flood.url, network=network)
        began = time.monotonic()
        if what == "metadata":
            device.source = hers  # type: ignore[assignment]  # a source, too
            control = Control(deadline=timedelta(seconds=20))
            with refused(device, TooSlowError, "too-slow", match="TLS's own"):
                device.verifier.refresh(control=control)
        else:
            device.contents = [hers]  # type: ignore[list-item]  # a source, too
            with refused(device, TooSlowError, "too-slow", match="TLS's own"):
                device.fetch()
        assert time.monotonic() - began < 15
        assert flood.poured
    device.source, device.contents = honest, [honest]
    assert device.install() == "2.0.0"


@pytest.mark.parametrize("size", [b"-1", b"-5", b"+2", b"0x2", b"f" * 16, b""])
def test_chunk_of_no_size(tmp_path: Path, liar: Liar, size: bytes) -> None:
    """Mallory's place is asked first and answers in chunks of a size that is none: the
    honest place after it is asked all the same."""
    device, (what,) = with_layers(tmp_path, os.urandom(MIB))
    liar.answers_with(
        f"/blobs/sha256/{what.digest.hex}",
        says(CHUNKED + size + b"\r\n" + bytes(5000), ends=True),
    )
    hers = HttpSource.of(liar.url, network=SOON)
    device.contents = [hers]  # type: ignore[list-item]  # a source, too
    with refused(device, FetchError, "fetch", match="the answer is not HTTP"):
        device.fetch()
    device.contents.append(device.source)
    assert device.install() == "2.0.0"
    require_true_names(device)


def test_login_for_this_machine_and_a_proxy(
    tmp_path: Path, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mallory is the plant's proxy; what a device says to a registry on its own machine
    in clear text is not said to her."""
    monkeypatch.setenv("http_proxy", liar.url)
    monkeypatch.setenv("all_proxy", liar.url)
    said = base64.b64encode(":".join(LOGIN).encode()).decode()
    with HostileRegistry() as registry:
        registry.login = LOGIN
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"auths": {registry.host: {"auth": said}}}))
        plant = plant_on(registry, tmp_path, network=quick(docker_config=config))
        plant.release("1.2.0")
        assert plant.device.install() == "1.2.0"
        plant.release("1.3.0")
        # An owner who names her by mistake is told.
        named = {registry.host: RegistryAccess(proxy=liar.url)}
        device = plant.device
        device.network = quick(docker_config=config, registries=named)
        memory = device.memory
        assert device.version() == "1.2.0"  # not reached: by what is known
        assert device.memory == memory
        assert liar.requests == []
        device.network = quick(docker_config=config)
        assert device.install() == "1.3.0"


def test_metadata_that_is_cut(tmp_path: Path, liar: Liar) -> None:
    """Mallory cuts an answer that does not say where it ends: anybody on the way can,
    so that is no verdict about who signed it, and no excuse."""
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path / "one")
    assert device.install() == "1.0.0"  # sane
    other = device.copy(tmp_path / "two")
    world.release("1.1.0")
    world.publish()
    serve(liar, world.files)
    for one in (device, other):
        one.contents[0].files = world.files
        one.source = HttpSource.of(liar.url, network=SOON)  # type: ignore[assignment]  # a source, too
    assert other.version() == "1.1.0"
    paths = [
        one
        for one in liar.paths
        if one.removeprefix("/metadata/") in world.files.metadata
    ]
    assert len(paths) == 3
    for path in paths:
        whole = world.files.metadata[path.removeprefix("/metadata/")]
        half = whole[: len(whole) // 2]
        liar.answers_with(path, says(b"HTTP/1.1 200 OK\r\n\r\n" + half, ends=True))
        with refused(device, FetchError, "fetch", match="without saying", newer=True):
            device.verify()
        liar.serves(path, whole)
    assert device.install() == "1.1.0"


def test_download_that_is_cut(tmp_path: Path, liar: Liar) -> None:
    """Mallory cuts each answer of an honest place, so that the place is blamed and what
    came is thrown away; the device keeps it, and goes on."""
    data = os.urandom(3 * MIB)
    device, (what,) = with_layers(tmp_path, data)
    path = f"/blobs/sha256/{what.digest.hex}"
    most = MIB

    def cut(talk: Conversation) -> None:
        start = int(talk.headers.get("Range", "bytes=0-")[6:-1])
        told = f"bytes {start}-{len(data) - 1}/{len(data)}" if start else None
        status = 206 if start else 200
        talk.say(status, data[start:most], Content_Length=None, Content_Range=told)
        talk.hang_up()

    liar.answers_with(path, cut)
    there = HttpSource.of(liar.url, network=SOON)
    device.contents = [there]  # type: ignore[list-item]  # a source, too
    with refused(device, FetchError, "fetch", match="without saying"):
        device.fetch()
    parts = list((device.staging / ".parts").iterdir())
    assert [one.stat().st_size for one in parts] == [most]
    most = 2 * MIB
    with refused(device, FetchError, "fetch", match="without saying"):
        device.fetch()
    most = len(data)
    assert device.install() == "2.0.0"
    assert liar.requests[-1][1]["Range"] == f"bytes={2 * MIB}-"


def early(talk: Conversation) -> None:
    talk.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    time.sleep(0.1)
    talk.wfile.write(NOT_FOUND)


def switched(talk: Conversation) -> None:
    talk.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + NOT_FOUND)


def doubled(talk: Conversation) -> None:
    talk.wfile.write(NOT_FOUND + NOT_FOUND)


@pytest.mark.parametrize("answer", [early, switched, doubled])
def test_answer_for_what_somebody_else_is_asked(
    tmp_path: Path, liar: Liar, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    """Mallory's mirror and the vendor's server lie behind one proxy. She answers more
    than once, to say in the vendor's name that there is no new root."""
    monkeypatch.setenv("http_proxy", liar.url)
    monkeypatch.delenv("no_proxy", raising=False)
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane
    world.rotate("timestamp", "timestamp-2")
    world.release("1.1.0")
    world.publish()
    serve(liar, world.files)
    for path in list(liar.answers):
        liar.answers[f"http://vendor.example{path}"] = liar.answers.pop(path)
    hers = "http://mallory.example"
    liar.answers_with(f"{hers}/metadata/2.root.json", answer)
    connections = Connections(SOON, plain_http=True)
    sources = []
    for url in (hers, "http://vendor.example"):
        source = HttpSource.of(url, network=SOON)
        source._connections = connections
        sources.append(source)
    with pytest.raises(FetchError):
        sources[0].metadata("2.root.json", limit=1000)
    device.contents = [device.source]
    device.source.files = world.files
    device.source = sources[1]  # type: ignore[assignment]  # a source, too
    assert device.install() == "1.1.0"
    assert device.trusted["root"] == 2
