"""Fetching: several blobs at once, from where they lie, going on where it broke off."""

from __future__ import annotations

import io
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest

from margo_supplychain.errors import (
    BudgetError,
    CancelledError,
    DigestMismatchError,
    FetchError,
    FormatError,
    LengthMismatchError,
    UnsafeArchiveError,
)
from margo_supplychain.formats import oci
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.storage.content_store import blob_path
from margo_supplychain.storage.parts import part_path
from margo_supplychain.verify.limits import Control, Limits
from tests.attacks.packages import COMPOSE, artifact, component, compose, member, packed
from tests.attacks.standing import offered
from tests.world import MemorySource, World
from tests.world.repository import WASM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from margo_supplychain.verify.results import VerifiedContent
    from tests.world import Device

    Each = Callable[[int, Callable[[int], None]], object]

MIB = 1 << 20
PATIENCE = 20.0


class Story:
    """A device, and a release of layers that are told apart by their number."""

    def __init__(self, tmp_path: Path, layers: Sequence[bytes]) -> None:
        self.world = World()
        self.layers = [Descriptor.of(data, WASM) for data in layers]
        made = artifact(self.world, [(WASM, None, data) for data in layers])
        self.world.release("1.0.0", artifact=made)
        self.world.publish()
        self.device: Device = self.world.device(tmp_path / "device")

    def fetch(self, **options: Any) -> VerifiedContent:
        verifier = self.device.verifier
        return verifier.fetch(self.device.verify(), self.device.staging, **options)

    def asked(self, source: MemorySource | None = None) -> list[int]:
        """Return which layers a source was asked for, sorted."""
        numbers = {str(one.digest): n for n, one in enumerate(self.layers)}
        asked = (source or self.device.source).asked
        return sorted(numbers[one] for one in asked if one in numbers)

    def here(self) -> list[int]:
        """Return which layers have their names in the staging directory."""
        return [
            number
            for number, one in enumerate(self.layers)
            if blob_path(self.device.staging, one.digest).exists()
        ]

    def waiting(self, each: Each) -> Waiting:
        source = Waiting(self, each)
        self.device.contents = [source]
        return source


class Waiting(MemorySource):
    """Calls `each` with the layer's number and `tick` before it gives anything."""

    def __init__(self, story: Story, each: Each) -> None:
        super().__init__(story.device.source.files)
        self.numbers = {str(one.digest): n for n, one in enumerate(story.layers)}
        self.each = each
        self.opened: list[tuple[int, int]] = []
        self.ended = [threading.Event() for _ in story.layers]

    @contextmanager
    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        number = self.numbers.get(str(what.digest))
        try:
            if number is not None and tick is not None:
                self.opened.append((number, start))
                self.each(number, tick)
            with super().blob(what, start=start, tick=tick) as stream:
                yield stream
        finally:
            if number is not None:
                self.ended[number].set()


def eight(tmp_path: Path) -> Story:
    return Story(tmp_path, [f"layer {number}".encode() for number in range(8)])


# --- several at once -----------------------------------------------------------------


def test_four_at_once(tmp_path: Path) -> None:
    """Four come together at a barrier that fewer would wait at for ever."""
    story = eight(tmp_path)
    gate = threading.Barrier(4, timeout=PATIENCE)
    busy = most = 0
    lock = threading.Lock()

    def each(number: int, tick: Callable[[int], None]) -> None:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        gate.wait()
        with lock:
            busy -= 1

    story.waiting(each)
    content = story.fetch()
    assert most == 4
    assert {one.digest for one in story.layers} < content.digests.keys()


def test_one_at_a_time(tmp_path: Path) -> None:
    """A device may ask for less; its own thread does all of it, in order."""
    story = eight(tmp_path)
    story.device.limits = Limits(parallel=1)
    threads = set()
    source = story.waiting(lambda *_: threads.add(threading.get_ident()))
    story.fetch()
    assert threads == {threading.get_ident()}
    assert [number for number, _ in source.opened] == list(range(8))


