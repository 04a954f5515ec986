"""oras-py behind our own doors: the only module that imports it.

Its `Registry` is the base of what answers a registry's challenge: its back ends know
Docker's configuration, credential helpers, tokens and Amazon's logins. Nothing of it
reaches the network but through `exchange`, and nothing of it that moves content can be
called: docs/adr/0011-seams-of-oras-py.md lists the seams. It is loaded when a registry
first asks for a login; most mirrors of a plant never do.
"""

from __future__ import annotations

import time
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn
from urllib.parse import urlsplit

from oras.auth import utils as oras_auth
from oras.auth.base import AuthBackend
from oras.auth.basic import BasicAuth
from oras.auth.ecr import EcrAuth
from oras.auth.token import TokenAuth
from oras.container import Container
from oras.provider import Registry

from margo_supplychain.errors import TooSlowError
from margo_supplychain.transport.line import Line
from margo_supplychain.transport.oci_registry.challenges import realm_may_see_password
from margo_supplychain.transport.oci_registry.credential_helper import ask_helper
from margo_supplychain.transport.oci_registry.docker_config import (
    check_user,
    login_config,
    server_address,
)
from margo_supplychain.transport.oci_registry.tokens import TokenSession, ask_realm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from margo_supplychain.transport.exchange import Answer
    from margo_supplychain.transport.oci_registry.challenges import Challenge
    from margo_supplychain.transport.oci_registry.tokens import Asked

_ECR: Final = "ecr.amazonaws.com"


class HardenedRegistry(Registry):
    """oras-py's client with our request path: it answers challenges, and no more.

    It keeps no headers and no cookies, and is used for one challenge by one thread.

    Args:
        asked: the registry that asks who we are.
    """

    def __init__(self, asked: Asked) -> None:
        is_plain = asked.url.startswith("http:")
        super().__init__(hostname=asked.host, insecure=is_plain)
        self.session = _NoSession()  # type: ignore[assignment]  # no network but ours
        # Each challenge has a back end of its own.
        self.auth = _NoSession()
        self._asked = asked
        self._realm: str | None = None

    # An Answer and no response of requests: nothing inherited reads it.
    def do_request(
        self,
        url: str,
        method: str = "GET",
        data: object = None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        stream: bool = False,  # noqa: FBT001, FBT002 - oras-py's signature
    ) -> Answer:
        """Ask the realm of the challenge that is being answered, and nobody else.

        Raises:
            NotImplementedError: anything but a GET of that realm.
            FetchError: no answer.
        """
        realm = self._realm
        if (
            realm is None
            or url.partition("?")[0] != realm.partition("?")[0]
            or method != "GET"
            or stream
            or not (data is None and json is None)
        ):
            raise NotImplementedError("oras-py asks for something else than a token")
        return ask_realm(url, headers or {}, self._asked)

    # --- answers to a challenge ------------------------------------------------------

    def show_login(self, challenge: Challenge) -> Shown | None:
        """Answer a Basic challenge from Docker's configuration, or as ECR wants it.

        Raises:
            FetchError: the configuration, a helper or AWS failed.
        """
        asked = self._asked
        back_end = _Basic(asked)
        if back_end.has_login:
            shown = back_end.get_auth_header()  # type: ignore[no-untyped-call]  # as above
            return Shown(shown["Authorization"])
        is_ecr = EcrAuth.AWS_ECR_PATTERN.fullmatch(asked.host) is not None
        if (
            challenge.service == _ECR
            and is_ecr
            and asked.network.may_log_in(asked.host)
        ):
            return _show_ecr(challenge, asked)
        return None

    def show_token(self, challenge: Challenge, scope: str) -> Shown:
        """Answer a Bearer challenge with a token for `scope`, anonymously if need be.

        Raises:
            FetchError: the realm may not be asked, or gives no token.
        """
        asked, realm = self._asked, challenge.realm
        access = asked.network.access(asked.url)
        try:
            is_trusted = realm_may_see_password(
                realm, registry=asked.url, token_host=access.token_host
            )
        except ValueError as why:
            raise asked.failure(str(why)) from why
        back_end = _Token(asked)
        if back_end.has_login and not is_trusted:
            host = urlsplit(realm).netloc[:80]
            raise asked.failure(
                f"sends clients to {host} for tokens, which may not see its password",
                hint=f"if that is right, set token_host = {host!r} for {asked.host}",
            )
        self._realm = realm
        session = TokenSession(
            realm, asked, has_login=back_end.has_login, ask=self.do_request
        )
        back_end.session = session  # type: ignore[assignment]  # the only way out
        headers, _ = back_end.authenticate_request(
            _Challenged("Bearer", realm, challenge.service, scope),  # type: ignore[arg-type]  # of a response, oras-py reads the headers
            {},
        )
        return Shown(headers["Authorization"], session.lifetime)

    def __str__(self) -> str:
        return self._asked.url

    def _never(self, *args: object, **kwargs: object) -> NoReturn:
        del args, kwargs
        raise NotImplementedError(
            "this part of oras-py checks nothing of what it moves; use "
            "RegistryRepository"
        )

    # Everything else that oras-py 0.2 has; a test finds what an upgrade adds.
    chunked_upload = _chunked_upload = put_upload = _put_upload = _never
    upload_blob = _upload_blob = upload_manifest = _upload_manifest = _never
    download_blob = _download_blob = get_blob = blob_exists = _never
    push = pull = get_manifest = get_tags = delete_tag = delete_tags = _never
    login = logout = set_header = version = get_container = _never
    _do_paginated_request = _get_location = _parse_manifest_ref = _never
    _check_200_response = _parse_response_errors = _validate_path = _never


