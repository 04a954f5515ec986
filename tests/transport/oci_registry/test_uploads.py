"""Blobs that are pushed: in pieces, after breaks, and no other bytes than promised."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import pytest

from margo_supplychain.errors import (
    DigestMismatchError,
    FetchError,
    LengthMismatchError,
    RefusedError,
    StorageError,
    TooSlowError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.transport.oci_registry import hashed_data, uploads
from tests.registries import lies
from tests.transport.oci_registry.logins import LOGIN, PATH, repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.registries.hostile import Conversation, HostileRegistry

OCTETS = "application/octet-stream"
DATA = bytes(range(256)) * 1000
WHAT = Descriptor.of(DATA, OCTETS)
CHUNK = 60_000
SMALL = 1000
CHUNKS = range(0, 240_000, CHUNK)
LAST = "240000-255999"


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SMALL", SMALL)
    monkeypatch.setattr(uploads, "CHUNK", CHUNK)
    monkeypatch.setattr(hashed_data, "_PIECE", 7000)


class Stream(io.RawIOBase):
    """Can't seek."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._data.readinto(buffer)


def stream(data: bytes) -> BinaryIO:
    return cast("BinaryIO", Stream(data))


def push(
    server: HostileRegistry, data: BinaryIO | bytes = DATA, **options: Any
) -> bool:
    if isinstance(data, bytes):
        data = io.BytesIO(data)
    what = options.pop("what", WHAT)
    return repository(server, **options).put_blob(what, data)


def held(server: HostileRegistry) -> dict[str, bytes]:
    return server.of(PATH).blobs


def patches(server: HostileRegistry) -> list[str | None]:
    return [one.headers.get("content-range") for one in server.asked("PATCH")]


def breaks_after(count: int) -> Callable[..., None]:
    """Take `count` bytes of a chunk, and hang up."""

    def lie(talk: Conversation) -> None:
        upload = talk.path.rpartition("/")[2]
        talk.server.uploads[upload] += talk.rfile.read(count)
        talk._body = b""
        talk.hang_up()

    return lie


# --- what is sent --------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, CHUNK, CHUNK + 1, 256_000])
@pytest.mark.parametrize("make", [io.BytesIO, stream])
def test_blobs_of_any_size(
    size: int, make: Callable[[bytes], BinaryIO], server: HostileRegistry
) -> None:
    data = DATA[:size]
    what = Descriptor.of(data, OCTETS)
    told: list[int] = []
    assert repository(server).put_blob(what, make(data), tick=told.append)
    assert held(server) == {str(what.digest): data}
    assert sum(told) == size
    assert not repository(server).put_blob(what, stream(b""))
    assert patches(server) == ([None] if size > SMALL else [])


def test_data_is_read_from_where_it_stands(server: HostileRegistry) -> None:
    data = io.BytesIO(b"before" + DATA)
    data.seek(6)
    server.lies("PATCH", breaks_after(10), times=1)
    assert push(server, data)
    assert held(server) == {str(WHAT.digest): DATA}


def test_other_algorithms(server: HostileRegistry) -> None:
    digest = Digest("sha512", hashlib.sha512(DATA).hexdigest())
    what = Descriptor(media_type=OCTETS, digest=digest, size=len(DATA))
    # This registry knows sha256 alone, and says so.
    with pytest.raises(FetchError, match="DIGEST_INVALID"):
        push(server, what=what)


def test_a_proxy_that_takes_no_large_body(server: HostileRegistry) -> None:
    server.lies("PATCH", lies.status(413), times=1)
    assert push(server)
    assert patches(server) == [None, *(f"{n}-{n + 59_999}" for n in CHUNKS), LAST]
    assert held(server) == {str(WHAT.digest): DATA}


def test_a_registry_that_wants_larger_chunks(server: HostileRegistry) -> None:
    server.lies("POST", lies.header("OCI-Chunk-Min-Length", "100000"))
    server.lies("PATCH", lies.status(413), times=1)
    assert push(server)
    assert patches(server)[1:] == ["0-99999", "100000-199999", "200000-255999"]