def test_callbacks_are_never_called_at_once(tmp_path: Path) -> None:
    story = Story(tmp_path, [os.urandom(MIB) for _ in range(8)])
    inside = 0
    calls: list[str] = []

    def enter() -> None:
        nonlocal inside
        inside += 1
        calls.append(threading.current_thread().name)
        time.sleep(0)  # whoever would come between, comes now
        assert inside == 1
        inside -= 1

    def cancelled() -> bool:
        enter()
        return False

    def progress(what: str, done: int, total: int) -> None:
        enter()
        assert 0 <= done <= total

    story.fetch(control=Control(progress=progress, cancelled=cancelled))
    assert len(set(calls)) > 1


def test_bytes_are_counted_over_all_threads(tmp_path: Path) -> None:
    story = Story(tmp_path, [os.urandom(100_000) for _ in range(8)])
    with pytest.raises(BudgetError, match="read more than its 250000 bytes"):
        story.fetch(control=Control(max_bytes=250_000))
    assert len(story.here()) <= 2


def test_the_first_that_failed_is_told(tmp_path: Path) -> None:
    """Whichever thread was faster: the order of the closure decides."""
    story = eight(tmp_path)
    files = story.device.source.files.blobs
    files[str(story.layers[1].digest)] = b"LAYER 1"
    files[str(story.layers[2].digest)] = b"evil"

    def each(number: int, tick: Callable[[int], None]) -> None:
        if number == 1 or number > 2:
            assert source.ended[2].wait(PATIENCE)
            time.sleep(0.05)  # the failure becomes known

    source = story.waiting(each)
    with pytest.raises(DigestMismatchError) as caught:
        story.fetch()
    assert caught.value.subject == str(story.layers[1].digest)
    # What came before went on to its end, what comes after was stopped.
    assert story.here() == [0]
    assert offered(story.device) == []
    assert not busy()

    files[str(story.layers[1].digest)] = b"layer 1"
    with pytest.raises(LengthMismatchError) as other:
        story.fetch()
    assert other.value.subject == str(story.layers[2].digest)


def busy() -> list[str]:
    """Return the threads that still fetch: none may outlive the call."""
    return [one.name for one in threading.enumerate() if "Executor" in one.name]


def test_cancelling_ends_every_thread(tmp_path: Path) -> None:
    story = eight(tmp_path)
    stop = threading.Event()
    waiting = threading.Barrier(4, action=stop.set, timeout=PATIENCE)

    def each(number: int, tick: Callable[[int], None]) -> None:
        waiting.wait()
        while True:  # a source that waits for ever, but says so
            tick(0)
            time.sleep(0.01)

    story.waiting(each)
    story.device.source.files.blobs.pop("none", None)
    began = time.monotonic()
    with pytest.raises(CancelledError, match="the caller cancelled"):
        story.fetch(control=Control(cancelled=stop.is_set))
    assert time.monotonic() - began < PATIENCE / 2
    assert not busy()
    assert story.here() == []


def test_a_caller_that_cancels_once(tmp_path: Path) -> None:
    """The answer is kept: not every thread gets to ask."""
    story = eight(tmp_path)
    answers = iter([False] * 20 + [True] + [False] * 10_000)

    def each(number: int, tick: Callable[[int], None]) -> None:
        while True:
            tick(0)
            time.sleep(0.001)

    story.waiting(each)
    with pytest.raises(CancelledError, match="the caller cancelled"):
        story.fetch(control=Control(cancelled=lambda: next(answers)))
    assert not busy()


def test_the_deadline_holds_for_all(tmp_path: Path) -> None:
    story = eight(tmp_path)
    limit = time.monotonic() + PATIENCE

    def each(number: int, tick: Callable[[int], None]) -> None:
        while time.monotonic() < limit:
            tick(0)
            time.sleep(0.01)

    story.waiting(each)
    with pytest.raises(BudgetError, match=r"took longer than its 0:00:00\.3"):
        story.fetch(control=Control(deadline=timedelta(seconds=0.3)))
    assert not busy()
    assert time.monotonic() < limit


