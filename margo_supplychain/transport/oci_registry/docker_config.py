"""Docker's configuration file and credential helpers: logins, one registry at a time.

Read when a registry asks for a login, never before. The file is bounded and strict; a
helper has a time limit. What either of them says is never repeated in an error.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.errors import FetchError, FormatError
from margo_supplychain.formats import strict_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from margo_supplychain.transport.network import Network

    _Bad = Callable[[str, str], FetchError]

MAX_CONFIG: Final = 1 << 20
_SUFFIX: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
# `docker login` without a host writes Docker Hub's login under this name.
_KEYS: Final = {
    "registry-1.docker.io": ("https://index.docker.io/v1/", "index.docker.io"),
}


def server_address(host: str) -> str:
    """Return the name under which Docker asks a credential helper for a host."""
    return _KEYS.get(host, (host,))[0]


def login_config(host: str, network: Network) -> dict[str, Any]:
    """Return the part of Docker's configuration that is about one registry.

    In the shape that oras-py reads: `auths` with at most `host`, `credHelpers`
    likewise, `credsStore`. No other registry's login is in it.

    Args:
        host: of the registry, as its oci:// URL has it.
        network: names the file, if it is not Docker's own.

    Raises:
        FetchError: the file can't be used.
    """
    nothing: dict[str, Any] = {"auths": {}, "credHelpers": {}, "credsStore": None}
    if not network.may_log_in(host):
        return nothing
    path = network.docker_config or _default_path()
    where = f"oci://{host}"

    def bad(text: str, hint: str) -> FetchError:
        return FetchError(f"Docker config {path} {text}", url=where, hint=hint)

    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG + 1)
    except FileNotFoundError as why:
        if network.docker_config is None:
            return nothing
        raise bad("does not exist", "name the file that holds the logins") from why
    except OSError as why:
        raise bad(f"can't be read: {why.strerror}", "check its permissions") from why
    try:
        members = strict_json.parse(data, what="it", limit=MAX_CONFIG)
    except FormatError as why:
        raise bad(f"is not usable: {why}", "correct or remove the file") from why
    auths = _member(members, "auths", bad)
    helpers = _member(members, "credHelpers", bad)
    entry = _of_host(auths, host)
    found = nothing
    if entry is not None:
        found["auths"][host] = _login(entry, host, bad)
    helper = _of_host(helpers, host)
    if helper is not None:
        found["credHelpers"][host] = _suffix(helper, bad)
    if members.get("credsStore"):
        found["credsStore"] = _suffix(members["credsStore"], bad)
    return found


def about_login(host: str, network: Network) -> str:
    """Return which file was asked for a host's login, and whether it has one.

    For whoever was not let in. Neither users nor passwords are told, and no credential
    helper is asked.

    Args:
        host: of the registry, as its oci:// URL has it.
        network: names the file, if it is not Docker's own.

    Raises:
        FetchError: the file can't be used.
    """
    if not network.may_log_in(host):
        return (
            f"a record alone named {host}, so it was asked without a login; whoever "
            f'trusts it there writes [registry."{host}"] into the settings'
        )
    path = network.docker_config or _default_path()
    found = login_config(host, network)
    helper = found["credHelpers"].get(host) or found["credsStore"]
    if helper is not None:
        return f"logins for {host} come from docker-credential-{helper}, as {path} says"
    if found["auths"].get(host):
        return f"the login for {host} in {path} was refused"
    if not path.exists():
        return f"there is no {path}, where logins are looked for"
    return f"{path} has no login for {host}"


def _default_path() -> Path:
    folder = os.environ.get("DOCKER_CONFIG")
    if folder:
        return Path(folder) / "config.json"
    # `Path.home()` raises where a service has no home; `~` stays, and is not there.
    return Path(os.path.expanduser("~")) / ".docker" / "config.json"  # noqa: PTH111 - see above


def _member(members: Mapping[str, Any], name: str, bad: _Bad) -> dict[str, Any]:
    found = members.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise bad(f"has {name} that are no object", "correct the file")
    return found


def _of_host(members: Mapping[str, Any], host: str) -> Any:
    # Docker has written URLs as keys; the host is what counts.
    for key in (host, *_KEYS.get(host, ())):
        if key in members:
            return members[key]
    for key, value in members.items():
        bare = re.sub(r"\Ahttps?://|/(?:v[12]/?)?\Z", "", key)
        if bare == host:
            return value
    return None


def _suffix(value: object, bad: _Bad) -> str:
    if not isinstance(value, str) or _SUFFIX.fullmatch(value) is None:
        raise bad(
            "names a credential helper that is no name",
            "it is what follows docker-credential- in the program's name",
        )
    return value


def _login(entry: object, host: str, bad: _Bad) -> dict[str, str]:
    """Return the `auth` of an entry, checked; {} when a helper keeps it."""
    again = f"run `docker login {host}` again"
    if not isinstance(entry, dict):
        raise bad(f"has a login for {host} that is no object", again)
    if entry.get("identitytoken") or entry.get("registrytoken"):
        check_user("<token>", host)
    auth = entry.get("auth")
    if not auth:
        user, password = entry.get("username"), entry.get("password")
        if not user or not password:
            return {}
        auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    try:
        text = base64.b64decode(auth, validate=True).decode()
    except (TypeError, ValueError, binascii.Error) as why:
        raise bad(f"has a login for {host} that is not base64", again) from why
    user, colon, _ = text.partition(":")
    if not colon or not user or not text.isprintable():
        raise bad(f"has a login for {host} that is not user:password", again)
    check_user(user, host)
    return {"auth": auth}


def check_user(user: str, host: str) -> None:
    """Refuse the user name that stands for an identity token.

    Raises:
        FetchError: it is `<token>`.
    """
    if user == "<token>":
        raise FetchError(
            f"the login for {host} is an identity token, which is not supported",
            url=f"oci://{host}",
            hint=f"run `docker login {host}` with a user name and a password or access "
            "token",
        )
