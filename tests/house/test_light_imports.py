"""The package costs nothing until it is used: a device pays at every start."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = {
    "asyncio",
    "click",
    "cryptography",
    "http",
    "in_toto",
    "oras",
    "requests",
    "securesystemslib",
    "semver",
    "tuf",
    "urllib3",
    "yaml",
}


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after `code`."""
    package = importlib.util.find_spec("margo_supplychain")
    assert package is not None
    assert package.submodule_search_locations
    # The same package that these tests use: the wheel's, or the working tree's.
    where = Path(next(iter(package.submodule_search_locations))).parent
    print_modules = "import json, sys; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{code}\n{print_modules}"],
        env=os.environ | {"PYTHONPATH": str(where)},
        capture_output=True,
        check=True,
        timeout=60,
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = loaded_by("import margo_supplychain")
    assert "margo_supplychain" in loaded
    assert loaded & HEAVY == set()


def test_importing_the_errors_loads_nothing_heavy() -> None:
    assert loaded_by("import margo_supplychain.errors") & HEAVY == set()
