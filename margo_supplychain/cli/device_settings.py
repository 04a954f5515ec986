"""`device.toml`: the repositories that a device trusts, and what its owner demands.

The owner's file. `device init` writes its beginning and appends to it; nothing else
writes it, and nothing is demanded or allowed that does not stand there. A relative path
starts where the file lies.

    [repository.acme]
    source = "oci://registry.acme.example/acme/trust"

    [policy."acme/*"]
    require = ["signed"]

    [mirrors]
    "oci://registry.acme.example/acme" = ["oci://mirror.plant:5000/acme"]

`registry_settings` reads the tables about mirrors and registries. Content is looked for
where releases say, through the mirrors; `content` of a repository names other places
instead: `content = ["/media/stick"]`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from margo_supplychain.cli.registry_settings import (
    RegistrySettings,
    is_location,
    locate,
    parse_registry_tables,
)
from margo_supplychain.errors import FormatError, StateLostError
from margo_supplychain.formats.toml import quoted
from margo_supplychain.storage.durable import read_file
from margo_supplychain.verify.policy import LIMIT, Policy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FILE_NAME: Final = "device.toml"
MAX_REPOSITORIES: Final = 1_000
MAX_CONTENT: Final = 32
_KEYS: Final = ("source", "content")
_ANY_POLICY: Final = b'\n[policy."begun/begun"]\nrequire = ["signed"]\n'
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?", re.ASCII)


class Locations(NamedTuple):
    """Where one repository and its releases' content lie."""

    source: str
    content: tuple[str, ...]


class DeviceSettings(NamedTuple):
    """What a `device.toml` says.

    Args:
        data: the file's bytes.
        repositories: by name.
        patterns: the policy's patterns.
        registries: mirrors, and how registries are reached.
    """

    data: bytes
    repositories: dict[str, Locations]
    patterns: frozenset[str]
    registries: RegistrySettings


def is_repository_name(text: str) -> bool:
    """Tell whether a device may call a repository so."""
    return _NAME.fullmatch(text) is not None


def repository_name(text: str) -> str:
    """Return `text` if it is what a device may call a repository.

    Raises:
        FormatError: not 1 to 64 of a-z, 0-9, - and _, or with - or _ at an end.
    """
    if not is_repository_name(text):
        raise FormatError(
            f"repository {text[:80]!r} is not a name: 1 to 64 of a-z, 0-9, - and _, "
            "with a letter or digit at both ends"
        )
    return text


def read_settings(path: Path, *, begun: bool = False) -> DeviceSettings:
    """Read and check a `device.toml`; its policy as well.

    Args:
        path: the file.
        begun: it may have no policy yet, as before `device init`.

    Raises:
        StateLostError: it is not there.
        FormatError: it is not one.
        StorageError: it can't be read.
    """
    try:
        data = read_file(path, limit=LIMIT)
    except FileNotFoundError as why:
        raise StateLostError(
            f"{path} does not exist, so nothing is trusted there",
            path=str(path),
            hint="--state names the directory that `margo-supplychain device init` "
            "made; a lost one is begun anew from a root that arrives out of band",
        ) from why
    return parse_settings(data, path, begun=begun)


def parse_settings(data: bytes, path: Path, *, begun: bool = False) -> DeviceSettings:
    """Parse the bytes of a `device.toml`.

    Args:
        data: the bytes.
        path: the file, for messages and as what relative paths start from.
        begun: it may have no policy yet.

    Raises:
        FormatError: not TOML, or an unknown table, key or rule.
    """
    import tomllib

    # With a policy added, what is there is judged as a whole file would be.
    parse_policy(data + _ANY_POLICY if begun else data, path)
    tables = tomllib.loads(data.decode("utf-8"))
    found = tables.get("repository", {})
    if not isinstance(found, dict) or len(found) > MAX_REPOSITORIES:
        raise _wrong(path, "repository is not tables like [repository.acme]")
    return DeviceSettings(
        data=data,
        repositories={
            name: _locations(name, table, path) for name, table in found.items()
        },
        patterns=frozenset(tables.get("policy", {})),
        registries=parse_registry_tables(tables, path.parent, str(path)),
    )


def parse_policy(data: bytes, path: Path) -> Policy:
    """Parse the policy tables of a file.

    Raises:
        FormatError: naming the file.
    """
    try:
        return Policy.from_toml(data)
    except FormatError as why:
        raise _wrong(path, str(why)) from why


def render_repository(name: str, source: str) -> str:
    """Return the table of one repository.

    Raises:
        FormatError: a source that `parse_settings` would refuse.
    """
    if not is_location(source):
        raise FormatError(f"source {source[:160]!r} is not a path or URL")
    return (
        f"\n[repository.{name}]\nsource = {quoted(source)}\n"
        "# Where content lies instead of where releases say, best first.\n"
        '# content = ["/media/stick", "https://mirror.example.org"]\n'
    )


def render_policy(publisher: str) -> str:
    """Return the table of a policy to start from."""
    return f'\n[policy."{publisher}/*"]\nrequire = ["signed"]\n'


def render_start(repository: str, policies: Sequence[str]) -> str:
    """Return a whole file to start from."""
    return (
        "# Which repositories this device trusts, and what its owner demands of\n"
        "# their releases beyond the publisher's own word. Yours to edit:\n"
        "# `device init` only appends.\n"
        f"{repository}\n"
        "# The most specific pattern decides; a tie, or no match, denies.\n"
        '#   require               "signed", "closure-complete" (every image pinned),\n'
        '#                         "provenance" (made by a layout of the publisher)\n'
        '#   max-age               of the timestamp, such as "7d"\n'
        "#   allow-simple-profile  true takes repositories without delegations\n"
        "# More about how releases are made, and what is said of them:\n"
        "# docs/reference/formats.md\n"
        f"{''.join(policies)}"
    )


def _locations(name: str, table: Any, path: Path) -> Locations:
    where = f"repository.{name[:80]}"
    try:
        repository_name(name)
    except FormatError as why:
        raise _wrong(path, str(why)) from why
    if not isinstance(table, dict):
        raise _wrong(path, f"{where} is not a table")
    unknown = sorted(table.keys() - set(_KEYS))
    if unknown:
        raise _wrong(
            path,
            f"{where} has an unknown key {unknown[0][:80]!r}, expected "
            f"{' or '.join(_KEYS)}",
        )
    if "source" not in table:
        raise _wrong(path, f"{where} has no source")
    content = table.get("content", [])
    if not isinstance(content, list) or len(content) > MAX_CONTENT:
        raise _wrong(
            path, f"{where}.content is not a list of at most {MAX_CONTENT} URLs"
        )
    if "content" in table and not content:
        raise _wrong(path, f"{where}.content is empty: leave it out, or name a place")
    return Locations(
        source=_location(table["source"], f"{where}.source", path),
        content=tuple(_location(one, f"{where}.content", path) for one in content),
    )


def _location(value: Any, where: str, path: Path) -> str:
    if not is_location(value):
        raise _wrong(path, f"{where} is {value!r:.80}, expected a path or URL")
    return locate(value, path.parent)


def _wrong(path: Path, text: str) -> FormatError:
    return FormatError(f"{path}: {text}", where=str(path))
