"""Mirrors: which place a location means, and who is asked."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import pytest

from margo_supplychain.errors import (
    CancelledError,
    FetchError,
    FormatError,
    OciFormatError,
    TooLargeError,
    TooSlowError,
)
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.storage.content_store import ContentStore
from margo_supplychain.transport import mirrors as module
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.transport.mirrors import (
    MAX_PLACES,
    MAX_PREFIXES,
    MAX_SOURCES,
    NO_MIRRORS,
    FirstAnswering,
    MirroredContent,
    MirrorMap,
    open_mirrored_source,
)
from margo_supplychain.transport.network import Network, RegistryAccess
from margo_supplychain.transport.patience import Impatient, Silence
from tests.world import MemorySource
from tests.world.sources import Files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.formats.names import TargetPath
    from margo_supplychain.transport.protocols import Source

VENDOR = "oci://registry.acme.example/acme"
PLANT = "oci://mirror.plant:5000/acme"
DATA = b"content"
WHAT = Descriptor.of(DATA, "application/wasm")


# --- the map -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "places"),
    [
        (VENDOR, (PLANT, "stick")),
        (f"{VENDOR}/pump", (f"{PLANT}/pump", "stick")),
        (f"{VENDOR}/pump:1.0.0", (f"{PLANT}/pump:1.0.0", "stick")),
        (
            f"{VENDOR}/pump@{WHAT.digest}",
            (f"{PLANT}/pump@{WHAT.digest}", "stick"),
        ),
        # The longest prefix wins, on whole steps alone.
        (f"{VENDOR}/line/web", ("oci://lines.plant/x/web",)),
        (f"{VENDOR}/lines", (f"{PLANT}/lines", "stick")),
        (f"{VENDOR}-other/pump", (f"{VENDOR}-other/pump",)),
        ("oci://registry.acme.example:443/acme", (PLANT, "stick")),
        ("oci://registry.acme.example:444/acme", None),
        ("oci://ports.example/x/web", ("by-port",)),
        ("oci://[::1]:443/web", ("loopback",)),
        # A whole host.
        ("oci://docker.example/library/web", ("oci://mirror.plant:5000/library/web",)),
        ("oci://docker.example.evil/library/web", None),
        # What is no registry is what it says.
        ("https://updates.example/acme", None),
        ("trust", None),
    ],
)
def test_places(location: str, places: tuple[str, ...] | None) -> None:
    mirrors = MirrorMap(
        {
            VENDOR: [PLANT, "stick"],
            f"{VENDOR}/line": ["oci://lines.plant/x"],
            "oci://docker.example": ["oci://mirror.plant:5000"],
            "oci://ports.example:443/x": ["by-port"],
            "oci://[::1]": ["loopback"],
        }
    )
    assert mirrors
    assert mirrors.places(location) == (places or (location,))


def test_no_mirrors() -> None:
    assert not NO_MIRRORS
    assert NO_MIRRORS.places(VENDOR) == (VENDOR,)


@pytest.mark.parametrize(
    ("prefix", "places", "text"),
    [
        ("https://registry.example", ["a"], "no prefix of a location"),
        (f"{VENDOR}:1", ["a"], "names one manifest"),
        (f"{VENDOR}@{WHAT.digest}", ["a"], "names one manifest"),
        (f"{VENDOR}/", ["a"], "is not a name"),
        ("oci://Registry.example", ["a"], "lower case"),
        (VENDOR, [], "has 0 places, expected 1 to 16"),
        (VENDOR, ["a"] * (MAX_PLACES + 1), "has 17 places"),
        (VENDOR, [""], "is no place"),
        (VENDOR, ["a\nb"], "is no place"),
        (VENDOR, ["oci://mirror.plant"], "names no repository"),
        (VENDOR, [f"{PLANT}:1"], "names one manifest"),
    ],
)
def test_a_map_that_is_none(prefix: str, places: list[str], text: str) -> None:
    with pytest.raises(FormatError, match=text):
        MirrorMap({prefix: places})


def test_a_map_has_a_limit() -> None:
    table = {f"oci://r{number}.example": ["a"] for number in range(MAX_PREFIXES + 1)}
    with pytest.raises(FormatError, match="1001 prefixes are mapped, more than 1000"):
        MirrorMap(table)


def test_a_location_that_is_no_reference() -> None:
    with pytest.raises(OciFormatError, match="is not a name"):
        NO_MIRRORS.places("oci://registry.example/UPPER")


# --- content -------------------------------------------------------------------------


class Named(MemorySource):
    """A source that knows what it was opened as."""

    def __init__(self, url: str, files: Files | None = None) -> None:
        super().__init__(files or Files(blobs={str(WHAT.digest): DATA}))
        self.url = url


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is opened, each time."""
    found: list[str] = []

    def open_source(url: str, *, network: object = None) -> Source:
        del network
        found.append(url)
        if url.startswith("nonsense:"):
            raise FormatError("nonsense: is no kind of source")
        return cast("Source", Named(url))

    monkeypatch.setattr(module, "open_source", open_source)
    return found


