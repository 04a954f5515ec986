"""The hostile registry is an honest one until it is told to lie, other clients say."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import peer_or_skip
from tests.peers.clients import find_program
from tests.registries import lies
from tests.registries.certificates import Authority
from tests.registries.hostile import HostileRegistry, Truth, digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOGIN = ("plant", "insecure-password")
DATA = bytes(range(256)) * 4


@pytest.fixture
def hostile() -> Iterator[HostileRegistry]:
    with HostileRegistry() as server:
        yield server


@pytest.fixture
def oras(pytestconfig: pytest.Config) -> Path:
    return peer_or_skip(lambda: find_program("oras"), pytestconfig)


def run(program: Path, *arguments: str, directory: Path) -> str:
    done = subprocess.run(
        [program, *arguments],
        cwd=directory,
        capture_output=True,
        check=False,
        timeout=60,
        text=True,
        env={"HOME": str(directory)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def get(server: HostileRegistry, path: str, **headers: str) -> Truth:
    connection = http.client.HTTPConnection(server.host, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return Truth(answer.status, dict(answer.headers.items()), answer.read())


@pytest.mark.parametrize("login", ["none", "basic", "token"])
def test_oras_pushes_attaches_and_pulls(
    hostile: HostileRegistry, oras: Path, tmp_path: Path, login: str
) -> None:
    told = ["--plain-http"]
    if login != "none":
        hostile.login = LOGIN
        hostile.tokens = login == "token"
        told += ["-u", LOGIN[0], "-p", LOGIN[1]]
    hostile.page = 1
    (tmp_path / "one.txt").write_bytes(DATA)
    image = f"{hostile.host}/acme/app:1.0.0"
    run(oras, "push", *told, image, "one.txt", directory=tmp_path)
    for kind in ("a/x", "b/y"):
        options = [*told, "--artifact-type", kind, image, "one.txt"]
        run(oras, "attach", *options, directory=tmp_path)
    said = run(oras, "discover", *told, "--format", "json", image, directory=tmp_path)
    kinds = {one["artifactType"] for one in json.loads(said)["referrers"]}
    assert kinds == {"a/x", "b/y"}
    run(oras, "pull", *told, "-o", "out", image, directory=tmp_path)
    assert (tmp_path / "out" / "one.txt").read_bytes() == DATA
    tags = run(oras, "repo", "tags", *told, image[:-6], directory=tmp_path)
    assert tags.split() == ["1.0.0"]


def test_token_is_good_for_its_scope_and_time(hostile: HostileRegistry) -> None:
    hostile.login, hostile.tokens = LOGIN, True
    hostile.of("acme/app").add_blob(DATA)
    path = f"/v2/acme/app/blobs/{digest_of(DATA)}"
    hostile.granted = {
        "right": {"repository:acme/app:pull"},
        "wrong": {"repository:acme/other:pull"},
    }
    assert get(hostile, path, Authorization="Bearer right").status == 200
    assert get(hostile, path, Authorization="Bearer wrong").status == 401
    hostile.expire_tokens()
    assert get(hostile, path, Authorization="Bearer right").status == 401
    assert hostile.seen[0].secrets == {"authorization"}


def test_ranges(hostile: HostileRegistry) -> None:
    path = f"/v2/acme/app/blobs/{hostile.of('acme/app').add_blob(DATA)}"
    answer = get(hostile, path, Range="bytes=1000-")
    assert (answer.status, answer.body) == (206, DATA[1000:])
    assert answer.headers["Content-Range"] == "bytes 1000-1023/1024"
    assert get(hostile, path, Range="bytes=1024-").status == 416
    hostile.lies("GET .*/blobs/", lies.wrong_range)
    answer = get(hostile, path, Range="bytes=1000-")
    assert (answer.status, answer.body) == (206, DATA[:24])
    hostile.is_honest_again()
    hostile.lies("GET .*/blobs/", lies.beginning_as_range)
    answer = get(hostile, path, Range="bytes=1000-")
    assert (answer.status, answer.body) == (206, DATA[:24])
    assert answer.headers["Content-Range"] == "bytes 1000-1023/1024"


def test_a_lie_lasts_as_long_as_told(hostile: HostileRegistry) -> None:
    path = f"/v2/acme/app/blobs/{hostile.of('acme/app').add_blob(DATA)}"
    hostile.lies("GET .*/blobs/", lies.tampered, times=1)
    lied, told = get(hostile, path).body, get(hostile, path).body
    assert (lied != DATA, told) == (True, DATA)
    assert len(lied) == len(DATA)
    assert len(hostile.asked("GET .*/blobs/")) == 2


def test_records_a_client_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with HostileRegistry(authority.server_context(ask_client=True)) as server:
        assert server.url.startswith("https:")
        program = ["curl", "-sS", "--cacert", str(authority.file), f"{server.url}/v2/"]
        pair = authority.issue("device")
        shown = ["--cert", str(pair.certificate), "--key", str(pair.key)]
        subprocess.run(program, check=True, timeout=20, capture_output=True)
        subprocess.run([*program, *shown], check=True, timeout=20, capture_output=True)
        assert [one.secrets for one in server.seen] == [set(), {"client certificate"}]