def test_a_manifest_is_no_blob(server: HostileRegistry) -> None:
    what = Descriptor.of(b"{}", "application/vnd.oci.image.manifest.v1+json")
    with pytest.raises(ValueError, match="is a manifest, not a blob"):
        push(server, b"{}", what=what)


# --- what is not sent ----------------------------------------------------------------


@pytest.mark.parametrize("size", [SMALL, len(DATA)])
@pytest.mark.parametrize("make", [io.BytesIO, stream])
def test_other_bytes_than_promised(
    size: int, make: Callable[[bytes], BinaryIO], server: HostileRegistry
) -> None:
    what = Descriptor.of(DATA[:size], OCTETS)
    wrong = bytes(size)
    with pytest.raises(DigestMismatchError, match="expected sha256:") as why:
        push(server, make(wrong), what=what)
    assert "nothing was stored" in (why.value.hint or "")
    with pytest.raises(LengthMismatchError, match="more bytes"):
        push(server, make(DATA[:size] + b"x"), what=what)
    with pytest.raises(LengthMismatchError, match=f"has {size - 1} bytes, expected"):
        push(server, make(DATA[: size - 1]), what=what)
    assert held(server) == {}
    assert len(server.asked("DELETE .*/uploads/")) == 3


def test_data_that_can_not_be_read(server: HostileRegistry) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    for size in (SMALL, len(DATA)):
        with pytest.raises(StorageError, match="can't read what is sent"):
            push(server, Broken(), what=Descriptor.of(DATA[:size], OCTETS))
    assert held(server) == {}


def test_data_of_a_registry_that_fails(server: HostileRegistry) -> None:
    """A copy's error is the source's, and says so."""

    class Fails(Stream):
        def readinto(self, buffer: Any) -> int:
            raise FetchError(
                "https://far.example/x broke off", url="https://far.example/x"
            )

    for size in (SMALL, len(DATA)):
        with pytest.raises(FetchError, match=r"^https://far\.example/x broke off$"):
            push(
                server,
                cast("BinaryIO", Fails(b"")),
                what=Descriptor.of(DATA[:size], OCTETS),
            )
    assert len(server.asked("POST")) == 2
    assert len(server.asked("DELETE .*/uploads/")) == 2


# --- after a break -------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 30_000, 255_999])
def test_what_broke_off_goes_on(count: int, server: HostileRegistry) -> None:
    server.lies("PATCH", breaks_after(count), times=1)
    told: list[int] = []
    client = repository(server)
    assert client.put_blob(WHAT, io.BytesIO(DATA), tick=told.append)
    assert held(server) == {str(WHAT.digest): DATA}
    assert patches(server) == [None, f"{count}-255999"]
    assert sum(told) == len(DATA)
    assert len(server.asked("POST")) == 1


def test_what_brought_nothing_goes_in_chunks(server: HostileRegistry) -> None:
    server.lies("PATCH", breaks_after(0), times=1)
    assert push(server)
    assert patches(server)[1:] == [*(f"{n}-{n + 59_999}" for n in CHUNKS), LAST]

    def sixth(talk: Conversation) -> None:
        # In a chunk, after others that are kept.
        if len(server.asked("PATCH")) == 4:
            breaks_after(20_000)(talk)
        else:
            talk.tell(talk.truth())

    server.of(PATH).blobs.clear()
    server.seen.clear()
    server.lies("PATCH", sixth)
    server.lies("PATCH", breaks_after(0), times=1)
    assert push(server)
    assert str(patches(server)[4]).startswith("140000-")
    assert held(server) == {str(WHAT.digest): DATA}