def urls(content: MirroredContent, *locations: str) -> list[str]:
    return [one.url for one in content.sources(locations)]


def test_locations_in_their_order(opened: list[str]) -> None:
    before, last = Named("before"), Named("last")
    content = MirroredContent(
        MirrorMap({VENDOR: [PLANT, "stick"]}), before=[before], always=[last]
    )
    asked = (
        "https://updates.example/acme",
        f"{VENDOR}/pump:1.0.0",
        "oci://other.example/web",
        f"{VENDOR}/pump",
    )
    expected = [
        "before",
        "https://updates.example/acme",
        f"{PLANT}/pump",
        "stick",
        "oci://other.example/web",
        "last",
    ]
    assert urls(content, *asked) == expected
    assert urls(content, *asked) == expected
    assert opened == expected[1:-1]  # each once


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc",
        "http://169.254.169.254/latest",
        "oci-layout:/srv",
        "/srv/content",
        "s3://bucket/acme",
        "oci://registry.example/UPPER",
        "oci://user:secret@registry.example/acme",
        f"{VENDOR}@sha256:none",
    ],
)
def test_what_no_record_may_name(opened: list[str], location: str) -> None:
    """A location is a hint: what can't be asked, or must not be, is passed over."""
    content = MirroredContent(always=[Named("last")])
    assert urls(content, location) == ["last"]
    assert opened == []


HERE = "oci://127.0.0.1:5000/acme/pump"


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, False),
        ({"trust": "oci://registry.example/acme/trust"}, False),
        ({"trust": "/srv/trust"}, False),
        ({"trust": "https://[not-a-host/"}, False),
        ({"network": Network()}, False),
        ({"network": Network(registries={"127.0.0.1": RegistryAccess()})}, False),
        # What the owner names himself.
        ({"trust": "oci://localhost:5001/acme/trust"}, True),
        ({"before": [Named("http://[::1]:8080/acme/")]}, True),
        ({"network": Network(registries={"127.0.0.1:5000": RegistryAccess()})}, True),
        ({"mirrors": MirrorMap({VENDOR: [HERE.removesuffix("/pump")]})}, None),
    ],
)
def test_this_machine_on_a_records_word(
    opened: list[str], options: dict[str, Any], asked: bool | None
) -> None:
    content = MirroredContent(always=[Named("last")], **options)
    first = [f"{VENDOR}/pump"] if asked is None else [HERE]
    found = urls(content, *first)
    assert (HERE in found) is (asked is not False)


def test_a_mapped_host_is_not_asked_over_https(opened: list[str]) -> None:
    content = MirroredContent(
        MirrorMap({VENDOR: [PLANT], "oci://[2001:db8::1]:5000": ["stick"]}),
        always=[Named("last")],
    )
    mapped = (
        "https://registry.acme.example/downloads",
        "https://registry.acme.example:443/acme",
        "https://Registry.ACME.example./acme",
        "https://[2001:db8::1]:5000/acme",
    )
    assert urls(content, *mapped) == ["last"]
    others = [
        "https://registry.acme.example:8443/acme",
        "https://acme.example/acme",
        "https://[2001:db8::1]/acme",
    ]
    assert urls(content, *others) == [*others, "last"]


def test_a_location_that_can_not_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, *, network: object = None) -> Source:
        raise FormatError(f"{url} holds credentials")

    monkeypatch.setattr(module, "open_source", refuse)
    content = MirroredContent(always=[Named("last")])
    assert urls(content, "https://user:secret@updates.example") == ["last"]


def test_a_map_that_can_not_be_opened_is_the_owners(opened: list[str]) -> None:
    content = MirroredContent(MirrorMap({VENDOR: ["nonsense:place"]}))
    with pytest.raises(FormatError, match="is no kind of source"):
        content.sources([VENDOR])


def test_never_empty(opened: list[str]) -> None:
    content = MirroredContent()
    for locations in ((), ("file:///etc",)):
        with pytest.raises(FetchError, match="no place is known") as caught:
            content.sources(locations)
        assert caught.value.unreachable
        assert "device.toml" in (caught.value.hint or "")


def test_bounded(opened: list[str]) -> None:
    places = [f"place-{number}" for number in range(MAX_PLACES)]
    mirrors = MirrorMap(
        {
            f"{VENDOR}/{number}": [f"{place}-{number}" for place in places]
            for number in range(8)
        }
    )
    content = MirroredContent(mirrors, always=[Named("last")])
    found = urls(content, *(f"{VENDOR}/{number}" for number in range(8)))
    assert len(found) == MAX_SOURCES + 1
    assert found[-1] == "last"