class _NoSession:
    """Stands where oras-py keeps what could reach the network by itself."""

    def __getattr__(self, name: str) -> NoReturn:
        raise NotImplementedError(f"oras-py asked for {name} past our request path")


# --- answers to a challenge ----------------------------------------------------------


class Shown(NamedTuple):
    """A value of `Authorization`; a token's is good for some seconds."""

    value: str
    seconds: int = 0

    def __repr__(self) -> str:
        """Show nothing of it."""
        return "Shown(…)"


class _Bounded(AuthBackend):
    """A back end that knows the login of one registry, from Docker's configuration."""

    _basic_auth: str

    def __init__(self, asked: Asked) -> None:
        # BasicAuth's own would show ORAS_USER and ORAS_PASS to every registry.
        AuthBackend.__init__(self)  # type: ignore[no-untyped-call]  # typed in part
        self._asked = asked
        self._tls_verify = True
        self._auth_config = login_config(asked.host, asked.network)
        container = Container(asked.path)
        # Parsed from a text, a host without a dot would become Docker Hub.
        container.registry = asked.host
        self.load_configs(container)

    @property
    def has_login(self) -> bool:
        """Whether there is a user and password."""
        return bool(getattr(self, "_basic_auth", None))

    def _get_auth_from_creds_store(self, suffix: str, hostname: str) -> str | None:
        asked = self._asked
        # oras-py also asks for 127.0.0.1 on behalf of localhost: another origin.
        if hostname != asked.host:
            return None
        found = ask_helper(
            suffix,
            server_address(asked.host),
            seconds=asked.network.response_timeout,
            tick=asked.tick,
        )
        if found is None:
            return None
        check_user(found.user, asked.host)
        return str(oras_auth.get_basic_auth(found.user, found.password))


class _Basic(_Bounded, BasicAuth):
    pass


class _Token(_Bounded, TokenAuth):
    # What TokenAuth's own constructor sets.
    token = None  # type: ignore[assignment]  # a str for oras-py's base class


class _Challenged:
    """What oras-py's back ends read of a response: a challenge, spelt by us."""

    def __init__(
        self, scheme: str, realm: str, service: str | None, scope: str | None
    ) -> None:
        given = {"realm": realm, "service": service, "scope": scope}
        text = ",".join(f'{name}="{value}"' for name, value in given.items() if value)
        self.headers = {"Www-Authenticate": f"{scheme} {text}"}


def _show_ecr(challenge: Challenge, asked: Asked) -> Shown:
    """Ask AWS through oras-py's back end, which needs the package boto3."""
    hint = (
        f"run `docker login {asked.host}` with a password of `aws ecr "
        "get-login-password`, or install docker-credential-ecr-login or boto3"
    )
    if urlsplit(challenge.realm).hostname != asked.host:
        raise asked.failure("names a realm that is another registry", hint=hint)
    try:
        import_module("boto3")
        failures = import_module("botocore.exceptions")
    except ImportError as why:
        raise asked.failure("wants a login of AWS; there is none", hint=hint) from why
    back_end = EcrAuth()  # type: ignore[no-untyped-call]  # as above
    challenged = _Challenged("Basic", challenge.realm, challenge.service, None)
    deadline = time.monotonic() + asked.network.response_timeout

    def look() -> float:
        if asked.tick is not None:
            asked.tick(0)
        if time.monotonic() > deadline:
            where = f"oci://{asked.host}/{asked.path}"
            raise TooSlowError(f"AWS gave no login for {where} in time", url=where)
        return 1.0

    line = Line()
    try:
        # boto3 has its own connections; a thread bounds what it may take.
        headers, _ = line.call(
            lambda: back_end.authenticate_request(challenged, {}),  # type: ignore[arg-type]  # as in show_token
            look=look,
        )
    except (
        failures.BotoCoreError,
        failures.ClientError,
        LookupError,
        TypeError,
    ) as why:
        text = f"got no login from AWS: {type(why).__name__}"
        raise asked.failure(text, hint=hint) from why
    finally:
        line.end()
    value = headers.get("Authorization")
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise asked.failure("got no usable login from AWS", hint=hint)
    return Shown(value)
