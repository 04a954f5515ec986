"""The working tree as git knows it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent.parent


def git(*arguments: str, stdin: bytes = b"") -> bytes:
    """Run git in the working tree; skips the test where there is no repository."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    # A checkout that belongs to somebody else (a container's volume) is still ours.
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, check=True, timeout=120
    ).stdout


def tracked() -> dict[str, bytes]:
    """Return path and content of every tracked file that is still there."""
    names = git("ls-files", "-z").decode().split("\0")
    files = {name: ROOT / name for name in names if name}
    found = {name: path.read_bytes() for name, path in files.items() if path.is_file()}
    assert found
    return found