def test_a_layout_stands_in_for_a_registry(tmp_path: Path) -> None:
    store = ContentStore.create(tmp_path / "stick")
    store.put(WHAT, io.BytesIO(DATA))
    content = MirroredContent(
        MirrorMap({VENDOR: [f"oci-layout:{store.directory}"]}),
    )
    (source,) = content.sources([f"{VENDOR}/pump:1"])
    with source.blob(WHAT) as stream:
        assert stream.read() == DATA


# --- metadata ------------------------------------------------------------------------


def test_an_unmapped_source_is_itself(tmp_path: Path) -> None:
    source = open_mirrored_source(str(tmp_path), NO_MIRRORS)
    assert isinstance(source, DirectorySource)


def test_a_mapped_source_is_its_mirrors(opened: list[str]) -> None:
    mirrors = MirrorMap({VENDOR: [PLANT, "stick"]})
    source = open_mirrored_source(f"{VENDOR}/trust", mirrors)
    assert isinstance(source, FirstAnswering)
    assert source.url == f"{PLANT}/trust"
    assert opened == [f"{PLANT}/trust", "stick"]


class Story:
    """Two mirrors of the same files."""

    def __init__(self) -> None:
        files = Files(
            metadata={"timestamp.json": b"{}"},
            targets={("a", WHAT.digest.hex): DATA},
            blobs={str(WHAT.digest): DATA},
        )
        self.first = Named("first", files)
        self.second = Named("second", files.copy())
        self.source = FirstAnswering([self.first, self.second])


QUESTIONS: dict[str, Callable[[Source], bytes]] = {}


def question(act: Callable[[Source], bytes]) -> Callable[[Source], bytes]:
    QUESTIONS[act.__name__] = act
    return act


@question
def metadata(source: Source) -> bytes:
    return source.metadata("timestamp.json", limit=10)


@question
def target(source: Source) -> bytes:
    with source.target(cast("TargetPath", "a"), WHAT, start=2) as stream:
        return stream.read()


@question
def blob(source: Source) -> bytes:
    with source.blob(WHAT, start=2) as stream:
        return stream.read()


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_first_that_answers(name: str) -> None:
    story, ask = Story(), QUESTIONS[name]
    expected = ask(cast("Source", story.first))
    assert expected
    story.first.asked.clear()
    assert ask(story.source) == expected
    assert (len(story.first.asked), story.second.asked) == (1, [])
    story.first.down = True
    assert ask(story.source) == expected
    assert story.source.url == "second"
    # Stays with it, also when the first is back, until the next refresh.
    story.first.down = False
    asked = len(story.first.asked)
    assert ask(story.source) == expected
    is_refresh = name == "metadata"
    assert len(story.first.asked) == asked + is_refresh
    assert story.source.url == ("first" if is_refresh else "second")
    # Until it is gone.
    story.second.down = True
    assert ask(story.source) == expected
    assert story.source.url == "first"


@pytest.mark.parametrize("name", QUESTIONS)
def test_nobody_answers(name: str) -> None:
    story = Story()
    story.first.down = story.second.down = True
    with pytest.raises(FetchError, match="the wire is cut") as caught:
        QUESTIONS[name](story.source)
    assert caught.value.unreachable


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_refusal_is_an_answer(name: str) -> None:
    story = Story()
    story.first.down = True
    story.second.forbidden = True
    with pytest.raises(FetchError, match="forbidden"):
        QUESTIONS[name](story.source)
    assert story.source.url == "second"
    story.second.files.metadata.clear()
    story.second.forbidden = False
    with pytest.raises(FetchError) as caught:
        story.source.metadata("timestamp.json", limit=10)
    assert caught.value.missing


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_is_no_answer(status: int) -> None:
    story = Story()

    def busy(what: str) -> None:
        raise FetchError(f"{what} answered {status}", url="first", status=status)

    story.first._ask = busy  # type: ignore[method-assign]  # as a gateway says it
    assert metadata(story.source) == b"{}"
    assert story.source.url == "second"
    story.second.down = True
    with pytest.raises(FetchError, match=f"answered {status}"):
        metadata(story.source)


def test_each_refresh_begins_with_the_best() -> None:
    """And stays with who answered to its end."""
    story = Story()
    for files in (story.first.files, story.second.files):
        files.metadata |= {"2.root.json": b"2", "4.snapshot.json": b"4"}

    def refresh() -> None:
        for name in ("2.root.json", "3.root.json", "timestamp.json", "4.snapshot.json"):
            with suppress(FetchError):
                story.source.metadata(name, limit=10)

    story.first.down = True
    refresh()
    assert len(story.first.asked) == 1
    assert story.source.url == "second"
    story.first.down = False
    refresh()
    assert story.source.url == "first"
    assert len(story.first.asked) == 1 + 4
    # One that ended at its first question is over, too.
    story.first.down = story.second.down = True
    with pytest.raises(FetchError):
        story.source.metadata("2.root.json", limit=10)
    story.first.down = story.second.down = False
    refresh()
    assert story.source.url == "first"


