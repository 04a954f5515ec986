from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oras.auth.utils import parse_auth_header

from margo_supplychain.transport.oci_registry.challenges import (
    Challenge,
    check_scopes,
    choose,
    parse_challenges,
    realm_may_see_password,
)
from margo_supplychain.transport.oci_registry.oras_seams import _Challenged

HUB = (
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
    'scope="repository:library/alpine:pull"'
)


def bearer(realm: str = "", service: str | None = None, *scopes: str) -> Challenge:
    return Challenge("bearer", realm, service, scopes)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        (" , ,", ()),
        (
            HUB,
            (
                bearer(
                    "https://auth.docker.io/token",
                    "registry.docker.io",
                    "repository:library/alpine:pull",
                ),
            ),
        ),
        (
            'Basic realm="Sonatype Nexus"',
            (Challenge("basic", "Sonatype Nexus", None, ()),),
        ),
        ("BEARER REALM=https://h/t", (bearer("https://h/t"),)),
        ('Bearer realm = "a" , service= b', (bearer("a", "b"),)),
        (
            'Bearer realm="a", scope="x:y:z  u:v:w"',
            (bearer("a", None, "x:y:z", "u:v:w"),),
        ),
        ('Bearer realm="a\\b"', (bearer("ab"),)),
        (
            'Negotiate abc==, Basic realm="b", Bearer realm="a", error="invalid_token"',
            (
                Challenge("negotiate", "", None, ()),
                Challenge("basic", "b", None, ()),
                bearer("a"),
            ),
        ),
    ],
)
def test_what_registries_send(text: str, found: tuple[Challenge, ...]) -> None:
    assert parse_challenges(text) == found


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('realm="a"', "begins with a parameter"),
        ('Bearer realm="a", realm="b"', "names realm twice"),
        ('Bearer realm="a\\""', "has a realm that is not plain"),
        ('Bearer realm="a\nb"', "has a realm that is not plain"),
        ('Bearer scope="\xe4"', "has a scope that is not plain"),
        ('Bearer realm="' + "a" * 3000 + '"', "has a realm that is not plain"),
        ('Bearer realm="a', "is not readable at character"),
        ('Bearer "a"', "is not readable at character 7"),
        ("Basic " * 9, "more than 8 challenges"),
        ("a" * 9000, "has 9000 characters"),
    ],
)
def test_what_is_no_challenge(text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        parse_challenges(text)


@given(st.text(alphabet=st.sampled_from('aB ,="\\;:/\t'), max_size=80))
def test_nothing_else_is_raised(text: str) -> None:
    try:
        parse_challenges(text)
    except ValueError:
        return


@given(
    st.text(
        alphabet=st.characters(
            codec="ascii", exclude_characters='"\\', min_codepoint=32
        ),
        min_size=1,
        max_size=40,
    )
)
def test_oras_py_reads_what_we_spell(value: str) -> None:
    spelt = _Challenged("Bearer", "https://h/", value, "repository:a:pull")
    found = parse_auth_header(spelt.headers["Www-Authenticate"])
    assert (found.realm, found.service) == ("https://h/", value)
    assert found.scope == "repository:a:pull"


def test_a_token_is_shown_rather_than_the_password() -> None:
    found = parse_challenges('Basic realm="x", Bearer realm="y"')
    assert choose(found) == found[1]
    assert choose(found[:1]) == found[0]
    assert choose(parse_challenges("Negotiate, Digest")) is None


@pytest.mark.parametrize(
    "scopes",
    [
        (),
        ("repository:acme/app:pull",),
        ("repository:acme/app:*",),
        ("repository:acme/app:pull,push", "repository:acme/base:pull"),
    ],
)
def test_scopes_about_what_is_asked_for(scopes: tuple[str, ...]) -> None:
    check_scopes(bearer("https://h/", None, *scopes), {"acme/app", "acme/base"})


@pytest.mark.parametrize(
    "scope",
    [
        "repository:acme/other:pull",
        "repository:acme/app2:pull",
        "repository:acme/app",
        "registry:catalog:*",
        "acme/app",
        "repository(plugin):acme/app:pull",
    ],
)
def test_scopes_about_something_else(scope: str) -> None:
    with pytest.raises(ValueError, match="expected one for repository acme/app"):
        check_scopes(bearer("https://h/", None, scope), {"acme/app"})


@pytest.mark.parametrize(
    ("realm", "registry"),
    [
        ("https://auth.docker.io/token", "https://registry-1.docker.io"),
        ("https://ghcr.io/token", "https://ghcr.io"),
        ("https://gitlab.com/jwt/auth", "https://registry.gitlab.com"),
        ("https://gitlab.example/jwt/auth", "https://gitlab.example:5050"),
        ("https://gitlab.acme.example/jwt", "https://registry.gitlab.acme.example"),
        ("https://quay.io/v2/auth", "https://quay.io"),
        ("https://harbor.example/service/token?x=1", "https://harbor.example"),
        (
            "https://acme.jfrog.io/artifactory/api/docker/v2/token",
            "https://acme.jfrog.io",
        ),
        ("http://127.0.0.1:1/t", "http://127.0.0.1:5000"),
        ("https://[2001:db8::1]/t", "https://[2001:db8::1]:5000"),
    ],
)
def test_who_may_see_the_password(realm: str, registry: str) -> None:
    assert realm_may_see_password(realm, registry=registry, token_host=None)


@pytest.mark.parametrize(
    ("realm", "registry"),
    [
        ("https://evil.example/t", "https://registry.acme.example"),
        # Siblings may be two customers of one host.
        ("https://evil.azurecr.example/t", "https://acme.azurecr.example"),
        ("https://auth.docker.io/token", "https://docker.io"),
        ("https://auth.docker.io.evil.example/token", "https://registry-1.docker.io"),
        ("https://x.registry.example/t", "https://registry.example"),
        ("https://evilgitlab.example/t", "https://registry.gitlab.example"),
        ("https://example/t", "https://registry.example"),
        ("https://0.0.1/t", "https://127.0.0.1"),
        ("http://localhost/t", "http://127.0.0.1:5000"),
    ],
)
def test_who_may_not(realm: str, registry: str) -> None:
    assert not realm_may_see_password(realm, registry=registry, token_host=None)


def test_a_token_host_that_the_owner_names() -> None:
    registry = "https://registry.acme.example"

    def may(realm: str, host: str = "auth.acme.example") -> bool:
        return realm_may_see_password(realm, registry=registry, token_host=host)

    assert may("https://auth.acme.example/t")
    assert may("https://auth.acme.example:8443/t")
    assert may("https://auth.acme.example:8443/t", "auth.acme.example:8443")
    assert not may("https://auth.acme.example/t", "auth.acme.example:8443")
    # Only there, once it is named.
    assert not may("https://registry.acme.example/t")
    with pytest.raises(ValueError, match="expected https"):
        may("http://auth.acme.example/t")


@pytest.mark.parametrize(
    ("realm", "match"),
    [
        ("", "no https URL"),
        ("/token", "no https URL"),
        ("file:///etc/passwd", "no https URL"),
        ("https:///t", "no https URL"),
        ("https://h:0/t", "no https URL"),
        ("https://[::1/t", "no URL"),
        ("https://h:99999/t", "no URL"),
        ("https://user:pw@h/t", "credentials"),
        ("https://h/t#x", "credentials, a fragment"),
        ("https://h/a b", "a blank"),
        ("http://h.example/t", "expected https"),
        ("http://127.0.0.1/t", "expected https"),
    ],
)
def test_where_nobody_asks(realm: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        realm_may_see_password(realm, registry="https://h.example", token_host=None)
