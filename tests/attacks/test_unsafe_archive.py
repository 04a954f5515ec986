"""Signed archives that must not be extracted, in each place where one can lie."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import UnsafeArchiveError
from margo_supplychain.formats.oci import COMPOSE_COMPONENT
from tests.attacks.packages import (
    CHART,
    COMPOSE,
    GENERIC,
    artifact,
    chart,
    component,
    compose,
    member,
    package,
    packed,
)
from tests.attacks.standing import offered, refused
from tests.world import World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor

MAIN = (member("web/compose.yaml", COMPOSE), member("web/Chart.yaml", CHART))
PLACES: dict[str, Callable[[World, bytes], Descriptor]] = {
    "compose": compose,
    "chart": chart,
    "generic": lambda world, data: artifact(
        world, [("application/vnd.example.rules.v1.tar+gzip", None, data)]
    ),
}
EVIL = {
    "path above": (packed(*MAIN, member("web/../../evil", b"x")), "leaves its"),
    "absolute path": (packed(*MAIN, member("/etc/cron.d/evil", b"x")), "absolute"),
    "symlink out": (
        packed(*MAIN, member("web/link", kind=tarfile.SYMTYPE, linkname="../../etc")),
        "outside its top-level",
    ),
    "absolute symlink": (
        packed(*MAIN, member("web/link", kind=tarfile.SYMTYPE, linkname="/etc/passwd")),
        "links to the absolute",
    ),
    "below a symlink": (
        packed(
            *MAIN,
            member("web/dir", kind=tarfile.SYMTYPE, linkname="other"),
            member("web/dir/evil", b"x"),
        ),
        "lies below the symbolic link",
    ),
    "hard link out": (
        packed(
            *MAIN, member("web/link", kind=tarfile.LNKTYPE, linkname="../etc/shadow")
        ),
        "leaves its|no earlier file",
    ),
    "device": (
        packed(*MAIN, member("web/sda", kind=tarfile.BLKTYPE, devmajor=8)),
        "block device",
    ),
    "pipe": (packed(*MAIN, member("web/pipe", kind=tarfile.FIFOTYPE)), "named pipe"),
    "setuid": (packed(*MAIN, member("web/su", b"x", mode=0o4755)), "setuid"),
    "same name twice": (packed(*MAIN, MAIN[0]), "comes twice"),
    "names that clash": (
        packed(*MAIN, member("web/COMPOSE.yaml", b"x")),
        "clashes with",
    ),
    "many members": (
        packed(*MAIN, *(member(f"web/{n}") for n in range(10_001))),
        "more than 10000 members",
    ),
    "gzip bomb": (
        packed(*MAIN, member("web/zeros", bytes(40 << 20))),
        "expands more than 200-fold",
    ),
    "truncated": (packed(*MAIN)[:-20], "ends early"),
    "bytes behind the end": (packed(*MAIN) + b"evil", "data after its gzip member"),
    "two gzip members": (packed(*MAIN) + packed(*MAIN), "data after its gzip member"),
    "no archive": (b"#!/bin/sh\nrm -rf /\n", "is not gzip|ends early"),
    "nothing in it": (gzip.compress(bytes(10_240)), "holds nothing"),
    "empty": (b"", "is not gzip|ends early"),
}


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("place", PLACES)
def test_unsafe_archive(tmp_path: Path, place: str, evil: str) -> None:
    """A stolen CI key signs an archive that leaves its directory or never ends."""
    world = World()
    kind = {"compose": COMPOSE_COMPONENT, "chart": None, "generic": GENERIC}[place]
    world.release("1.0.0", artifact=PLACES[place](world, packed(*MAIN)), kind=kind)
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane: the honest archive passes

    data, match = EVIL[evil]
    world.release("2.0.0", artifact=PLACES[place](world, data), kind=kind)
    device.source.files = world.publish()
    device.verify()
    with refused(device, UnsafeArchiveError, "unsafe-archive", match=match):
        device.fetch()
    assert [one["annotations"] for one in offered(device)] == [
        {"org.opencontainers.image.ref.name": "acme/pump-monitor:1.0.0"}
    ]
    assert device.version(pin="1.0.0") == "1.0.0"


def test_unsafe_component_of_a_package(tmp_path: Path) -> None:
    """The archive lies in a component, one step away from what was asked for."""
    world = World()
    package(world, version="1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane

    evil = compose(world, EVIL["symlink out"][0])
    package(world, components=[component(evil)])
    device.source.files = world.publish()
    device.verify()
    with refused(
        device, UnsafeArchiveError, "unsafe-archive", match="outside its top-level"
    ):
        device.fetch()


@pytest.mark.parametrize("place", ["compose", "chart"])
@pytest.mark.parametrize(
    "members",
    [
        (),
        (member("web/docker-compose.yml", COMPOSE),),
        (*MAIN, member("other/file", b"x")),
        (member("compose.yaml", COMPOSE), member("Chart.yaml", CHART)),
    ],
    ids=["empty", "another name", "two tops", "no top"],
)
def test_archive_of_another_layout(
    tmp_path: Path, place: str, members: tuple[tuple[tarfile.TarInfo, bytes], ...]
) -> None:
    """What the specification says of a component's archive holds on the device too."""
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane
    content = PLACES[place](world, packed(*members))
    package(world, components=[component(content)])
    device.source.files = world.publish()
    device.verify()
    with refused(device, UnsafeArchiveError, "unsafe-archive", match="archive"):
        device.fetch()


def test_archive_without_compression(tmp_path: Path) -> None:
    """A generic tar needs no gzip, and is checked all the same."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as made:
        info, data = member("../evil", b"x")
        made.addfile(info, io.BytesIO(data))
    world = World()
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    assert device.install() == "1.0.0"  # sane
    layers = [("application/x-tar", None, target.getvalue())]
    world.release("2.0.0", artifact=artifact(world, layers))
    device.source.files = world.publish()
    device.verify()
    with refused(device, UnsafeArchiveError, "unsafe-archive", match="leaves its"):
        device.fetch()
