"""Checks the least coverage of the packages that decide trust.

The gates stand in `pyproject.toml` under `tool.margo-supplychain.coverage-gates`: a
package (with a final slash) or a module, and the least per cent of its lines and
branches. A package that exists and was not measured is an error: nothing must not pass.

    python tests/coverage_gates.py coverage.json
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PACKAGE = "margo_supplychain/"


def per_cent(files: list[dict[str, Any]]) -> float:
    """Return covered lines and branches of `files` in per cent."""
    parts = [file["summary"] for file in files]
    covered = sum(one["covered_lines"] + one["covered_branches"] for one in parts)
    total = sum(one["num_statements"] + one["num_branches"] for one in parts)
    return 100.0 * covered / total if total else 100.0


def holes(name: str, file: dict[str, Any]) -> str:
    """Return one line that names what is not covered in a file."""
    lines = ", ".join(str(line) for line in file["missing_lines"])
    branches = ", ".join(
        f"{start}->{'exit' if end < 0 else end}"
        for start, end in file["missing_branches"]
    )
    return f"    {name}  lines: {lines or '-'}  branches: {branches or '-'}"


def failures(
    gates: dict[str, int], report: dict[str, Any], present: set[str]
) -> list[str]:
    """Return a line for each gate that is not reached, then lines that say where."""
    # The tests run against an installed wheel: paths count from the package on.
    files = {
        PACKAGE + name.replace("\\", "/").rpartition(PACKAGE)[2]: file
        for name, file in report["files"].items()
    }
    found = []
    for gate, least in gates.items():
        chosen = {name: file for name, file in files.items() if name.startswith(gate)}
        if not chosen:
            if gate in present:
                found.append(f"{gate}: nothing of it was measured")
            continue
        reached = per_cent(list(chosen.values()))
        if reached < least:
            found.append(f"{gate}: {reached:.1f} %, at least {least} %")
            found.extend(
                holes(name, file)
                for name, file in sorted(chosen.items())
                if file["missing_lines"] or file["missing_branches"]
            )
    return found


def main() -> int:
    """Print what falls short; return the exit status."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    gates: dict[str, int] = settings["tool"]["margo-supplychain"]["coverage-gates"]
    report = json.loads(Path(sys.argv[1]).read_bytes())
    found = failures(gates, report, {gate for gate in gates if (ROOT / gate).exists()})
    print("\n".join(found) or f"{len(gates)} gates reached")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
