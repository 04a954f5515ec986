"""Defaults of a place: `margo-supplychain.toml`, found here or in a parent directory.

A flag wins over the environment (`MARGO_SUPPLYCHAIN_REPO`), the environment over the
file, and `-v` says which applied. Neither holds a secret, and neither turns a check
off. Paths in the file are relative to where it really is, paths in the environment to
the current directory. The file says whose state and policy apply, so one that somebody
else could have written is refused, as git does since CVE-2022-24765 (settings_file.py).

Example of a file, as `repo init` writes it:

    repo = "trust"
    publisher = "acme"
    offline-key = "offline.key"
    online-key = "ci.key"
"""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from margo_supplychain.cli.settings_file import (
    FILE_VARIABLE,
    base_of,
    check_key,
    check_module,
    read_settings,
)
from margo_supplychain.errors import FormatError
from margo_supplychain.formats.toml import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from margo_supplychain.cli.registry_settings import RegistrySettings

FILE_NAME: Final = "margo-supplychain.toml"
_PREFIX: Final = "MARGO_SUPPLYCHAIN_"
_MAX_KEYS: Final = 32  # of one setting; no role has more keys than a person can name
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:", re.ASCII)

_PLACES: Final = ("repo", "state", "root", "inbox")
_MODULE: Final = "pkcs11-module"
_KEYS: Final = (
    "offline-key",
    "online-key",
    "root-key",
    "targets-key",
    "publisher-key",
    "release-key",
)
_TABLES: Final = ("mirrors", "registry")  # see cli.registry_settings
NAMES: Final = (*_PLACES, "publisher", *_KEYS, _MODULE)
# A device has a file of its own, `device.toml`; what lies in some working directory
# must not choose its memory, its source or its policy.
DEVICE_NAMES: Final = ("state", "source", "policy")


class Setting(NamedTuple):
    """A value and where it comes from; several values only for keys."""

    values: tuple[str, ...]
    origin: str


@final
class Settings:
    """The settings that apply in a directory.

    Args:
        directory: where the search for the file starts.
        environment: `os.environ`, or a test's.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._environment = environment

    def find(self, name: str, *, device: bool = False) -> Setting | None:
        """Return a setting from the environment or the file, or None.

        Args:
            name: which one.
            device: the setting of a device: from the environment alone.

        Raises:
            FormatError: the file is not one that can be used.
        """
        if name not in (DEVICE_NAMES if device else NAMES):
            raise ValueError(f"{name!r} is not a setting")
        variable = variable_of(name)
        value = self._environment.get(variable)
        if value:
            return Setting(values=(value,), origin=variable)
        if device:
            return None
        values = self._file_values.get(name)
        if values is None:
            return None
        return Setting(values=values, origin=str(self.file))

    @cached_property
    def file(self) -> Path | None:
        """The file that applies, or None.

        `MARGO_SUPPLYCHAIN_SETTINGS` names it outright; empty, it says that there is
        none.
        """
        named = self._environment.get(FILE_VARIABLE)
        if named is not None:
            return Path(named) if named else None
        for directory in (self._directory, *self._directory.parents):
            path = directory / FILE_NAME
            if os.path.lexists(path):
                return path
        return None

    @cached_property
    def pkcs11_module(self) -> Path | None:
        """The PKCS#11 module of tokens whose URI names none.

        Raises:
            FormatError: the file names one that does not belong to the system.
        """
        setting = self.find(_MODULE)
        if setting is None:
            return None
        path = Path(setting.values[0])
        if setting.origin != variable_of(_MODULE):
            check_module(path, base=self._base, what=setting.origin)
        return path

    @cached_property
    def registries(self) -> RegistrySettings:
        """The file's tables `[mirrors]` and `[registry."HOST"]`."""
        from margo_supplychain.cli.registry_settings import parse_registry_tables

        if self.file is None:
            return parse_registry_tables({}, self._directory, FILE_NAME)
        return parse_registry_tables(self._document, self._base, str(self.file))

    @cached_property
    def _document(self) -> Mapping[str, Any]:
        if self.file is None:
            return {}
        data = read_settings(self.file, chosen=self._chosen)
        return _load(data, what=str(self.file))

    @property
    def _chosen(self) -> bool:
        return FILE_VARIABLE in self._environment

    @cached_property
    def _base(self) -> Path:
        return self._directory if self.file is None else base_of(self.file)

    @cached_property
    def _file_values(self) -> Mapping[str, tuple[str, ...]]:
        if self.file is None:
            return {}
        what, base = str(self.file), self._base
        found = _values_of(self._document, what=what)
        for name in _KEYS:
            for uri in found.get(name, ()):
                check_key(uri, base=base, chosen=self._chosen, what=what)
        if base == self._directory:
            return found  # paths stay as short as they were written
        return {
            name: tuple(_from(base, value) for value in values)
            if name not in ("publisher", _MODULE)
            else values
            for name, values in found.items()
        }


