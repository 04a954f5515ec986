"""Logins and tokens, against a registry that asks for them."""

from __future__ import annotations

import base64
import io
import json
import logging
import sys
import threading
import time
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest

from margo_supplychain.errors import FetchError, TooSlowError
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.oci import MANIFEST
from margo_supplychain.transport.connections import Connections
from margo_supplychain.transport.network import RegistryAccess
from margo_supplychain.transport.oci_registry import registry_client
from margo_supplychain.transport.oci_registry.authorization import (
    Access,
    Authorization,
    Speaker,
)
from margo_supplychain.transport.oci_registry.challenges import Challenge
from margo_supplychain.transport.oci_registry.oras_seams import (
    HardenedRegistry,
    Shown,
)
from margo_supplychain.transport.oci_registry.tokens import Asked, TokenSession
from tests.registries import lies
from tests.registries.token_server import basic
from tests.transport.oci_registry.logins import (
    DATA,
    LOGIN,
    PATH,
    PLAIN,
    WHAT,
    quick,
    read,
    repository,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.registries.hostile import Conversation, HostileRegistry

    LogIn = Callable[..., None]

SECRETS: Final = (LOGIN[1], basic(*LOGIN).removeprefix("Basic "))


@pytest.fixture(autouse=True)
def _content(server: HostileRegistry) -> None:
    server.of(PATH).add_blob(DATA)
    server.of(PATH).add_manifest(PLAIN, tag="1.0.0")


def scopes(server: HostileRegistry) -> list[list[str]]:
    """Return the scopes that each token was asked for."""
    return [
        parse_qs(urlsplit(one.path).query).get("scope", [])
        for one in server.asked("GET /token")
    ]


# --- logins --------------------------------------------------------------------------


def test_an_open_registry_asks_for_no_configuration(
    server: HostileRegistry, docker_folder: Path
) -> None:
    (docker_folder / "config.json").write_text("no JSON")
    assert read(repository(server)) == DATA
    server.login = LOGIN
    with pytest.raises(FetchError, match="is not usable"):
        read(repository(server))


@pytest.mark.parametrize("tokens", [False, True])
def test_a_login_of_docker(
    tokens: bool, server: HostileRegistry, logged_in: LogIn
) -> None:
    server.login, server.tokens = LOGIN, tokens
    logged_in(server.host)
    assert read(repository(server)) == DATA
    assert len(server.asked(".")) == (3 if tokens else 2)


@pytest.mark.parametrize("tokens", [False, True])
def test_nobody_has_logged_in(tokens: bool, server: HostileRegistry) -> None:
    server.login, server.tokens = LOGIN, tokens
    client = repository(server)
    for ask in (
        lambda: read(client),
        lambda: client.manifest("1.0.0"),
        lambda: client.has_blob(WHAT),
        lambda: list(client.tags()),
        lambda: client.put_manifest(PLAIN, MANIFEST),
    ):
        with pytest.raises(FetchError) as caught:
            ask()
        assert caught.value.status == 401
        assert not caught.value.missing
        assert caught.value.hint == (
            f"run `docker login {server.host}` with a user who may do this"
        )


def test_variables_of_oras_py_are_shown_to_nobody(
    server: HostileRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORAS_USER", LOGIN[0])
    monkeypatch.setenv("ORAS_PASS", LOGIN[1])
    for server.tokens in (False, True):
        server.login = LOGIN
        with pytest.raises(FetchError, match="401"):
            read(repository(server))
    assert {one for seen in server.seen for one in seen.secrets} == set()


def test_a_login_through_a_helper(server: HostileRegistry, helper: LogIn) -> None:
    server.login, server.tokens = LOGIN, True
    user, password = LOGIN
    answer = json.dumps({"Username": user, "Secret": password})
    helper(f"test $(cat) = {server.host} && echo '{answer}'")
    assert read(repository(server)) == DATA
    helper(f"test $(cat) = {server.host} && echo '{answer}'", host=server.host)
    assert read(repository(server, tries=2)) == DATA


def test_a_helper_is_not_asked_for_another_host(
    server: HostileRegistry, helper: LogIn
) -> None:
    """oras-py asks for 127.0.0.1 when localhost has no login."""
    server.login = LOGIN
    answer = json.dumps({"Username": LOGIN[0], "Secret": LOGIN[1]})
    helper(
        'read h; case $h in 127*) echo "$A" ;; *) echo credentials not found in '
        "native keychain; exit 1 ;; esac".replace("$A", answer.replace('"', '\\"'))
    )
    assert read(repository(server)) == DATA
    server.seen.clear()
    client = registry_client(f"localhost:{server.server_port}", network=quick())
    answer_ = client.ask("GET", f"{client.origin}/v2/acme/app/x", Access(PATH, "pull"))
    assert answer_.status == 401
    assert {one for seen in server.seen for one in seen.secrets} == set()


@pytest.mark.parametrize("tokens", [False, True])
def test_identity_tokens_are_refused(
    tokens: bool, server: HostileRegistry, helper: LogIn
) -> None:
    server.login, server.tokens = LOGIN, tokens
    helper('echo \'{"Username":"<token>","Secret":"x"}\'')
    with pytest.raises(FetchError, match="is an identity token"):
        read(repository(server))


def test_nothing_is_logged(
    server: HostileRegistry,
    logged_in: LogIn,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    logged_in(server.host)
    server.login = LOGIN
    for server.tokens in (False, True):
        assert read(repository(server)) == DATA
    tokens = list(server.granted)
    server.lies("/token", lies.body(f"{tokens[0]} no JSON".encode()))
    server.expire_tokens()
    with pytest.raises(FetchError, match="sent JSON with none, or none") as caught:
        read(repository(server))
    out, err = capfd.readouterr()
    texts = [out, err, caplog.text, f"{caught.value!r}{caught.value.facts()}"]
    assert all(one not in text for one in (*SECRETS, *tokens) for text in texts)
    assert (out, err) == ("", "")


def test_values_show_nothing() -> None:
    assert "secret" not in f"{Shown('secret', 3)} {[Shown('secret')]!r}"


# --- tokens --------------------------------------------------------------------------


def test_a_token_for_everybody(server: HostileRegistry) -> None:
    """As Docker Hub gives for what anybody may read."""
    server.login, server.tokens = LOGIN, True

    def give(talk: Conversation) -> None:
        assert "Authorization" not in talk.headers
        server.granted["all"] = {f"repository:{PATH}:pull"}
        body = json.dumps({"access_token": "all"}).encode()
        talk.say(200, body, {"Content-Type": "application/json"})

    server.lies("GET /token", give)
    assert read(repository(server)) == DATA


def test_scopes_are_ours(server: HostileRegistry, logged_in: LogIn) -> None:
    server.login, server.tokens = LOGIN, True
    logged_in(server.host)
    challenge = (
        f'Bearer realm="{server.realm}",service="hostile",'
        f'scope="repository:{PATH}:pull,push,delete"'
    )
    server.lies("GET .*/blobs/", lies.status(401, WWW_Authenticate=challenge), times=1)
    client = repository(server)
    assert read(client) == DATA
    small = Descriptor.of(b"x", "text/plain")
    assert client.put_blob(small, io.BytesIO(b"x"))
    assert scopes(server) == [
        [f"repository:{PATH}:pull"],
        [f"repository:{PATH}:pull,push"],
    ]


def test_a_token_to_delete(server: HostileRegistry, logged_in: LogIn) -> None:
    server.login, server.tokens = LOGIN, True
    logged_in(server.host)
    challenge = f'Bearer realm="{server.realm}",scope="repository:{PATH}:delete"'
    server.lies("DELETE", lies.status(401, WWW_Authenticate=challenge), times=1)
    client = repository(server)
    with pytest.raises(FetchError, match="401"):
        # Of this registry, only a token to push deletes.
        client.delete_manifest(Descriptor.of(PLAIN, MANIFEST).digest)
    assert scopes(server) == [[f"repository:{PATH}:delete"]]


def test_a_token_to_mount(server: HostileRegistry, logged_in: LogIn) -> None:
    server.login, server.tokens = LOGIN, True
    logged_in(server.host)
    server.of("acme/base").add_blob(b"shared")
    shared = Descriptor.of(b"shared", "text/plain")
    client = repository(server)
    assert not client.put_blob(shared, io.BytesIO(b""), mount_from=["acme/base"])
    assert [f"repository:{PATH}:pull,push", "repository:acme/base:pull"] in scopes(
        server
    )


@pytest.mark.parametrize(
    "scope", ["repository:acme/other:pull", "registry:catalog:*", "x"]
)
def test_a_token_for_something_else(
    scope: str, server: HostileRegistry, logged_in: LogIn
) -> None:
    logged_in(server.host)
    challenge = f'Bearer realm="{server.realm}",scope="{scope}"'
    server.lies("GET .*/blobs/", lies.status(401, WWW_Authenticate=challenge))
    with pytest.raises(FetchError, match="expected one for repository acme/app"):
        read(repository(server))
    assert not server.asked("/token")


def test_one_token_for_many_threads(server: HostileRegistry, logged_in: LogIn) -> None:
    server.login, server.tokens = LOGIN, True
    logged_in(server.host)
    client = repository(server)
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(read(client))) for _ in range(6)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found == [DATA] * 6
    assert len(server.asked("/token")) == 1


def test_an_old_token_is_renewed_before_it_is_shown(
    server: HostileRegistry, logged_in: LogIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.login, server.tokens = LOGIN, True
    logged_in(server.host)
    client = repository(server)
    assert read(client) == DATA
    later = time.monotonic() + 299
    monkeypatch.setattr(
        "margo_supplychain.transport.oci_registry.authorization.time",
        type("Later", (), {"monotonic": staticmethod(lambda: later)}),
    )
    server.seen.clear()
    assert read(client) == DATA
    assert [one.path.partition("?")[0] for one in server.seen] == [
        "/token",
        f"/v2/{PATH}/blobs/{WHAT.digest}",
    ]


def test_a_token_host_that_the_owner_names(
    server: HostileRegistry, logged_in: LogIn
) -> None:
    server.login, server.tokens = LOGIN, True
    server.realm = f"http://localhost:{server.server_port}/token"
    logged_in(server.host)
    access = RegistryAccess(token_host=f"localhost:{server.server_port}")
    assert read(repository(server, registries={server.host: access})) == DATA


def test_a_stranger_gives_tokens_for_everybody_alone(server: HostileRegistry) -> None:
    """Who shows nothing may ask anybody who has TLS, or is this machine."""
    server.login, server.tokens = LOGIN, True
    server.realm = f"http://localhost:{server.server_port}/token"
    with pytest.raises(FetchError, match="to a client without login"):
        read(repository(server))
    assert server.asked("/token")


@pytest.mark.parametrize(
    ("status", "kind"), [(401, True), (403, True), (404, False), (302, False)]
)
def test_a_token_server_that_refuses(
    status: int, kind: bool, server: HostileRegistry, logged_in: LogIn
) -> None:
    server.login, server.tokens = LOGIN, True
    logged_in(server.host)
    server.lies("/token", lies.status(status))
    with pytest.raises(FetchError, match=f"answered {status} to this login") as caught:
        read(repository(server))
    assert caught.value.status == status
    assert ("docker login" in (caught.value.hint or "")) is kind
    assert not caught.value.missing


def test_a_lifetime_that_is_none(server: HostileRegistry, logged_in: LogIn) -> None:
    server.login, server.tokens = LOGIN, True
    logged_in(server.host)
    server.lies("/token", lies.document({"token": "a", "expires_in": "soon"}))
    with pytest.raises(FetchError, match="one with no lifetime"):
        read(repository(server))


def test_who_waits_for_a_token_may_lose_patience(
    server: HostileRegistry, logged_in: LogIn
) -> None:
    server.login, server.tokens = LOGIN, True
    logged_in(server.host)
    server.lies("/token", lies.silent)
    waiting = threading.Event()

    def impatient(_: int) -> None:
        if server.asked("/token"):
            waiting.set()
            raise KeyboardInterrupt

    client = repository(server, read_timeout=20, response_timeout=20)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            client.manifest("1.0.0", tick=impatient)
    assert waiting.is_set()


def test_who_waits_for_another_thread_may_lose_patience(
    server: HostileRegistry, logged_in: LogIn
) -> None:
    server.login, server.tokens = LOGIN, True
    logged_in(server.host)
    server.lies("/token", lies.silent)
    client = repository(server, read_timeout=3, response_timeout=3, tries=1)

    def patient() -> None:
        with pytest.raises(TooSlowError):
            client.manifest("1.0.0")

    def impatient(_: int) -> None:
        raise KeyboardInterrupt

    thread = threading.Thread(target=patient)
    thread.start()
    while not server.asked("/token"):
        time.sleep(0.01)
    with pytest.raises(KeyboardInterrupt):
        client.manifest("1.0.0", tick=impatient)
    thread.join()


# --- where nothing is shown ----------------------------------------------------------


def speaker(url: str = "http://mirror.plant:5000") -> Speaker:
    network = quick()
    authorization = Authorization(
        urlsplit(url).netloc,
        url,
        Access(PATH, "pull"),
        network=network,
        connections=Connections(network),
    )
    return Speaker(authorization, url=url)


@pytest.mark.parametrize("challenge", ["Basic", 'Bearer realm="https://h/t"'])
def test_nothing_is_shown_over_plain_http(challenge: str, logged_in: LogIn) -> None:
    logged_in("mirror.plant:5000")
    one = speaker()
    url = "http://mirror.plant:5000/v2/"
    with pytest.raises(FetchError, match="a login over plain http"):
        one.challenged(url, 401, {"WWW-Authenticate": challenge})
    assert one.headers(url) == {}


def test_other_origins_are_not_answered() -> None:
    one = speaker()
    for url in (
        "http://mirror.plant:5001/v2/",
        "https://mirror.plant:5000/v2/",
        "http://mirror.plant:5000@evil.example/",
    ):
        assert not one.challenged(url, 401, {"WWW-Authenticate": "Basic"})
        assert one.headers(url) == {}


def test_what_is_no_challenge() -> None:
    one = speaker()
    url = "http://mirror.plant:5000/v2/"
    assert not one.challenged(url, 403, {"WWW-Authenticate": "Basic"})
    assert not one.challenged(url, 401, {})
    assert not one.challenged(url, 401, {"WWW-Authenticate": " "})
    with pytest.raises(FetchError, match="login by negotiate, digest; only Basic"):
        one.challenged(url, 401, {"WWW-Authenticate": "Negotiate, Digest"})
    with pytest.raises(FetchError, match="sent a challenge that names realm twice"):
        one.challenged(url, 401, {"WWW-Authenticate": "Basic realm=a, realm=b"})


@pytest.mark.parametrize("host", ["localhost", "harbor", "[::1]:5000", "h.example"])
def test_a_login_for_a_host_of_any_shape(host: str, logged_in: LogIn) -> None:
    """What oras-py takes for a namespace of Docker Hub is a host."""
    logged_in(host)
    network = quick()
    asked = Asked(host, f"https://{host}", "a.b/c", network, Connections(network), None)
    shown = HardenedRegistry(asked).show_login(Challenge("basic", "", None, ()))
    assert shown is not None
    assert shown.value == basic(*LOGIN)


def test_a_realm_that_nobody_asks(server: HostileRegistry, logged_in: LogIn) -> None:
    logged_in(server.host)
    server.login, server.tokens = LOGIN, True
    server.realm = "http://registry.example/token"
    with pytest.raises(FetchError, match="takes tokens from http:"):
        read(repository(server))


def test_token_sessions_do_nothing_else() -> None:
    network = quick()
    asked = Asked("h", "https://h", PATH, network, Connections(network), None)
    registry = HardenedRegistry(asked)
    session = TokenSession(
        "https://h/token", asked, has_login=False, ask=registry.do_request
    )
    for method, url, verify in (
        ("POST", "https://h/token", True),
        ("GET", "https://h/other", True),
        ("GET", "https://h/token", False),
    ):
        with pytest.raises(NotImplementedError, match="something else than a token"):
            session.request(method, url, params={}, verify=verify)


# --- Amazon --------------------------------------------------------------------------

ECR: Final = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
ECR_CHALLENGE: Final = Challenge("basic", f"https://{ECR}/", "ecr.amazonaws.com", ())


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A boto3 that answers what `get_authorization_token` is set to."""
    boto3, botocore = ModuleType("boto3"), ModuleType("botocore.exceptions")
    client = ModuleType("client")

    def made(service: str, *, region_name: str) -> ModuleType:
        assert service == "ecr"
        vars(client)["region"] = region_name
        return client

    vars(boto3)["client"] = made
    for name in ("BotoCoreError", "ClientError"):
        setattr(botocore, name, type(name, (Exception,), {}))
    monkeypatch.setitem(sys.modules, "boto3", boto3)
    monkeypatch.setitem(sys.modules, "botocore.exceptions", botocore)
    vars(client)["failures"] = botocore
    return client


def ask_ecr(
    challenge: Challenge = ECR_CHALLENGE,
    *,
    tick: Callable[[int], None] | None = None,
    **limits: Any,
) -> Shown | None:
    network = quick(**limits)
    asked = Asked(ECR, f"https://{ECR}", PATH, network, Connections(network), tick)
    return HardenedRegistry(asked).show_login(challenge)


def test_ecr_through_boto3(aws: Any) -> None:
    token = base64.b64encode(b"AWS:insecure").decode()
    aws.get_authorization_token = lambda: {
        "authorizationData": [{"authorizationToken": token}]
    }
    assert ask_ecr() == Shown(f"Basic {token}")
    assert aws.region == "eu-west-1"


def test_ecr_through_docker_comes_first(aws: Any, logged_in: LogIn) -> None:
    logged_in(ECR, login=("AWS", "insecure"))
    shown = ask_ecr()
    assert shown is not None
    assert shown.value == basic("AWS", "insecure")


def test_ecr_without_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(FetchError, match="wants a login of AWS") as caught:
        ask_ecr()
    assert "docker-credential-ecr-login" in (caught.value.hint or "")


def test_ecr_fails(aws: Any) -> None:
    def refuse() -> None:
        raise aws.failures.ClientError("insecure-secret")

    answers: list[Callable[[], Any]] = [
        refuse,
        dict,
        lambda: None,
        lambda: {"authorizationData": []},
    ]
    for answer in answers:
        aws.get_authorization_token = answer
        with pytest.raises(FetchError, match="got no login from AWS") as caught:
            ask_ecr()
        assert "insecure-secret" not in str(caught.value)
    aws.get_authorization_token = lambda: {
        "authorizationData": [{"authorizationToken": "a\nb"}]
    }
    with pytest.raises(FetchError, match="no usable login from AWS"):
        ask_ecr()


def test_ecr_takes_too_long(aws: Any) -> None:
    aws.get_authorization_token = lambda: time.sleep(1.5)
    with pytest.raises(TooSlowError, match="AWS gave no login"):
        ask_ecr(response_timeout=0.1)

    def impatient(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask_ecr(tick=impatient)


def test_ecr_of_somebody_else(aws: Any) -> None:
    other = ECR.replace("123456789012", "210987654321")
    with pytest.raises(FetchError, match="realm that is another registry"):
        ask_ecr(ECR_CHALLENGE._replace(realm=f"https://{other}/"))
