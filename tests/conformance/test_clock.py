"""The clock is the machine's, as libc tells it: others shift it by preloading."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conformance.running import Client, started, versions

if TYPE_CHECKING:
    from tests.conformance.running import Site
    from tests.world import World

PLACES = ("lib/*/faketime", "lib/faketime", "local/lib/faketime")


def shifted(client: Client, by: str) -> Client:
    """Return a client of the same directories whose clock is off."""
    names = [f"{place}/libfaketime.so.1" for place in PLACES]
    found = [str(path) for name in names for path in Path("/usr").glob(name)]
    if not found:
        pytest.skip("libfaketime is not installed")
    environment = {"LD_PRELOAD": found[0], "FAKETIME": by, "DONT_FAKE_MONOTONIC": "1"}
    return Client(client.site, client.directory, environment)


def test_time_passes(client: Client, world: World) -> None:
    """Three days on all is well; five days on timestamp has expired."""
    started(client, world)
    assert shifted(client, "+3d").refresh().status == 0
    run = shifted(client, "+5d").refresh()
    assert run.status == 1
    assert "[expired]" in run.said
    assert client.versions == versions(1, 1, 1, 1)


def test_what_was_signed_tomorrow(client: Client, world: World, site: Site) -> None:
    """Without signed times only the clock says what has expired."""
    for role in ("root", "timestamp"):
        del world.roles[role].unrecognized_fields["x-issued"]
    world.write("root", world.sign("root"))
    world.files.metadata["timestamp.json"] = world.sign("timestamp")
    started(client, world)
    world.clock.advance(days=10)
    world.publish_online({"snapshot": 1, "timestamp": 1})
    del world.roles["timestamp"].unrecognized_fields["x-issued"]
    world.files.metadata["timestamp.json"] = world.sign("timestamp")
    site.serve(world.files)
    assert client.refresh().status == 0
    assert shifted(client, "+10d").refresh().status == 0
    assert shifted(client, "+12d").refresh().status == 1


def test_an_expired_copy_still_counts_against_rollback(
    client: Client, world: World
) -> None:
    """TUF 5.4.3: the trusted timestamp may have expired, its version has not."""
    old = world.files.copy()
    world.publish()
    started(client, world)
    world.files.metadata["timestamp.json"] = old.metadata["timestamp.json"]
    client.site.serve(world.files)
    run = shifted(client, "+5d").refresh()
    assert run.status == 1
    assert "[rollback]" in run.said
    assert client.versions == versions(1, 2, 2, 1)