def test_a_source_that_does_not_tick_is_looked_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller's thread looks at the clock; the source ends when it wakes up."""
    monkeypatch.setattr("margo_supplychain.verify.parallel._LOOK", 0.01)
    story = eight(tmp_path)
    asked = threading.Event()

    def each(number: int, tick: Callable[[int], None]) -> None:
        assert asked.wait(PATIENCE)

    def cancelled() -> bool:
        if source.opened and threading.current_thread() is threading.main_thread():
            asked.set()
        return asked.is_set()

    source = story.waiting(each)
    with pytest.raises(CancelledError, match="the caller cancelled"):
        story.fetch(control=Control(cancelled=cancelled))
    assert story.here() == []
    assert not busy()


def test_an_interrupt_ends_every_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("margo_supplychain.verify.parallel._LOOK", 0.01)
    story = eight(tmp_path)

    def each(number: int, tick: Callable[[int], None]) -> None:
        while True:
            tick(0)
            time.sleep(0.01)

    def cancelled() -> bool:
        if source.opened and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return False

    source = story.waiting(each)
    with pytest.raises(KeyboardInterrupt):
        story.fetch(control=Control(cancelled=cancelled))
    assert not busy()


def test_an_error_of_a_callback_is_the_callers(tmp_path: Path) -> None:
    class OwnError(Exception):
        pass

    def progress(what: str, done: int, total: int) -> None:
        raise OwnError(what)

    with pytest.raises(OwnError):
        eight(tmp_path).fetch(control=Control(progress=progress))
    assert not busy()


# --- going on ------------------------------------------------------------------------


class Breaking(MemorySource):
    """Breaks off after so many bytes of each blob, once for each."""

    def __init__(self, device: Device, after: int) -> None:
        super().__init__(device.source.files)
        self.after = after
        self.broken: set[str] = set()
        self.starts: list[int] = []

    @contextmanager
    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        self.starts.append(start)
        with super().blob(what, start=start, tick=tick) as stream:
            name = str(what.digest)
            if name in self.broken or what.size <= self.after:
                yield stream
                return
            self.broken.add(name)
            yield BreakingStream(stream.read(self.after))