def test_a_registry_that_counts_wrongly(server: HostileRegistry) -> None:
    """As ECR does: what it has is not what it says."""
    server.lies("PATCH", breaks_after(30_000), times=1)
    server.lies("GET .*/uploads/", lies.header("Range", "0-19999"))

    def takes_anything(talk: Conversation) -> None:
        talk.server.uploads[talk.path.rpartition("/")[2]] += talk.read_body()
        talk.say(201, b"", {"Location": talk.path})

    server.lies("PATCH", takes_anything)
    server.lies("PATCH", breaks_after(30_000), times=1)
    assert push(server)
    assert held(server) == {str(WHAT.digest): DATA}
    assert len(server.asked("POST")) == 2


def test_breaks_without_end(server: HostileRegistry) -> None:
    server.lies("PATCH", breaks_after(0))
    with pytest.raises(FetchError, match=r"(?i)reset|closed|broken|ended|left"):
        push(server)
    assert len(patches(server)) == 3
    assert held(server) == {}


def test_breaks_that_make_progress(server: HostileRegistry) -> None:
    """However often: only attempts that brought nothing are counted."""
    server.lies("PATCH", breaks_after(20_000), times=10)
    assert push(server)
    assert held(server) == {str(WHAT.digest): DATA}


def test_who_can_not_read_again_gets_the_error(server: HostileRegistry) -> None:
    server.lies("PATCH", breaks_after(10), times=1)
    with pytest.raises(FetchError, match="can't reach") as caught:
        push(server, stream(DATA))
    assert caught.value.url.startswith("oci://")
    assert held(server) == {}


@pytest.mark.parametrize(
    ("status", "is_tried"),
    [(500, True), (503, True), (429, True), (416, True), (404, True), (400, False)],
)
def test_answers_in_the_midst(
    status: int, is_tried: bool, server: HostileRegistry
) -> None:
    server.lies("PATCH", lies.status(status), times=1)
    if is_tried:
        assert push(server)
        assert held(server) == {str(WHAT.digest): DATA}
        return
    with pytest.raises(FetchError, match=f"answered {status}") as caught:
        push(server)
    assert caught.value.status == status
    assert len(server.asked("PATCH")) == 1


def test_a_session_that_is_gone_is_begun_again(server: HostileRegistry) -> None:
    def forget(talk: Conversation) -> None:
        talk.server.uploads.clear()
        talk.hang_up()

    server.lies("PATCH", forget, times=1)
    told: list[int] = []
    assert repository(server).put_blob(WHAT, io.BytesIO(DATA), tick=told.append)
    assert len(server.asked("POST")) == 2
    assert sum(told) == len(DATA)


@pytest.mark.parametrize(
    "said",
    [{"Range": "0-999999"}, {"Range": "7-8"}, {"Range": ""}, {"Location": ""}],
)
def test_a_status_that_makes_no_sense(
    said: dict[str, str], server: HostileRegistry
) -> None:
    server.lies("PATCH", breaks_after(10), times=1)
    for name, text in said.items():
        server.lies("GET .*/uploads/", lies.header(name, text))
    assert push(server)
    assert held(server) == {str(WHAT.digest): DATA}


def test_a_registry_that_lost_what_it_had(server: HostileRegistry) -> None:
    """It stands before the chunk that broke off: everything is read again."""

    def loses(talk: Conversation) -> None:
        if len(server.asked("PATCH")) == 4:
            upload = talk.path.rpartition("/")[2]
            talk.server.uploads[upload] = DATA[:100]
            talk.hang_up()
        else:
            talk.tell(talk.truth())

    server.lies("PATCH", loses)
    server.lies("PATCH", breaks_after(0), times=1)
    assert push(server)
    assert held(server) == {str(WHAT.digest): DATA}
    assert str(patches(server)[4]).startswith("100-")


def test_a_session_that_can_not_be_asked_for(server: HostileRegistry) -> None:
    server.lies("PATCH", breaks_after(10))
    server.lies("GET .*/uploads/", lies.status(503))
    with pytest.raises(FetchError, match=f"oci://{server.host}.*answered 503"):
        push(server)
    server.lies("POST", lies.status(403))
    with pytest.raises(FetchError, match=r"\(upload\) answered 403") as caught:
        push(server)
    assert "docker login" in (caught.value.hint or "")


