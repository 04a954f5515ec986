"""What docs/adr/0011-seams-of-oras-py.md promises about oras-py.

The numbers are those of the defects that were known when oras-py 0.2.43 was read.
"""

from __future__ import annotations

import inspect
import io
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import oras.provider
import oras.version
import pytest
from oras.auth.base import AuthBackend
from oras.auth.ecr import EcrAuth
from oras.auth.token import TokenAuth

from margo_supplychain.errors import DigestMismatchError, FetchError, TooSlowError
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.oci import MANIFEST
from margo_supplychain.transport.connections import Connections
from margo_supplychain.transport.oci_registry import registry_client
from margo_supplychain.transport.oci_registry.authorization import Access
from margo_supplychain.transport.oci_registry.oras_seams import HardenedRegistry
from margo_supplychain.transport.oci_registry.tokens import Asked
from tests.registries import lies
from tests.registries.hostile import HostileRegistry
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
    from collections.abc import Callable, Iterator

    from tests.registries.hostile import Conversation

# Ours, or harmless: they touch neither the network nor a header.
OURS: Final = {"__init__", "do_request", "__str__"}
INHERITED: Final = {"__repr__"}


@pytest.fixture
def registry(server: HostileRegistry) -> HardenedRegistry:
    network = quick()
    connections = Connections(network)
    return HardenedRegistry(
        Asked(server.host, server.url, PATH, network, connections, None)
    )


def own_functions(kind: type) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(kind).items()
        if inspect.isfunction(value) or isinstance(value, (classmethod, staticmethod))
    }


def test_every_method_of_oras_py_is_ours_or_blocked(registry: HardenedRegistry) -> None:
    ours = own_functions(HardenedRegistry)
    names = own_functions(oras.provider.Registry)
    assert len(names) > 30
    for name in names.keys() - OURS - INHERITED:
        # An upgrade that adds a method fails here: override or block it.
        assert ours.get(name) is HardenedRegistry._never, name
        with pytest.raises(NotImplementedError, match="checks nothing"):
            getattr(registry, name)("acme/app", "1.0.0")
    assert ours.keys() >= OURS


def test_the_version_that_was_read() -> None:
    """Read the changes, and the page on the seams, before this number is raised."""
    assert oras.version.__version__ == "0.2.43"


def test_no_session_of_requests_is_left(registry: HardenedRegistry) -> None:
    for part in (registry.session, registry.auth):
        for name in ("request", "get", "cookies", "cert", "load_configs", "token"):
            with pytest.raises(NotImplementedError, match="past our request path"):
                getattr(part, name)
    assert registry.headers == {}


def test_only_the_realm_of_a_challenge_is_asked(
    registry: HardenedRegistry, server: HostileRegistry
) -> None:
    assert str(registry) == server.url
    realm = f"{server.url}/token"
    with pytest.raises(NotImplementedError, match="something else than a token"):
        registry.do_request(realm)
    registry._realm = realm
    answer = registry.do_request(f"{realm}?scope=x")
    assert answer.url == f"{realm}?scope=x"
    for url in (f"{server.url}/v2/", "http://127.0.0.1:1/token", f"{realm}/x"):
        with pytest.raises(NotImplementedError, match="something else than a token"):
            registry.do_request(url)
    asked: tuple[dict[str, Any], ...] = (
        {"method": "POST"},
        {"data": b""},
        {"json": {}},
        {"stream": True},
    )
    for options in asked:
        with pytest.raises(NotImplementedError, match="something else than a token"):
            registry.do_request(realm, **options)


def test_a_client_asks_its_own_origin_alone(server: HostileRegistry) -> None:
    client = registry_client(server.host, network=quick())
    pull = Access(PATH, "pull")
    assert client.origin == server.url
    assert client.ask("GET", f"{server.url}/v2/", pull).status == 200
    for url in (
        f"{server.url}@evil.example/",
        "http://127.0.0.1:1/v2/",
        server.url,
        f"https://{server.host}/",
    ):
        with pytest.raises(ValueError, match="is not a URL of"):
            client.ask("GET", url, pull)
        with pytest.raises(ValueError, match="is not a URL of"):
            client.transfer(url, pull)


