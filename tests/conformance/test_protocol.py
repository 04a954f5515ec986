"""Commands, exit statuses, and what a metadata directory holds."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from tests.conformance.running import started, versions
from tests.world.repository import key

if TYPE_CHECKING:
    from tests.conformance.running import Client
    from tests.world import World

METADATA = ("--metadata-dir", "metadata")
URL = ("--metadata-url", "http://127.0.0.1:9/")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "required"),
        (METADATA, "required: verb"),
        ((*METADATA, "obey"), "invalid choice: 'obey'"),
        (("--colour", *METADATA, "refresh"), "--colour"),
        (("refresh",), "--metadata-dir"),
        ((*METADATA, "init"), "trusted_root"),
        ((*METADATA, "init", "missing.json"), "missing.json"),
        ((*METADATA, "refresh"), "--metadata-url is missing"),
        ((*METADATA, "--metadata-url", "ftp://h/", "refresh"), "'ftp' URL"),
        ((*METADATA, *URL, "download"), "--target-dir or --target-name is missing"),
        (
            (*METADATA, *URL, "--target-name", "a", "download"),
            "--target-dir or --target-name is missing",
        ),
        ((*METADATA, *URL, "refresh"), "no readable memory"),
    ],
)
def test_usage_errors_exit_with_1(
    client: Client, arguments: tuple[str, ...], words: str
) -> None:
    run = client.run(*arguments)
    assert run.status == 1
    assert run.said.startswith("error: ")
    assert words in run.said


def test_help_exits_with_0(client: Client) -> None:
    assert client.run("-h").status == 0


def test_init_asks_nobody_and_stores_the_root(client: Client, world: World) -> None:
    client.site.serve(world.files)
    root = world.files.metadata["1.root.json"]
    run = client.init(root)
    assert (run.status, run.asked) == (0, [])
    assert client.stored == {"root.json": root}


def _unsigned(world: World) -> bytes:
    return world.sign("root", [])


def _signed_by_others(world: World) -> bytes:
    return world.sign("root", [key("mallory")])


def _threshold_not_met(world: World) -> bytes:
    world.root.add_key(key("second").public_key, "root")
    world.root.roles["root"].threshold = 2
    return world.sign("root")


def _of_another_type(world: World) -> bytes:
    return world.files.metadata["1.targets.json"]


def _garbage(world: World) -> bytes:
    return b"no root\n"


def _empty(world: World) -> bytes:
    return b""


@pytest.mark.parametrize(
    "make",
    [
        _unsigned,
        _signed_by_others,
        _threshold_not_met,
        _of_another_type,
        _garbage,
        _empty,
    ],
)
def test_bad_root_fails_before_any_request(
    client: Client, world: World, make: object
) -> None:
    assert callable(make)
    client.site.serve(world.files)
    client.init(make(world))
    run = client.refresh()
    assert (run.status, run.asked) == (1, [])


def test_init_begins_anew(client: Client, world: World) -> None:
    """Nothing of the former trust is left: not the files, and not the floors."""
    old = world.files.copy()
    world.publish()
    started(client, world)
    client.site.serve(old)
    assert client.refresh().status == 1
    assert client.init(old.metadata["1.root.json"]).status == 0
    assert list(client.stored) == ["root.json"]
    assert client.refresh().status == 0
    assert client.versions == versions(1, 1, 1, 1)


def test_the_directory_holds_tuf_metadata_alone(client: Client, world: World) -> None:
    """Each JSON file directly in it is metadata; the memory lies elsewhere."""
    started(client, world)
    assert sorted(client.versions) == ["root", "snapshot", "targets", "timestamp"]
    for data in client.stored.values():
        assert set(json.loads(data)) == {"signatures", "signed"}


def test_a_server_that_is_gone_is_a_failure(client: Client, world: World) -> None:
    """What was trusted before is no refresh, however fresh it still is."""
    started(client, world)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        run = client.run(
            "--metadata-dir", str(client.metadata), "--metadata-url", url, "refresh"
        )
    assert run.status == 1
    assert "can't reach" in run.said


def test_a_damaged_memory_is_a_failure(client: Client, world: World) -> None:
    started(client, world)
    for name in ("memory-a", "memory-b"):
        (client.metadata / "memory" / name).write_bytes(b"nothing")
    run = client.refresh()
    assert (run.status, run.asked) == (1, [])
