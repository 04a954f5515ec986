"""Content of packages that vendors hand in: components here, there and elsewhere."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.release import Release
from margo_supplychain.errors import FetchError
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.transport.directory import DirectorySink
from margo_supplychain.transport.tagged_sink import TaggedSink
from tests.attacks.forging import hand_in, listing, role
from tests.authoring.market import Market
from tests.authoring.tagged import EveryRepository, MemoryRegistry
from tests.authoring.test_content_rules import evil_archive
from tests.authoring.trust import OPEN, key
from tests.fixtures import copy_package

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from margo_supplychain.authoring.accepted import Accepted
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.transport.protocols import Source

NAME = ReleaseName.parse("acme/pump-monitor")
AT = "oci://registry.example/acme/pump-monitor"


class Packages(Market):
    """A market with an application that has a package of two components."""

    def built(self, **changes: Any) -> Release:
        """Return the package as its vendor built it."""
        output = self.directory / "dist"
        if not output.exists():
            package = copy_package("pump-monitor", self.directory)
            Release.from_package(package, publisher="acme", output=output)
        return replace(Release.from_build(output), **changes)

    def hand_in_package(self, release: Release, *, along: bool) -> None:
        """Hand the package in, with or without its content."""
        change, targets, blobs = listing(self, release)
        file = role(self, NAME.role, change)
        hand_in(self, file, targets=targets, blobs=blobs if along else ())


@pytest.fixture
def market(tmp_path: Path) -> Packages:
    found = Packages(tmp_path)
    found.open_market()
    keys = [*found.keys, key("acme"), key("acme-ci")]
    with found.repository.edit(keys, clock=found.clock) as edit:
        edit.add_application(NAME, [key("acme-ci").public_key], policy=OPEN)
        edit.refresh(NAME.role)
    return found


def push(registry: MemoryRegistry, release: Release, top: Descriptor, url: str) -> None:
    """Put one manifest and all that it names into a repository of a registry."""
    sink = TaggedSink(registry.repository(url))
    for part in release.parts_of(top):
        with release.open(part.descriptor) as stream:
            data = stream.read()
        if part.role == "manifest":
            sink.put_manifest(part.descriptor, data, tag=None)
        else:
            sink.put_blob(part.descriptor, io.BytesIO(data))


def is_sound(market: Market) -> bool:
    """Say whether the repository is without a problem."""
    return market.repository.check(clock=market.clock).violations == ()


def one_taken(done: Accepted) -> bool:
    """Say whether the one submission was taken."""
    return len(done.taken) == 1 and done.refused == ()


def test_package_that_comes_along(market: Packages) -> None:
    market.hand_in_package(market.built(), along=True)
    done = market.accept()
    assert one_taken(done)
    assert done.written.blobs_new > 3
    assert market.newest(NAME) == "1.2.0"
    assert is_sound(market)


@pytest.mark.parametrize("components", [0, 1, 2])
def test_package_that_lies_in_registries(market: Packages, components: int) -> None:
    """What is where it should be is copied in; what is not stays named by digest, and
    the operator hears of it."""
    registry = MemoryRegistry()
    made = market.built(locations=(AT,))
    push(registry, made, made.artifact, AT)
    for one in made.components[:components]:
        push(registry, made, one.content, one.repository)
    market.hand_in_package(made, along=False)
    told: list[str] = []
    done = market.accept(
        content=EveryRepository(registry),
        progress=lambda what, done, total: told.append(what),
    )
    assert one_taken(done)
    left = [one for one in done.warnings if "is left where it is" in one]
    assert len(left) == 2 - components
    assert "acme/pump-monitor 1.2.0" in told
    assert market.newest(NAME) == "1.2.0"
    assert is_sound(market)


@pytest.mark.parametrize("with_components", [False, True])
def test_package_that_is_here_already(market: Packages, with_components: bool) -> None:
    made = market.built()
    sink = DirectorySink(market.trust)
    tops = list(made.tops()) if with_components else [made.artifact]
    for top in tops:
        for part in made.parts_of(top):
            with made.open(part.descriptor) as stream:
                sink.put_blob(part.descriptor, stream)
    market.hand_in_package(made, along=False)
    assert one_taken(market.accept())
    assert is_sound(market)


def test_source_that_does_not_answer(market: Packages) -> None:
    """What can't be asked now may be taken the next time."""

    class Silent:
        """A registry behind a broken line."""

        def sources(self, locations: Sequence[str]) -> Sequence[Source]:
            raise FetchError("no answer", url=locations[0], unreachable=True)

    market.hand_in_package(market.built(locations=(AT,)), along=False)
    done = market.accept(content=Silent())
    assert done.refused[0].is_open
    assert "acme: no answer" in done.refused[0].reason


def test_content_that_no_device_takes(market: Packages) -> None:
    """What comes along is judged as devices do, and nothing of it is kept."""
    honest = market.built()
    for made in (
        evil_archive(market.directory / "evil"),
        replace(honest, application_version="9.9"),
        replace(honest, components=(), images=()),
    ):
        before = market.files()
        market.hand_in_package(made, along=True)
        (name,) = market.inbox.names().names
        done = market.accept()
        assert done.taken == ()
        assert done.refused[0].code in {"unsafe-archive", "deployment"}
        assert done.refused[0].reason.startswith("acme: ")
        assert market.files() == before
        market.inbox.remove(name)
    market.hand_in_package(honest, along=True)
    assert one_taken(market.accept())


def test_content_of_other_bytes(market: Packages) -> None:
    """A layer that comes along is another than the manifest names."""
    change, targets, blobs = listing(market, market.built())
    largest = max(blobs, key=len)
    swapped = [data[:-1] + b"x" if data is largest else data for data in blobs]
    before = market.files()
    hand_in(market, role(market, NAME.role, change), targets=targets, blobs=swapped)
    done = market.accept()
    assert done.taken == ()
    assert "acme: " in done.refused[0].reason
    assert market.files() == before
