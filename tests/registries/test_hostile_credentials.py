"""What a registry may do to see credentials that are not its own.

Reference §6, "Credentials". A second server, the stranger, records what reaches it: no
Authorization, no client certificate, no cookie, ever, whatever else it may be asked.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest

from margo_supplychain.errors import FetchError, SupplyChainError
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.oci import MANIFEST, Layer, manifest_bytes
from margo_supplychain.formats.references import RegistryReference
from margo_supplychain.transport.mirrors import NO_MIRRORS, MirroredContent, MirrorMap
from margo_supplychain.transport.network import RegistryAccess
from margo_supplychain.transport.oci_registry import RegistryRepository
from tests.registries import lies
from tests.registries.certificates import Authority
from tests.registries.hostile import HostileRegistry
from tests.registries.plant import quick

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.registries.hostile import Conversation

LOGIN: Final = ("plant", "insecure-password")
REPOSITORY: Final = "acme/app"
DATA: Final = bytes(range(256)) * 2000
WHAT: Final = Descriptor.of(DATA, "application/octet-stream")
PLAIN: Final = manifest_bytes(
    artifact_type="application/wasm",
    layers=[Layer(descriptor=Descriptor.of(DATA, "application/wasm"))],
)
BLOB: Final = "GET .*/blobs/"
TOKEN: Final = "/token"
SCHEMES: Final = pytest.mark.parametrize("scheme", ["basic", "token"])


@pytest.fixture
def server() -> Iterator[HostileRegistry]:
    with HostileRegistry() as server:
        server.login = LOGIN
        server.of(REPOSITORY).add_blob(DATA)
        server.of(REPOSITORY).add_manifest(PLAIN, tag="1.0.0")
        yield server


@pytest.fixture
def stranger(server: HostileRegistry) -> Iterator[HostileRegistry]:
    """Another origin, which would gladly serve the same."""
    with HostileRegistry() as stranger:
        stranger.holdings = server.holdings
        yield stranger


@pytest.fixture
def client(server: HostileRegistry, tmp_path: Path) -> RegistryRepository:
    return client_of(server, docker_config(tmp_path, server))


def docker_config(directory: Path, *servers: HostileRegistry) -> Path:
    said = base64.b64encode(":".join(LOGIN).encode()).decode()
    path = directory / "config.json"
    auths = {server.host: {"auth": said} for server in servers}
    path.write_text(json.dumps({"auths": auths}), encoding="utf-8")
    return path


def client_of(
    server: HostileRegistry, config: Path, **access: RegistryAccess
) -> RegistryRepository:
    reference = RegistryReference.parse(f"oci://{server.host}/{REPOSITORY}")
    network = quick(docker_config=config, registries=access)
    return RegistryRepository(reference, network=network)


def read(client: RegistryRepository) -> bytes:
    with client.open_blob(WHAT) as stream:
        return stream.read()


def learnt_nothing(stranger: HostileRegistry) -> None:
    assert [one.secrets for one in stranger.seen if one.secrets] == []


# --- other origins -------------------------------------------------------------------


@SCHEMES
@pytest.mark.parametrize("number", [301, 302, 303, 307, 308])
def test_redirect_to_another_host(
    scheme: str,
    number: int,
    server: HostileRegistry,
    stranger: HostileRegistry,
    client: RegistryRepository,
) -> None:
    server.tokens = scheme == "token"
    assert read(client) == DATA
    server.lies(BLOB, lies.redirect(stranger.url, number))
    assert read(client) == DATA
    assert stranger.asked(BLOB)
    learnt_nothing(stranger)


def test_redirect_to_another_host_that_asks_for_a_login(
    server: HostileRegistry, stranger: HostileRegistry, client: RegistryRepository
) -> None:
    stranger.login = LOGIN
    for stranger.tokens in (False, True):
        server.lies(BLOB, lies.redirect(stranger.url))
        with pytest.raises(FetchError, match="401"):
            read(client)
    learnt_nothing(stranger)


def test_redirect_and_back(
    server: HostileRegistry, stranger: HostileRegistry, client: RegistryRepository
) -> None:
    server.lies(BLOB, lies.redirect(stranger.url), times=1)
    stranger.lies(BLOB, lies.redirect(server.url), times=1)
    assert read(client) == DATA
    learnt_nothing(stranger)


@SCHEMES
def test_resumption_at_another_host(
    scheme: str,
    server: HostileRegistry,
    stranger: HostileRegistry,
    client: RegistryRepository,
) -> None:
    server.tokens = scheme == "token"
    server.lies(BLOB, lies.then(lies.cut, lies.redirect(stranger.url)))
    assert read(client) == DATA
    learnt_nothing(stranger)


def test_redirect_from_https_to_http(stranger: HostileRegistry, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with HostileRegistry(authority.server_context()) as server:
        server.of(REPOSITORY).add_blob(DATA)
        access = RegistryAccess(ca_file=authority.file)
        config = docker_config(tmp_path, server)
        client = client_of(server, config, **{server.host: access})
        assert read(client) == DATA
        server.lies(BLOB, lies.redirect(stranger.url))
        with pytest.raises(FetchError, match="not followed"):
            read(client)
    assert stranger.seen == []


def test_client_certificate_stays_at_its_origin(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("device")
    contexts = [authority.server_context(ask_client=True) for _ in range(2)]
    with HostileRegistry(contexts[0]) as server, HostileRegistry(contexts[1]) as other:
        server.of(REPOSITORY).add_blob(DATA)
        other.holdings = server.holdings
        access = {
            server.host: RegistryAccess(
                ca_file=authority.file,
                certificate=pair.certificate,
                private_key=pair.key,
            ),
            other.host: RegistryAccess(ca_file=authority.file),
        }
        client = client_of(server, docker_config(tmp_path), **access)
        assert read(client) == DATA
        assert server.seen[-1].secrets == {"client certificate"}
        server.lies(BLOB, lies.redirect(other.url))
        assert read(client) == DATA
        assert other.asked(BLOB)
        learnt_nothing(other)


def test_authority_of_one_registry_says_nothing_of_another(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with (
        HostileRegistry(authority.server_context()) as server,
        HostileRegistry(authority.server_context()) as other,
    ):
        server.of(REPOSITORY).add_blob(DATA)
        other.holdings = server.holdings
        access = RegistryAccess(ca_file=authority.file)
        client = client_of(server, docker_config(tmp_path), **{server.host: access})
        assert read(client) == DATA
        server.lies(BLOB, lies.redirect(other.url))
        with pytest.raises(FetchError, match="certificate"):
            read(client)
        assert other.seen == []


# --- tokens --------------------------------------------------------------------------


def test_token_is_used_again(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    server.tokens = True
    for _ in range(3):
        assert read(client) == DATA
    assert len(server.asked(TOKEN)) == 1


@pytest.mark.parametrize("where", ["host", "userinfo", "ftp", "nothing", "path"])
def test_realm_at_another_origin(
    where: str,
    server: HostileRegistry,
    tmp_path: Path,
) -> None:
    """Over loopback any port may give tokens; a name is another host."""
    server.tokens = True
    server.realm = {
        "host": f"http://localhost.example:{server.server_port}/token",
        "userinfo": f"http://user:password@{server.host}/token",
        "ftp": f"ftp://{server.host}/token",
        "nothing": "",
        "path": "/etc/passwd",
    }[where]
    client = client_of(server, docker_config(tmp_path, server))
    with pytest.raises(SupplyChainError) as caught:
        read(client)
    assert LOGIN[1] not in f"{caught.value} {caught.value.hint}"
    assert server.asked(TOKEN) == []
    assert {secret for one in server.seen for secret in one.secrets} == set()


def test_realm_over_http_for_a_registry_over_https(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with (
        HostileRegistry(authority.server_context()) as server,
        HostileRegistry() as stranger,
    ):
        server.of(REPOSITORY).add_blob(DATA)
        server.login, server.tokens = LOGIN, True
        stranger.login = LOGIN
        server.realm = f"http://192.0.2.1:{stranger.server_port}/token"
        access = RegistryAccess(ca_file=authority.file)
        config = docker_config(tmp_path, server)
        client = client_of(server, config, **{server.host: access})
        with pytest.raises(SupplyChainError):
            read(client)
        assert stranger.seen == []


def test_token_of_the_wrong_scope(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    server.tokens = True
    server.granted["other"] = {"repository:acme/other:pull"}
    server.lies(TOKEN, lies.document({"token": "other", "expires_in": 300}))
    with pytest.raises(FetchError, match="401"):
        read(client)
    assert len(server.asked(TOKEN)) <= 2
    assert len(server.asked(BLOB)) <= 3


def test_token_expires_between_two_requests(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    server.tokens = True
    assert read(client) == DATA
    server.expire_tokens()
    assert read(client) == DATA
    assert len(server.asked(TOKEN)) == 2


def test_token_expires_in_the_middle_of_a_download(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    server.tokens = True

    def cut_and_expire(talk: Conversation) -> None:
        lies.cut(talk)
        server.expire_tokens()

    assert client.manifest("1.0.0")[0] == PLAIN
    server.lies(BLOB, cut_and_expire, times=1)
    assert read(client) == DATA
    assert len(server.asked(TOKEN)) == 2
    assert server.asked(BLOB)[-1].headers["range"].startswith("bytes=")


TOKEN_ANSWERS: Final = {
    "no document": lies.body(b"token"),
    "a list": lies.document([]),
    "no token": lies.document({"expires_in": 300}),
    "token no text": lies.document({"token": 7}),
    "token empty": lies.document({"token": ""}),
    "token with a line end": lies.document({"token": "a\r\nX-Evil: 1"}),
    "token very long": lies.document({"token": "a" * (1 << 20)}),
    "duplicate keys": lies.body(b'{"token":"a","token":"b"}'),
    "nan": lies.body(b'{"token":"a","expires_in":NaN}'),
    "deep": lies.body(b'{"token":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "endless": lies.endless,
    "silent": lies.silent,
    "dripping": lies.dripping,
    "refused": lies.status(401),
    "forbidden": lies.status(403),
    "broken": lies.status(500),
}


@pytest.mark.parametrize("name", TOKEN_ANSWERS)
def test_lie_of_a_token_server(
    name: str, server: HostileRegistry, client: RegistryRepository
) -> None:
    server.tokens = True
    server.lies(TOKEN, TOKEN_ANSWERS[name])
    with pytest.raises(SupplyChainError) as caught:
        read(client)
    assert LOGIN[1] not in f"{caught.value} {caught.value.hint}"
    assert len(server.asked(".")) <= 12
    assert all("x-evil" not in one.headers for one in server.seen)
    assert server.sent < 32 << 20


def test_redirect_of_a_token_request(
    server: HostileRegistry, stranger: HostileRegistry, client: RegistryRepository
) -> None:
    server.tokens = True
    stranger.login = LOGIN
    server.lies(TOKEN, lies.redirect(stranger.url))
    with pytest.raises(SupplyChainError):
        read(client)
    learnt_nothing(stranger)


@pytest.mark.parametrize(
    "challenge",
    [
        "",
        "Bearer",
        "Bearer realm=",
        'Bearer realm="http://',
        "Negotiate",
        'Digest realm="x", nonce="y"',
        "Basic " * 5000,
        'Bearer realm="http://[::1"',
        'Bearer realm="http://127.0.0.1:99999/token"',
        'Bearer realm="x\\"',
    ],
)
def test_challenge_that_is_none(
    challenge: str, server: HostileRegistry, client: RegistryRepository
) -> None:
    server.lies(BLOB, lies.status(401, WWW_Authenticate=challenge))
    with pytest.raises(SupplyChainError):
        read(client)
    assert len(server.asked(".")) <= 4


@pytest.mark.parametrize(
    "scope",
    [
        "repository:acme/other:pull",
        "repository:acme/app:pull,push,delete",
        "repository:acme/app:*",
        "registry:catalog:*",
        "repository:acme/app:pull repository:acme/other:push",
    ],
)
def test_challenge_that_wants_more(
    scope: str, server: HostileRegistry, client: RegistryRepository
) -> None:
    """A token is asked for what we want to do, not for what the registry would like
    to see: it could use it elsewhere."""
    server.tokens = True
    challenge = f'Bearer realm="{server.realm}",service="x",scope="{scope}"'
    server.lies(BLOB, lies.status(401, WWW_Authenticate=challenge), times=1)
    with contextlib.suppress(FetchError):
        assert read(client) == DATA
    for one in server.asked(TOKEN):
        (asked,) = parse_qs(urlsplit(one.path).query)["scope"]
        assert asked == f"repository:{REPOSITORY}:pull"


def test_nothing_is_shown_before_it_is_asked_for(
    server: HostileRegistry, client: RegistryRepository
) -> None:
    server.login = None
    assert read(client) == DATA
    server.login = LOGIN
    assert read(client) == DATA
    shown = [bool(one.secrets) for one in server.seen]
    assert shown == [False, False, True]


# --- whose credentials ---------------------------------------------------------------


def test_credentials_of_one_registry_are_not_shown_to_another(
    server: HostileRegistry, stranger: HostileRegistry, tmp_path: Path
) -> None:
    config = docker_config(tmp_path, server)
    assert read(client_of(stranger, config)) == DATA
    stranger.login = LOGIN
    for stranger.tokens in (False, True):
        with pytest.raises(FetchError, match="401"):
            read(client_of(stranger, config))
    learnt_nothing(stranger)


def test_record_that_names_what_only_the_operator_may_read(
    server: HostileRegistry, tmp_path: Path
) -> None:
    """Who takes in what vendors name, would copy it to everybody: so no login is used
    but where the operator names the registry, or says where its content lies."""
    config = docker_config(tmp_path, server)
    location = f"oci://{server.host}/{REPOSITORY}"
    assert read(client_of(server, config)) == DATA

    def taken_in(*, mirrors: MirrorMap = NO_MIRRORS, **options: Any) -> bytes:
        network = quick(docker_config=config, **options)
        content = MirroredContent(
            mirrors, network=network, anonymous=True, trust=location
        )
        (source,) = content.sources([location])
        with source.blob(WHAT) as stream:
            return stream.read()

    for server.tokens in (False, True):
        server.seen.clear()
        with pytest.raises(FetchError, match="401"):
            taken_in()
        assert server.seen
        learnt_nothing(server)
    assert taken_in(registries={server.host: RegistryAccess()}) == DATA
    assert taken_in(mirrors=MirrorMap({location: [location]})) == DATA
    server.login = None
    server.seen.clear()
    assert taken_in() == DATA
    learnt_nothing(server)


def test_tokens_of_one_registry_are_not_shown_to_another(
    server: HostileRegistry, stranger: HostileRegistry, tmp_path: Path
) -> None:
    server.tokens = stranger.tokens = True
    stranger.login = LOGIN
    config = docker_config(tmp_path, server, stranger)
    network = quick(docker_config=config)
    for host in (server.host, stranger.host, server.host):
        reference = RegistryReference.parse(f"oci://{host}/{REPOSITORY}")
        assert read(RegistryRepository(reference, network=network)) == DATA
    shown = {one.headers.get("authorization") for one in server.asked(BLOB)}
    others = {one.headers.get("authorization") for one in stranger.asked(BLOB)}
    assert shown & others == {None} & shown


def test_token_of_one_repository_is_not_shown_for_another(
    server: HostileRegistry, tmp_path: Path
) -> None:
    server.tokens = True
    server.holdings["acme/other"] = server.holdings[REPOSITORY]
    network = quick(docker_config=docker_config(tmp_path, server))
    for path in (REPOSITORY, "acme/other"):
        reference = RegistryReference.parse(f"oci://{server.host}/{path}")
        assert read(RegistryRepository(reference, network=network)) == DATA
    assert len(server.asked(TOKEN)) == 2


def test_wrong_password_is_said_once_and_not_repeated(
    server: HostileRegistry,
    client: RegistryRepository,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.login = ("plant", "another")
    caplog.set_level(logging.DEBUG)
    for server.tokens in (False, True):
        server.seen.clear()
        with pytest.raises(FetchError, match="401") as caught:
            read(client)
        assert caught.value.status == 401
        assert len(server.seen) <= 4
        said = f"{caught.value} {caught.value.hint} {caplog.text} {caught.value.url}"
        assert LOGIN[1] not in said
        assert base64.b64encode(":".join(LOGIN).encode()).decode() not in said


# --- uploads -------------------------------------------------------------------------


@SCHEMES
def test_upload_to_another_host(
    scheme: str,
    server: HostileRegistry,
    stranger: HostileRegistry,
    client: RegistryRepository,
) -> None:
    server.tokens = scheme == "token"
    data = b"what only we should see" * 1000
    what = Descriptor.of(data, "application/octet-stream")

    def elsewhere(talk: Conversation) -> None:
        truth = talk.truth()
        headers = dict(truth.headers)
        if "Location" in headers:
            headers["Location"] = stranger.url + headers["Location"]
        talk.tell(truth._replace(headers=headers))

    server.lies("POST .*/uploads/", elsewhere)
    with pytest.raises(FetchError, match="would go on at"):
        client.put_blob(what, io.BytesIO(data))
    assert stranger.seen == []


def test_manifest_to_another_host(
    server: HostileRegistry, stranger: HostileRegistry, client: RegistryRepository
) -> None:
    server.lies("PUT .*/manifests/", lies.redirect(stranger.url))
    with pytest.raises(FetchError, match="sends its clients elsewhere"):
        client.put_manifest(PLAIN, MANIFEST, tag="2.0.0")
    assert stranger.seen == []