def variable_of(name: str) -> str:
    """Return the environment variable of a setting: `offline-key` has …_OFFLINE_KEY."""
    return _PREFIX + name.upper().replace("-", "_")


def parse(data: bytes, *, what: str) -> dict[str, tuple[str, ...]]:
    """Parse the bytes of a settings file; its tables are not looked into.

    Raises:
        FormatError: not TOML, an unknown key, or a value that is not a text (or, for
            keys, a list of texts); or a key that no such file may name.
        SignerError: the URI of a key in a token that is none.
    """
    found = _values_of(_load(data, what=what), what=what)
    for name in _KEYS:
        for uri in found.get(name, ()):
            check_key(uri, base=None, chosen=False, what=what)
    return found


def _load(data: bytes, *, what: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as why:  # ValueError: also a number too long
        raise FormatError(
            f"{what} is not TOML: {_lower(str(why))}", where=what
        ) from why


def _values_of(document: Mapping[str, Any], *, what: str) -> dict[str, tuple[str, ...]]:
    unknown = sorted(set(document) - {*NAMES, *_TABLES})
    if unknown:
        raise FormatError(
            f"{what} has the unknown setting {unknown[0][:80]!r}, expected one of "
            f"{', '.join((*NAMES, *_TABLES))}",
            where=what,
        )
    return {
        name: _values(name, value, what)
        for name, value in document.items()
        if name not in _TABLES
    }


def render(values: Mapping[str, str | Sequence[str]]) -> bytes:
    """Return the bytes of a settings file, for `repo init`."""
    unknown = set(values) - set(NAMES)
    if unknown:
        raise ValueError(f"not settings: {', '.join(sorted(unknown))}")
    lines = ["# Defaults inside this directory; flags and environment win over them."]
    for name in NAMES:
        if name in values:
            value = values[name]
            if isinstance(value, str):
                lines.append(f"{name} = {quoted(value)}")
            else:
                lines.append(f"{name} = [{', '.join(map(quoted, value))}]")
    return ("\n".join(lines) + "\n").encode("utf-8")


def _values(name: str, value: object, what: str) -> tuple[str, ...]:
    several = name in _KEYS
    values = value if several and isinstance(value, list) else [value]
    if not values or len(values) > _MAX_KEYS:
        raise FormatError(
            f"{what}: {name} lists {len(values)} keys, expected 1 to {_MAX_KEYS}",
            where=what,
        )
    for each in values:
        if not isinstance(each, str) or not each or not each.isprintable():
            kind = "a text or a list of texts" if several else "a text"
            raise FormatError(f"{what}: {name} is not {kind}", where=what)
    return tuple(values)


def _from(base: Path, value: str) -> str:
    if value.startswith("file:"):
        return str(base / value.removeprefix("file:"))
    if value.startswith("oci-layout:"):
        return f"oci-layout:{base / value.removeprefix('oci-layout:')}"
    return value if _URL.match(value) else str(base / value)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
