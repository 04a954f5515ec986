from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import FetchError
from margo_supplychain.transport.network import Network
from margo_supplychain.transport.oci_registry import credential_helper
from margo_supplychain.transport.oci_registry.credential_helper import (
    Login,
    ask_helper,
)
from margo_supplychain.transport.oci_registry.docker_config import (
    MAX_CONFIG,
    about_login,
    check_user,
    login_config,
    server_address,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOST = "registry.example:5000"
SECRET = "insecure-secret"
AUTH = base64.b64encode(f"user:{SECRET}".encode()).decode()


def config(path: Path, document: Any) -> Network:
    file = path / "given.json"
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    file.write_bytes(text)
    return Network(docker_config=file)


@pytest.mark.parametrize(
    "key",
    [HOST, f"https://{HOST}", f"https://{HOST}/v1/", f"http://{HOST}/v2", f"{HOST}/"],
)
def test_the_login_of_one_registry(key: str, tmp_path: Path) -> None:
    network = config(
        tmp_path,
        {
            "auths": {"other.example": {"auth": AUTH}, key: {"auth": AUTH}},
            "credHelpers": {"other.example": "other"},
            "HttpHeaders": {"X": "y"},
        },
    )
    assert login_config(HOST, network) == {
        "auths": {HOST: {"auth": AUTH}},
        "credHelpers": {},
        "credsStore": None,
    }


def test_helpers_are_named_by_suffix(tmp_path: Path) -> None:
    network = config(
        tmp_path,
        {"auths": {HOST: {}}, "credHelpers": {HOST: "one"}, "credsStore": "two.x"},
    )
    found = login_config(HOST, network)
    assert found == {
        "auths": {HOST: {}},
        "credHelpers": {HOST: "one"},
        "credsStore": "two.x",
    }


def test_user_and_password_in_plain(tmp_path: Path) -> None:
    entry = {"username": "user", "password": SECRET}
    found = login_config(HOST, config(tmp_path, {"auths": {HOST: entry}}))
    assert found["auths"] == {HOST: {"auth": AUTH}}


def test_docker_hub_has_a_name_of_its_own(tmp_path: Path) -> None:
    hub = "registry-1.docker.io"
    key = "https://index.docker.io/v1/"
    network = config(tmp_path, {"auths": {key: {"auth": AUTH}}})
    assert login_config(hub, network)["auths"] == {hub: {"auth": AUTH}}
    assert (server_address(hub), server_address(HOST)) == (key, HOST)


def test_dockers_own_file(docker_folder: Path) -> None:
    assert login_config(HOST, Network())["auths"] == {}
    file = docker_folder / "config.json"
    file.write_text(json.dumps({"auths": {HOST: {"auth": AUTH}}}))
    assert login_config(HOST, Network())["auths"] == {HOST: {"auth": AUTH}}


def test_the_file_in_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DOCKER_CONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert login_config(HOST, Network())["auths"] == {}
    (tmp_path / ".docker").mkdir()
    file = tmp_path / ".docker" / "config.json"
    file.write_text(json.dumps({"auths": {HOST: {"auth": AUTH}}}))
    assert login_config(HOST, Network())["auths"] == {HOST: {"auth": AUTH}}


@pytest.mark.parametrize(
    ("document", "match"),
    [
        (b"", "is not usable: it is not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"auths":{},"auths":{}}', "names 'auths' twice"),
        (b" " * (MAX_CONFIG + 1), "more than the limit"),
        ({"auths": []}, "auths that are no object"),
        ({"credHelpers": 1}, "credHelpers that are no object"),
        ({"auths": {HOST: 1}}, "that is no object"),
        ({"auths": {HOST: {"auth": 1}}}, "that is not base64"),
        ({"auths": {HOST: {"auth": SECRET + "!"}}}, "that is not base64"),
        ({"auths": {HOST: {"auth": "dXNlcg=="}}}, "that is not user:password"),
        ({"auths": {HOST: {"auth": "OnB3"}}}, "that is not user:password"),
        ({"auths": {HOST: {"auth": "dTpwCg=="}}}, "that is not user:password"),
        ({"auths": {HOST: {"identitytoken": SECRET}}}, "is an identity token"),
        ({"auths": {HOST: {"registrytoken": SECRET}}}, "is an identity token"),
        ({"auths": {HOST: {"auth": "PHRva2VuPjp4"}}}, "is an identity token"),
        ({"credsStore": "../evil"}, "helper that is no name"),
        ({"credsStore": 1}, "helper that is no name"),
        ({"credHelpers": {HOST: "a/b"}}, "helper that is no name"),
    ],
)
def test_a_file_that_is_not_usable(document: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=match) as caught:
        login_config(HOST, config(tmp_path, document))
    assert SECRET not in f"{caught.value} {caught.value.hint}"
    assert caught.value.hint


def test_a_file_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="does not exist"):
        login_config(HOST, Network(docker_config=tmp_path / "none.json"))
    with pytest.raises(FetchError, match="can't be read"):
        login_config(HOST, Network(docker_config=tmp_path))


def test_identity_tokens_are_refused() -> None:
    check_user("user", HOST)
    with pytest.raises(FetchError, match="is not supported") as caught:
        check_user("<token>", HOST)
    assert f"docker login {HOST}" in (caught.value.hint or "")


# --- helpers -------------------------------------------------------------------------


def test_a_helper_is_asked_as_docker_asks_it(helper: Callable[..., None]) -> None:
    helper('read server; printf \'{"Username":"u","Secret":"%s"}\' "$1-$server"')
    assert ask_helper("test", HOST, seconds=20) == Login("u", f"get-{HOST}")


def test_a_login_shows_nothing_of_itself() -> None:
    assert SECRET not in f"{Login('user', SECRET)} {[Login('user', SECRET)]!r}"


def test_a_helper_that_knows_nothing(helper: Callable[..., None]) -> None:
    helper("echo credentials not found in native keychain; exit 1")
    assert ask_helper("test", HOST, seconds=20) is None


@pytest.mark.parametrize(
    ("script", "match"),
    [
        (f"echo {SECRET}; exit 3", "failed with exit status 3"),
        (f"echo {SECRET}", "printed no JSON object"),
        (f'echo \'{{"Username":"u","Secret":"{SECRET}"\'', "printed no JSON object"),
        (f'echo \'{{"Secret":"{SECRET}"}}\'', "printed no Username and Secret"),
        ('echo \'{"Username":"","Secret":"x"}\'', "empty or unprintable"),
        ('printf \'%s\' \'{"Username":"a\\nb","Secret":"x"}\'', "unprintable"),
        ("yes", "printed more than 65536 bytes"),
        ("exec >&-; sleep 30", "did not end within"),
        ("sleep 30", "did not end within"),
        ("sleep 30 & sleep 30", "did not end within"),
    ],
)
def test_a_helper_that_fails(
    script: str, match: str, helper: Callable[..., None]
) -> None:
    helper(script)
    seconds = 0.5 if "sleep" in script else 20
    with pytest.raises(FetchError, match=match) as caught:
        ask_helper("test", HOST, seconds=seconds)
    assert SECRET not in f"{caught.value} {caught.value.hint}"
    assert "docker-credential-test" in (caught.value.hint or "")


def test_a_helper_that_is_not_there() -> None:
    with pytest.raises(FetchError, match="can't be started") as caught:
        ask_helper("not-installed", HOST, seconds=5)
    assert "install it" in (caught.value.hint or "")


def test_who_asks_may_lose_patience(
    helper: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(credential_helper, "_LOOK", 0.01)
    pid = tmp_path / "pid"
    helper(f"echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 30")

    def tick(_: int) -> None:
        if pid.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask_helper("test", HOST, seconds=20, tick=tick)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_what_is_said_of_a_login_names_a_helper_and_no_user(tmp_path: Path) -> None:
    file = tmp_path / "given.json"
    helped = {"auths": {HOST: {}}, "credsStore": "pass"}
    assert about_login(HOST, config(tmp_path, helped)) == (
        f"logins for {HOST} come from docker-credential-pass, as {file} says"
    )
    known = about_login(HOST, config(tmp_path, {"auths": {HOST: {"auth": AUTH}}}))
    assert known == f"the login for {HOST} in {file} was refused"
    other = {"auths": {"other.example": {"auth": AUTH}}}
    assert (
        about_login(HOST, config(tmp_path, other)) == f"{file} has no login for {HOST}"
    )
