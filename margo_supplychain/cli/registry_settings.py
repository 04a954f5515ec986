"""The tables `[mirrors]` and `[registry."HOST"]`, of a device and of an author alike.

    [mirrors]
    "oci://registry.acme.example/acme" = ["oci://mirror.plant:5000/acme", "stick"]

    [registry."mirror.plant:5000"]
    ca_file = "plant-ca.pem"

Where content lies instead of where releases say, and how a registry is reached. Neither
decides what is trusted. A relative path starts where the file lies. Credentials come
from Docker's configuration and its helpers, never from here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from margo_supplychain.errors import FormatError, StorageError
from margo_supplychain.storage.durable import read_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from margo_supplychain.transport.mirrors import MirrorMap
    from margo_supplychain.transport.network import Network, RegistryAccess

TABLES: Final = ("mirrors", "registry")
MAX_REGISTRIES: Final = 1_000
_MAX_PLACE: Final = 2_048
_FILES: Final = ("ca_file", "certificate", "private_key")
_KEYS: Final = (*_FILES, "proxy", "token_host", "plain_http")
# One letter is a Windows drive, as transport.opening has it.
_OTHERS: Final = 0o077
_MAX_PEM: Final = 4 << 20  # a system's whole store is a quarter of it
_CERTIFICATE: Final = b"CERTIFICATE-----"
_KEY: Final = b"PRIVATE KEY-----"
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)")


class RegistrySettings(NamedTuple):
    """What the two tables say.

    Args:
        mirrors: where locations really lie.
        network: how registries are reached; None if nothing is said of any.
    """

    mirrors: MirrorMap
    network: Network | None = None


def parse_registry_tables(
    tables: Mapping[str, Any], base: Path, where: str
) -> RegistrySettings:
    """Read both tables; what else stands in the file is not looked at.

    Args:
        tables: a whole parsed TOML file.
        base: what relative paths start from.
        where: the file, for messages.

    Raises:
        FormatError: an unknown key, or a value of another kind.
    """
    try:
        return RegistrySettings(
            mirrors=_mirrors(tables.get("mirrors", {}), base),
            network=_network(tables.get("registry", {}), base),
        )
    except FormatError as why:
        raise FormatError(f"{where}: {why}", where=where, hint=why.hint) from why


def locate(text: str, base: Path) -> str:
    """Return a URL or absolute path as it is, a relative path from `base`."""
    found = _SCHEME.fullmatch(text)
    if found is None:
        return str(base / text)
    scheme, rest = found[1].lower(), found[2]
    if scheme in {"oci-layout", "oci-archive"}:
        return f"{scheme}:{base / rest}"
    if scheme == "file" and not rest.startswith("/"):
        from urllib.parse import unquote

        return str(base / unquote(rest))
    return text


def local_path(text: str) -> Path | None:
    """Return the path that a place names; None for one of the network."""
    found = _SCHEME.fullmatch(text)
    if found is None:
        return Path(text)
    scheme, rest = found[1].lower(), found[2]
    if scheme in {"oci-layout", "oci-archive"}:
        return Path(rest)
    if scheme == "file":
        from urllib.parse import unquote

        return Path(unquote(rest.removeprefix("//localhost").removeprefix("//")))
    return None


def check_files(network: Network | None, where: str) -> None:
    """Look at the files that the tables name, before anybody is asked.

    A connection that they would spoil looks like a place that is out of reach, and a
    device would decide on its copies.

    Args:
        network: as `parse_registry_tables` returned it.
        where: the file with the tables, for messages.

    Raises:
        FormatError: one is not there, can't be read, or is no PEM.
    """
    for host, access in () if network is None else network.registries.items():
        for key in _FILES:
            path = getattr(access, key)
            if path is None:
                continue
            problem = _problem(path, key)
            if problem is not None:
                raise FormatError(
                    f"{where}: registry.{host!r}.{key}: {path} {problem}",
                    where=where,
                    hint="correct the path, or the file: PEM, and readable by this "
                    "user",
                )


def open_keys(network: Network | None) -> tuple[Path, ...]:
    """Return the private keys that others than their owner may read."""
    found = []
    for access in () if network is None else network.registries.values():
        key = access.private_key or access.certificate
        if key is not None and key.stat().st_mode & _OTHERS:
            found.append(key)
    return tuple(dict.fromkeys(found))


def _problem(path: Path, key: str) -> str | None:
    try:
        data = read_file(path, limit=_MAX_PEM)
    except FileNotFoundError:
        return "does not exist"
    except StorageError as why:
        return f"can't be read: {why}"
    wanted = _KEY if key == "private_key" else _CERTIFICATE
    if wanted in data:
        return None
    what = "private key" if key == "private_key" else "certificate"
    return f"holds no {what} in PEM"


def is_location(text: object) -> bool:
    """Say whether a value may be a path or URL."""
    return isinstance(text, str) and 0 < len(text) <= _MAX_PLACE and text.isprintable()


def _mirrors(table: Any, base: Path) -> MirrorMap:
    from margo_supplychain.transport.mirrors import NO_MIRRORS, MirrorMap

    if not isinstance(table, dict):
        raise FormatError("mirrors is not a table")
    if not table:
        return NO_MIRRORS
    for prefix, places in table.items():
        if not isinstance(places, list) or not all(map(is_location, places)):
            raise FormatError(
                f"mirrors.{prefix[:160]!r} is not a list of paths or URLs",
                hint='write "oci://HOST/PATH" = ["oci://MIRROR/PATH"]',
            )
    return MirrorMap(
        {
            prefix: [locate(one, base) for one in places]
            for prefix, places in table.items()
        }
    )


def _network(table: Any, base: Path) -> Network | None:
    if not isinstance(table, dict) or len(table) > MAX_REGISTRIES:
        raise FormatError('registry is not tables like [registry."HOST:PORT"]')
    if not table:
        return None
    from margo_supplychain.transport.network import Network

    found = {}
    for host, values in table.items():
        where = f"registry.{host[:160]!r}"
        if not isinstance(values, dict):
            raise FormatError(f"{where} is not a table")
        found[host] = _access(values, where, base)
    try:
        return Network(registries=found)
    except ValueError as why:
        raise FormatError(str(why)) from why


def _access(values: Mapping[str, Any], where: str, base: Path) -> RegistryAccess:
    from margo_supplychain.transport.network import RegistryAccess

    unknown = sorted(values.keys() - set(_KEYS))
    if unknown:
        raise FormatError(
            f"{where} has an unknown key {unknown[0][:80]!r}, expected one of "
            f"{', '.join(_KEYS)}",
            hint="credentials come from Docker's configuration: run `docker login`"
            if unknown[0] in {"username", "password", "token"}
            else None,
        )
    plain_http = values.get("plain_http", False)
    if type(plain_http) is not bool:
        raise FormatError(f"{where}.plain_http is not true or false")
    for key in _FILES:
        if key in values and not is_location(values[key]):
            raise FormatError(f"{where}.{key} is not a path")
    files = {key: base / values[key] for key in _FILES if key in values}
    for key in ("proxy", "token_host"):
        # An empty proxy is none. Never repeated in a message: it may hold credentials.
        if not isinstance(values.get(key, ""), str):
            raise FormatError(f"{where}.{key} is not a text")
    try:
        return RegistryAccess(
            **files,
            proxy=values.get("proxy"),
            token_host=values.get("token_host"),
            plain_http=plain_http,
        )
    except ValueError as why:
        raise FormatError(f"{where}: {why}") from why