def test_a_caller_who_stops_is_not_sent_on() -> None:
    def stop(size: int) -> None:
        raise CancelledError(f"after {size} bytes")

    story = Story()
    with pytest.raises(CancelledError):
        story.source.metadata("timestamp.json", limit=10, tick=stop)
    assert story.second.asked == []


def test_needs_a_source() -> None:
    with pytest.raises(ValueError, match="at least one source"):
        FirstAnswering([])


# --- what is no answer ---------------------------------------------------------------


def status(number: int) -> Callable[[MemorySource], None]:
    """A source that says this of everything."""

    def close(source: MemorySource) -> None:
        def refuse(what: str) -> None:
            source.asked.append(what)
            raise FetchError(f"answered {number}", url=source.url, status=number)

        source._ask = refuse  # type: ignore[method-assign]

    return close


def empty(source: MemorySource) -> None:
    source.files.metadata.clear()


def slow(source: MemorySource) -> None:
    def wait(what: str) -> None:
        raise TooSlowError(f"{what} is slow", url=source.url)

    source._ask = wait  # type: ignore[method-assign]


CLOSED = {
    "401": status(401),
    "403": status(403),
    "429": status(429),
    "500": status(500),
    "503": status(503),
    "empty": empty,
    "slow": slow,
}


@pytest.mark.parametrize("close", CLOSED.values(), ids=CLOSED)
def test_who_tells_nothing_is_left_for_the_next(
    close: Callable[[MemorySource], None],
) -> None:
    """Roots and timestamp are those of one repository."""
    story = Story()
    story.second.files.metadata["2.root.json"] = b"root"
    close(story.first)
    assert story.source.metadata("2.root.json", limit=10) == b"root"
    assert story.source.url == "second"
    assert [str(one) for one in story.source.problems]
    with pytest.raises(FetchError, match=r"no 3\.root"):
        story.source.metadata("3.root.json", limit=10)
    assert not story.source.problems
    asked = len(story.second.asked)
    assert story.source.metadata("timestamp.json", limit=10) == b"{}"
    # It came along with the answer that there is no newer root.
    assert len(story.second.asked) == asked
    # A timestamp alone begins anew, and finds the same.
    assert story.source.metadata("timestamp.json", limit=10) == b"{}"
    assert len(story.second.asked) == asked + 1


def test_a_timestamp_above_its_limit() -> None:
    story = Story()
    story.first.files.metadata["timestamp.json"] = b"x" * 20
    with pytest.raises(FetchError, match=r"no 2\.root"):
        story.source.metadata("2.root.json", limit=30)
    with pytest.raises(TooLargeError):
        story.source.metadata("timestamp.json", limit=10)
    # Above both limits: told to who asks for it, and nobody else is asked.
    with pytest.raises(FetchError, match=r"no 2\.root"):
        story.source.metadata("2.root.json", limit=10)
    with pytest.raises(TooLargeError):
        story.source.metadata("timestamp.json", limit=10)
    assert story.second.asked == []


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("down", "401", "answered 401"),
        ("401", "down", "answered 401"),
        ("empty", "403", "answered 403"),
        ("401", "403", "answered 401"),
        ("down", "empty", "no timestamp.json"),
        ("empty", "down", "no timestamp.json"),
        ("down", "down", "the wire is cut"),
    ],
)
def test_nobody_tells_anything(first: str, second: str, said: str) -> None:
    """An answer, if only a refusal, keeps a device from deciding on its copies."""
    story = Story()
    for name, source in ((first, story.first), (second, story.second)):
        if name == "down":
            source.down = True
        else:
            CLOSED[name](source)
    for _ in range(2):
        for file in ("2.root.json", "timestamp.json"):
            with pytest.raises(FetchError, match=said) as caught:
                story.source.metadata(file, limit=10)
            assert caught.value.unreachable == (said == "the wire is cut")
            assert len(story.source.problems) == 2


def test_who_was_silent_is_asked_when_nobody_else_answers() -> None:
    story, silence = Story(), Silence()
    held = [
        Impatient(cast("Source", one), host=one.url, silence=silence)
        for one in (story.first, story.second)
    ]
    source = FirstAnswering(held)
    story.first.down = True
    assert metadata(source) == b"{}"
    assert metadata(source) == b"{}"
    assert len(story.first.asked) == 1
    story.first.down, story.second.down = False, True
    assert metadata(source) == b"{}"
    assert source.url == "first"