def test_who_waits_may_lose_patience(
    server: HostileRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_LOOK", 0.01)
    server.lies("PATCH", breaks_after(0))

    def impatient(_: int) -> None:
        if server.asked("PATCH"):
            raise KeyboardInterrupt

    client = repository(server, longest_delay=5)
    with pytest.raises(KeyboardInterrupt):
        client.put_blob(WHAT, io.BytesIO(DATA), tick=impatient)
    assert held(server) == {}


def test_an_answer_that_was_lost(server: HostileRegistry) -> None:
    def after_all(talk: Conversation) -> None:
        talk.truth()
        talk.hang_up()

    server.lies("PUT", after_all, times=1)
    assert push(server)
    assert len(server.asked("POST")) == 1
    small = Descriptor.of(b"x", OCTETS)
    server.lies("PUT", after_all, times=1)
    assert push(server, b"x", what=small)
    assert set(held(server)) == {str(WHAT.digest), str(small.digest)}


@pytest.mark.parametrize("size", [1, len(DATA)])
def test_an_end_that_is_refused(size: int, server: HostileRegistry) -> None:
    what = Descriptor.of(DATA[:size], OCTETS)
    server.lies("PUT", lies.status(400))
    with pytest.raises(FetchError, match="answered 400"):
        push(server, DATA[:size], what=what)
    server.is_honest_again()
    server.lies("PUT", lies.status(503), times=1)
    assert push(server, DATA[:size], what=what)


def test_a_token_that_ends_in_the_midst(
    server: HostileRegistry, logged_in: Callable[..., None]
) -> None:
    server.login, server.tokens = LOGIN, True
    logged_in(server.host)

    def expire(talk: Conversation) -> None:
        breaks_after(30_000)(talk)
        talk.server.expire_tokens()

    server.lies("PATCH", expire, times=1)
    assert push(server)
    assert held(server) == {str(WHAT.digest): DATA}
    assert patches(server) == [None, "30000-255999"]


def test_a_password_that_ends_in_the_midst(
    server: HostileRegistry, logged_in: Callable[..., None]
) -> None:
    server.login = LOGIN
    logged_in(server.host)

    def change(talk: Conversation) -> None:
        breaks_after(30_000)(talk)
        talk.server.login = ("plant", "another")

    server.lies("PATCH", change, times=1)
    with pytest.raises(FetchError, match="401") as caught:
        push(server)
    assert "docker login" in (caught.value.hint or "")


def test_a_proxy_that_takes_nothing(server: HostileRegistry) -> None:
    server.lies("PATCH|PUT", lies.status(413))
    for make, size in ((stream, len(DATA)), (io.BytesIO, len(DATA)), (stream, 10)):
        with pytest.raises(RefusedError, match="too large for the registry") as caught:
            push(server, make(DATA[:size]), what=Descriptor.of(DATA[:size], OCTETS))
        assert "client_max_body_size" in (caught.value.hint or "")


def test_a_registry_that_stops_taking(server: HostileRegistry) -> None:
    server.lies("PATCH", lies.silent)
    with pytest.raises(TooSlowError, match="oci://"):
        push(server, read_timeout=0.2, response_timeout=0.2, tries=1)


def test_urls_of_sessions_are_in_no_error(server: HostileRegistry) -> None:
    server.lies("POST", lies.header("Location", f"/v2/{PATH}/blobs/uploads/x?k=secret"))
    for lie in (lies.status(500), lies.hangs_up, lies.status(400)):
        server.lies("PATCH", lie)
        with pytest.raises(FetchError) as caught:
            push(server)
        text = f"{caught.value} {caught.value.facts()}"
        assert "secret" not in text
        assert f"oci://{server.host}/{PATH}@{WHAT.digest}" in text


# --- where it goes -------------------------------------------------------------------


def locations(server: HostileRegistry) -> Iterator[str]:
    port = server.server_port
    yield ""
    yield "https://127.0.0.1/x"
    yield f"http://localhost:{port}/x"
    yield f"http://user:password@127.0.0.1:{port}/x"
    yield f"//127.0.0.1:{port + 1}/x"
    yield "http://[::1/x"
    yield "http://127.0.0.1:99999/x"
    yield f"/v2/{PATH}/" + "x" * 9000
    yield "/v2/ä"


def test_locations_that_are_not_gone_to(server: HostileRegistry) -> None:
    for text in locations(server):
        server.seen.clear()
        server.lies("POST", lies.header("Location", text))
        with pytest.raises(FetchError) as caught:
            push(server)
        assert "password" not in str(caught.value)
        assert {one.method for one in server.seen} == {"HEAD", "POST"}


def test_locations_in_any_spelling(server: HostileRegistry) -> None:
    for prefix in ("", server.url, server.url.upper().replace("HTTP:", "http:")):

        def spelt(talk: Conversation, prefix: str = prefix) -> None:
            truth = talk.truth()
            headers = {**truth.headers, "Location": prefix + truth.headers["Location"]}
            talk.tell(truth._replace(headers=headers))

        server.lies("POST|PATCH", spelt)
        server.of(PATH).blobs.clear()
        assert push(server)


# --- mounted -------------------------------------------------------------------------


def test_a_blob_of_another_repository_is_mounted(server: HostileRegistry) -> None:
    server.of("acme/base").add_blob(DATA)
    client = repository(server)
    others = [
        "oci://registry.example/acme/far",
        "acme/none",
        f"oci://{server.host}/{PATH}",
        f"oci://{server.host}/acme/base",
    ]
    assert not client.put_blob(WHAT, stream(b""), mount_from=others)
    assert held(server) == {str(WHAT.digest): DATA}
    assert not server.asked("PATCH|PUT|far")


def test_what_was_seen_elsewhere_in_the_registry_is_mounted(
    server: HostileRegistry,
) -> None:
    """Copies within one registry, and releases that share layers, send nothing."""
    server.of("acme/base").add_blob(DATA)
    with repository(server, path="acme/base").open_blob(WHAT) as seen:
        assert seen.read() == DATA
    assert not repository(server).put_blob(WHAT, stream(b""))
    assert held(server) == {str(WHAT.digest): DATA}
    # The place that had it last is asked, and has lost it meanwhile.
    server.of("acme/base").blobs.clear()
    server.of(PATH).blobs.clear()
    assert repository(server, path="acme/base").put_blob(WHAT, io.BytesIO(DATA))
    assert held(server) == {}
    server.of("acme/base").blobs.clear()
    assert repository(server).put_blob(WHAT, io.BytesIO(DATA))


def test_a_mount_that_is_not_made(server: HostileRegistry) -> None:
    server.of("acme/base").add_blob(DATA)
    server.lies("POST .*mount=", _opened)
    assert repository(server).put_blob(WHAT, io.BytesIO(DATA), mount_from=["acme/base"])
    assert held(server) == {str(WHAT.digest): DATA}


def _opened(talk: Conversation) -> None:
    talk.server.uploads["one"] = b""
    talk.say(202, b"", {"Location": f"/v2/{PATH}/blobs/uploads/one"})


def test_a_repository_that_may_not_be_read_is_not_mounted(
    server: HostileRegistry,
) -> None:
    server.lies("HEAD .*/acme/closed/", lies.status(403))
    assert repository(server).put_blob(
        WHAT, io.BytesIO(DATA), mount_from=["acme/closed"]
    )
    server.of(PATH).blobs.clear()
    server.lies("HEAD .*/acme/closed/", lies.status(500))
    with pytest.raises(FetchError, match="500"):
        repository(server).put_blob(WHAT, io.BytesIO(DATA), mount_from=["acme/closed"])
