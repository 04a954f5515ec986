"""Public names that are imported when they are first used (PEP 562).

A device agent pays for what it uses: `import margo_supplychain` loads neither tuf nor
cryptography, and a verification loads no click.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def exporter(
    package: str, homes: Mapping[str, Sequence[str]]
) -> Callable[[str], object]:
    """Return a package's `__getattr__`.

    Args:
        package: the package's `__name__`.
        homes: submodule, relative to the package → the names it gives.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def find(name: str) -> object:
        home = home_of.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home}"), name)

    return find
