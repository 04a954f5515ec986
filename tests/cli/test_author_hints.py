"""What authors are told when a registry does not answer: not what a device is told."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.cli.author import RETRY, UNPUBLISHED
from tests.cli.running import run
from tests.cli.vendor import NAME, Vendor
from tests.registries.servers import docker_registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.running import Ran

CLOSED = "oci://127.0.0.1:1"  # nobody listens there
THERE = f"{CLOSED}/acme/trust"
DIGEST = "sha256:" + "0" * 64


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("margo_supplychain.transport.attempts._FIRST_DELAY", 0)


@pytest.fixture
def vendor(place: Path, secret: str) -> Vendor:
    found = Vendor(place, secret)
    found.application()
    found.build()
    return found


def hint(ran: Ran) -> str:
    assert ran.status == 4, ran.err
    lines = ran.err.splitlines()
    assert "can't reach http://127.0.0.1:1: connection refused" in ran.err
    return lines[-1].removeprefix("hint: ")


@pytest.mark.parametrize(
    "words",
    [
        ("release", "publish", "dist", THERE),
        ("release", "withdraw", NAME, "1.2.0", "--reason", "x", "--repo", THERE),
        ("repo", "refresh", "--repo", THERE),
        ("app", "policy", NAME, "--minimum-version", "1.0.0", "--repo", THERE),
    ],
)
def test_nothing_was_published(vendor: Vendor, words: tuple[str, ...]) -> None:
    assert hint(vendor.sign(*words)) == UNPUBLISHED


@pytest.mark.parametrize(
    "words",
    [
        ("release", "show", NAME, "--repo", THERE),
        ("app", "show", NAME, "--repo", THERE),
        ("repo", "status", "--repo", THERE),
        ("repo", "prune", "--repo", THERE),
        ("repo", "check", THERE),
        ("release", "adopt", f"{CLOSED}/acme/x", "--from-tags"),
    ],
)
def test_nothing_was_to_be_published(vendor: Vendor, words: tuple[str, ...]) -> None:
    assert hint(run(*words)) == RETRY


def test_which_login_was_refused(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    vendor: Vendor,
) -> None:
    """A wrong password and none at all are different things to mend."""
    folder = vendor.place / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    file = folder / "config.json"
    with docker_registry(tmp_path_factory.mktemp("private"), auth="basic") as private:
        host = private.host
        wrong = base64.b64encode(b"plant:guessed").decode()
        login = f"run `docker login {host}` with a user who may do this"
        for text, said in (
            (None, f"there is no {file}, where logins are looked for"),
            ("{}", f"{file} has no login for {host}"),
            (
                json.dumps({"auths": {host: {"auth": wrong}}}),
                f"the login for {host} in {file} was refused",
            ),
        ):
            if text is not None:
                file.write_text(text)
            ran = run("release", "adopt", f"oci://{host}/acme/x", "--from-tags")
            assert ran.status == 4
            assert ran.err.splitlines()[-1] == f"hint: {said}: {login}"
            ran = run("repo", "check", f"oci://{host}/acme/x")
            assert (
                ran.err.splitlines()[-1] == f"hint: {said}: run `docker login {host}`"
            )
            assert "guessed" not in ran.err
            assert "plant" not in ran.err


def test_adopt_fetches_before_it_publishes(vendor: Vendor) -> None:
    what = f"{CLOSED}/acme/x@{DIGEST}"
    ran = vendor.sign("release", "adopt", what, "--name", NAME, "--version", "1.0.0")
    assert hint(ran) == RETRY


def test_a_copy_goes_on(vendor: Vendor) -> None:
    again = "run it again: only what is missing travels"
    assert hint(run("repo", "push", THERE)).endswith(again)
    root = str(vendor.place / "trust" / "metadata" / "1.root.json")
    assert hint(run("repo", "mirror", THERE, "copy", "--root", root)).endswith(again)
    ran = run("repo", "mirror", "trust", "copy", "--state", "nothing")
    assert ran.status == 4
    assert "[state-lost]" in ran.err
    assert "repo check --begin-from FILE" in ran.err


def test_a_component_in_a_registry_that_does_not_answer(vendor: Vendor) -> None:
    file = vendor.place / "pump-monitor" / "margo.yaml"
    text = file.read_text()
    where = f"{CLOSED}/other/historian"
    file.write_text(text.replace("oci://registry.example/acme/historian", where))
    settings = vendor.place / "margo-supplychain.toml"
    with docker_registry(vendor.place / "registry") as registry:
        parent = f"oci://{registry.host}/acme"
        file.write_text(file.read_text().replace("oci://registry.example/acme", parent))
        vendor.build("1.3.0", "other")
        assert run("repo", "push", f"{parent}/trust").status == 0
        publish = ("release", "publish", "other", f"{parent}/trust")
        ran = vendor.sign(*publish)
        assert "error: component historian can't be looked for: can't reach" in ran.err
        assert hint(ran) == (
            f"it is not below {parent}, this repository's parent, and not pushed, so "
            f"it must be in {where} already, or where [mirrors] in "
            "margo-supplychain.toml says instead; nothing was published"
        )
        mapped = f'\n[mirrors]\n"{CLOSED}/other" = ["oci-layout:other"]\n'
        settings.write_text(settings.read_text() + mapped)
        vendor.must(*publish)