class BreakingStream(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        piece = super().read(size)
        if not piece:
            raise FetchError("it broke off", url="memory:")
        return piece

    readinto = None  # type: ignore[assignment]  # so that all of it is read by `read`


def test_a_fetch_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    story = Story(tmp_path, [os.urandom(3 * MIB)])
    source = Breaking(story.device, 2 * MIB)
    story.device.contents = [source]
    with pytest.raises(FetchError, match="it broke off"):
        story.fetch()
    part = part_path(story.device.staging / ".parts", story.layers[0].digest, "memory:")
    assert part.stat().st_size == 2 * MIB
    assert story.here() == []
    assert offered(story.device) == []

    said: list[tuple[str, int, int]] = []
    source.starts.clear()
    control = Control(progress=lambda *told: said.append(told), max_bytes=MIB)
    content = story.fetch(control=control)  # no more than the rest is read
    assert source.starts == [2 * MIB]
    assert said == [(str(story.layers[0].digest), 3 * MIB, 3 * MIB)]
    assert not part.parent.exists()
    with content.open(story.layers[0].digest) as stream:
        assert len(stream.read()) == 3 * MIB


def test_another_source_goes_on_in_the_same_run(tmp_path: Path) -> None:
    story = Story(tmp_path, [os.urandom(3 * MIB)])
    source = Breaking(story.device, 2 * MIB)
    story.device.contents = [source, story.device.source]
    story.fetch()
    assert story.here() == [0]


def test_a_liar_begins_and_breaks_off(tmp_path: Path) -> None:
    """The honest source is not blamed for what came before it."""
    story = Story(tmp_path, [os.urandom(3 * MIB)])
    liar = Breaking(story.device, 2 * MIB)
    liar.files = story.device.source.files.copy()
    liar.files.blobs[str(story.layers[0].digest)] = bytes(3 * MIB)
    story.device.contents = [liar]
    with pytest.raises(FetchError, match="it broke off"):
        story.fetch()
    story.device.contents = [story.device.source]
    story.device.source.asked.clear()
    story.fetch()
    assert story.asked() == [0, 0]  # from the middle, then from the beginning


def test_parts_of_another_release_are_not_kept(tmp_path: Path) -> None:
    story = Story(tmp_path, [os.urandom(3 * MIB)])
    story.device.contents = [Breaking(story.device, 2 * MIB)]
    with pytest.raises(FetchError, match="it broke off"):
        story.fetch()
    story.world.release("1.1.0")
    story.device.source.files = story.world.publish()
    story.device.contents = [story.device.source]
    story.fetch()
    assert not (story.device.staging / ".parts").exists()


# --- where ---------------------------------------------------------------------------


class Located:
    """Content sources that write down what they are told."""

    def __init__(self, device: Device, *sources: MemorySource) -> None:
        self.told: list[list[str]] = []
        self._sources = sources or (device.source,)

    def sources(self, locations: Sequence[str]) -> Sequence[MemorySource]:
        self.told.append(list(locations))
        return self._sources


def located(story: Story, content: Located) -> VerifiedContent:
    from margo_supplychain.verify.policy import Policy
    from margo_supplychain.verify.trust_store import TrustStore
    from margo_supplychain.verify.verifier import Verifier

    device = story.device
    verifier = Verifier(
        store=TrustStore.open(device.state),
        source=device.source,
        content=content,
        policy=Policy.from_toml(device.policy),
        clock=device.clock,
        limits=device.limits,
    )
    return verifier.fetch(device.verify(), device.staging)


def test_a_component_lies_in_its_own_repository(tmp_path: Path) -> None:
    story = eight(tmp_path)
    web = compose(story.world, packed(member("web/compose.yaml", COMPOSE)))
    more = compose(story.world, packed(member("more/compose.yaml", COMPOSE)))
    story.world.release(
        "1.1.0",
        components=(
            component(web, "web"),
            component(web, "same"),
            replace(component(more, "more"), repository="https://charts.example"),
        ),
        locations=("oci://registry.example/acme/pump", "https://updates.example"),
    )
    story.device.source.files = story.world.publish()
    content = Located(story.device)
    located(story, content)
    hints = ["oci://registry.example/acme/pump", "https://updates.example"]
    assert content.told == [
        [f"oci://registry.example/acme/{name}" for name in ("web", "same")] + hints,
        hints,
        hints,
    ]


def test_who_had_something_is_asked_first(tmp_path: Path) -> None:
    """What lies together costs one round trip each, wherever it lies."""
    story = eight(tmp_path)
    web = artifact(
        story.world, [(WASM, None, str(number).encode()) for number in range(8)]
    )
    story.world.release("1.1.0", components=(component(web, kind="wasm"),))
    story.device.source.files = story.world.publish()
    empty = MemorySource(story.device.source.files.copy())
    empty.files.blobs.clear()
    full = MemorySource(story.device.source.files)
    story.device.verify()
    content = located(story, Located(story.device, empty, empty, full))
    blobs = len(content.digests)
    # The component's manifest led to the third; of the package, whose manifest is
    # here, a thread each may have asked in vain.
    assert empty.asked.count(str(web.digest)) == 2
    assert len(empty.asked) <= 2 + 2 * 4
    assert len(full.asked) == blobs - 1


def test_who_can_not_be_reached_is_asked_last(tmp_path: Path) -> None:
    """Finding out takes long: a few threads do it, once for all components."""
    story = eight(tmp_path)
    parts = [
        component(
            artifact(
                story.world, [(WASM, None, f"{name} {n}".encode()) for n in "abc"]
            ),
            name,
            "wasm",
        )
        for name in ("web", "more", "other")
    ]
    story.world.release("1.1.0", components=tuple(parts))
    story.device.source.files = story.world.publish()
    down = MemorySource(story.device.source.files)
    down.down = True
    full = MemorySource(story.device.source.files)
    story.device.verify()
    story.device.limits = Limits(parallel=1)
    located(story, Located(story.device, down, full))
    assert len(down.asked) == 1
    # It is still asked for what nobody else has.
    full.files = full.files.copy()
    gone = str(parts[1].content.digest)
    del full.files.blobs[gone]
    blob_path(story.device.staging, parts[1].content.digest).unlink()
    with pytest.raises(FetchError, match="no such blob"):
        located(story, Located(story.device, full, down))
    assert down.asked[-1] == gone


def test_a_manifest_that_is_here_is_not_asked_for(tmp_path: Path) -> None:
    story = eight(tmp_path)
    digest = str(story.device.verify().manifest.digest)
    story.device.source.asked.clear()
    story.fetch()
    assert digest not in story.device.source.asked
    assert story.asked() == list(range(8))


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_copy_that_is_damaged(tmp_path: Path, damage: str) -> None:
    story = eight(tmp_path)
    verifier, release = story.device.verifier, story.device.verify()
    (copy,) = story.device.state.rglob(release.manifest.digest.hex + "*")
    if damage == "gone":
        copy.unlink()
    else:
        copy.write_bytes(bytes(copy.stat().st_size))
    story.device.source.asked.clear()
    verifier.fetch(release, story.device.staging)
    assert story.device.source.asked[0] == str(release.manifest.digest)


def test_what_is_here_needs_no_place(tmp_path: Path) -> None:
    story = eight(tmp_path)
    story.fetch()

    class Nowhere:
        def sources(self, locations: Sequence[str]) -> Sequence[MemorySource]:
            raise FetchError("no place is known", url="none", unreachable=True)

    located(story, Nowhere())  # type: ignore[arg-type]  # as good a ContentSources
    blob_path(story.device.staging, story.layers[3].digest).unlink()
    with pytest.raises(FetchError, match="no place is known"):
        located(story, Nowhere())  # type: ignore[arg-type]  # likewise


# --- platforms -----------------------------------------------------------------------


def with_platforms(story: Story, *platforms: str | None) -> list[Descriptor]:
    """List 2.0.0, an index of these; return each one's layer."""
    entries, layers = [], []
    for number, platform in enumerate(platforms):
        data = f"{number} for {platform}".encode()
        layers.append(Descriptor.of(data, WASM))
        other: dict[str, Any] = {}
        if platform is not None:
            names = dict(
                zip(
                    ("os", "architecture", "variant"), platform.split("/"), strict=False
                )
            )
            other = {"platform": names}
        what = artifact(story.world, [(WASM, None, data)])
        entries.append(oci.Entry(descriptor=what, other=other))
    archive = story.world.add_blob(b"no archive", "application/x-tar")
    entries.append(
        oci.Entry(
            descriptor=archive,
            other={"platform": {"os": "plan9", "architecture": "mips"}},
        )
    )
    index = story.world.add_blob(oci.index_bytes(entries), oci.INDEX)
    story.world.release("2.0.0", artifact=index, kind=None)
    story.device.source.files = story.world.publish()
    return layers


def test_the_platforms_asked_for(tmp_path: Path) -> None:
    """What is not fetched is not checked either: nobody will install it."""
    story = eight(tmp_path)
    layers = with_platforms(story, "linux/amd64", "linux/arm/v7", "linux/arm/v6", None)
    content = story.fetch(platforms=frozenset({"linux/arm/v7"}))
    assert content.platforms == frozenset({"linux/arm/v7"})
    taken = [one.digest in content.digests for one in layers]
    assert taken == [False, True, False, True]
    digest = content.release.manifest.digest
    story.device.verifier.confirm_running(digest)
    assert story.device.verifier.check_installed(digest).verdict == "verified"


def test_all_platforms_are_checked(tmp_path: Path) -> None:
    story = eight(tmp_path)
    with_platforms(story, "linux/amd64")
    with pytest.raises(UnsafeArchiveError, match="ends early"):
        story.fetch()


@pytest.mark.parametrize(
    ("platforms", "error"),
    [
        (frozenset(), ValueError),
        (frozenset({"arm64"}), FormatError),
        (frozenset({"linux/arm64", "Linux/arm64"}), FormatError),
    ],
)
def test_platforms_that_are_none(
    tmp_path: Path, platforms: frozenset[str], error: type[Exception]
) -> None:
    story = eight(tmp_path)
    with pytest.raises(error, match="platform"):
        story.fetch(platforms=platforms)
    assert not story.device.staging.exists()