def test_oras_py_is_loaded_for_a_login_only(server: HostileRegistry) -> None:
    server.of(PATH).add_manifest(PLAIN, tag="1.0.0")
    code = f"""
import sys
from margo_supplychain.formats.references import RegistryReference
from margo_supplychain.transport.network import Network
from margo_supplychain.transport.oci_registry import RegistryRepository
reference = RegistryReference.parse("oci://{server.host}/{PATH}")
RegistryRepository(reference, network=Network()).manifest("1.0.0")
print("oras" in sys.modules, "requests" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, timeout=60
    )
    assert done.stdout.split() == [b"False", b"False"]


def test_what_is_read_of_the_back_ends_is_still_there() -> None:
    names = {"load_configs", "_load_auth", "_get_auth_from_creds_store"}
    assert names <= own_functions(AuthBackend).keys()
    token = own_functions(TokenAuth)
    assert {"authenticate_request", "request_token"} <= token.keys()
    assert "AWS_ECR_PATTERN" in vars(EcrAuth)
    # Both ask for a token through what they find as `session`, and nothing else.
    for name in ("request_token", "request_anonymous_token"):
        source = inspect.getsource(token[name])
        assert source.count("self.session.") == 1
        assert "requests." not in source.partition('"""')[2].partition('"""')[2]


# --- defects that can't be reached ---------------------------------------------------


def test_1_content_is_compared_with_its_digest(server: HostileRegistry) -> None:
    digest = server.of(PATH).add_manifest(PLAIN, tag="1.0.0")
    server.lies("GET .*/manifests/", lies.body(PLAIN + b" "))
    with pytest.raises(DigestMismatchError, match="came with the digest"):
        repository(server).manifest(digest)


def test_2_a_digest_of_a_header_leads_nowhere(server: HostileRegistry) -> None:
    server.of(PATH).add_manifest(PLAIN, tag="1.0.0")
    header = {"Docker_Content_Digest": "sha256:../../../etc/passwd"}
    server.lies("GET .*/manifests/", lies.body(PLAIN, **header))
    with pytest.raises(FetchError, match="is not sha256, sha384 or sha512"):
        repository(server).manifest("1.0.0")


def test_5_a_token_does_not_follow_an_upload(
    server: HostileRegistry, logged_in: Callable[..., None]
) -> None:
    server.login, server.tokens = LOGIN, True
    logged_in(server.host)
    with HostileRegistry() as stranger:

        def elsewhere(talk: Conversation) -> None:
            talk.truth()
            talk.say(202, b"", {"Location": f"{stranger.url}/v2/x"})

        client = repository(server)
        assert client.put_blob(WHAT, io.BytesIO(DATA))
        server.lies("POST", elsewhere)
        with pytest.raises(FetchError, match=r"would go on at http://127\.0\.0\.1"):
            client.put_blob(Descriptor.of(b"", "text/plain"), io.BytesIO())
        assert stranger.seen == []


def test_6_a_password_goes_to_no_other_realm(
    server: HostileRegistry, logged_in: Callable[..., None]
) -> None:
    server.login, server.tokens = LOGIN, True
    server.realm = f"http://localhost:{server.server_port}/token"
    logged_in(server.host)
    with pytest.raises(FetchError, match="which may not see its password") as caught:
        read(repository(server))
    assert "set token_host = 'localhost:" in (caught.value.hint or "")
    assert not server.asked("/token")
    assert {one for seen in server.seen for one in seen.secrets} == set()


def test_7_tokens_stay_in_their_repository(
    server: HostileRegistry, logged_in: Callable[..., None]
) -> None:
    server.login, server.tokens = LOGIN, True
    logged_in(server.host)
    shown = []
    for path in ("acme/one", "acme/two"):
        server.of(path).add_blob(DATA)
        assert read(repository(server, path=path)) == DATA
        shown.append(server.seen[-1].headers["authorization"])
    assert shown[0] != shown[1]


def test_9_lists_stay_at_their_origin(server: HostileRegistry) -> None:
    server.of(PATH).add_manifest(PLAIN, tag="1.0.0")
    link = '<http://localhost:1/v2/x>; rel="next"'
    server.lies("tags/list", lies.document({"tags": ["1.0.0"]}, Link=link))
    tags = repository(server).tags()
    assert next(tags) == "1.0.0"
    with pytest.raises(FetchError, match="goes on at another origin"):
        next(tags)


def test_11_manifests_are_sent_as_they_are(server: HostileRegistry) -> None:
    odd = PLAIN.replace(b'{"', b'{  "', 1)
    digest = repository(server).put_manifest(odd, MANIFEST, tag="1.0.0")
    assert digest == Descriptor.of(odd, MANIFEST).digest
    assert server.of(PATH).manifests[str(digest)][1] == odd


def test_a_silent_registry_is_left(server: HostileRegistry) -> None:
    server.lies("GET", lies.silent)
    client = repository(server, read_timeout=0.2, response_timeout=0.2, tries=1)
    with pytest.raises(TooSlowError, match="did not answer within"):
        client.manifest("1.0.0")


def test_cookies_are_not_kept(server: HostileRegistry) -> None:
    server.of(PATH).add_manifest(PLAIN, tag="1.0.0")
    server.lies("GET", lies.header("Set-Cookie", "sid=1; Path=/"), times=1)
    client = repository(server)
    for _ in range(2):
        assert client.manifest("1.0.0")[0] == PLAIN
    assert all("cookie" not in one.headers for one in server.seen)


@pytest.fixture(autouse=True)
def _no_prompts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Defect 13: `input()` is never called."""

    def never(*_: object) -> str:
        raise AssertionError("asked whoever sits at the terminal")

    monkeypatch.setattr("builtins.input", never)
    yield  # noqa: PT022 - the patch is undone afterwards
