"""No private key is tracked, nor was one ever (keys/README.md)."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest

from tests.house.tree import git, tracked

if TYPE_CHECKING:
    from collections.abc import Iterator

# The words alone are harmless: tests and pages speak of keys. A body makes it one.
PRIVATE = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:\s|\\[nr]|[\"'b,]|[A-Za-z-]+: [^\n]*\n)*[A-Za-z0-9+/]{40}"
    rb"|\"private\"\s*:\s*\"[0-9a-fA-F]{64}\""
    rb"|AGE-SECRET-" + rb"KEY-1[A-Z0-9]{40}"
)
PRIVATE_NAMES = (".key", ".p12", ".pfx", ".jks")
PUBLIC_NAMES = (".md", ".pub", ".json")


def is_throw_away(name: str) -> bool:
    return PurePosixPath(name).name.startswith("insecure-")


def private_keys(files: Iterator[tuple[str, bytes]]) -> list[str]:
    return [
        name
        for name, data in files
        if not is_throw_away(name)
        and (name.endswith(PRIVATE_NAMES) or PRIVATE.search(data) is not None)
    ]


def committed() -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every file that any commit holds."""
    listed = [
        line.partition(" ")[::2]
        for line in git("rev-list", "--objects", "--all").decode().splitlines()
    ]
    names = {identity: name for identity, name in listed if name}
    data = git("cat-file", "--batch", stdin="\n".join(names).encode())
    start = 0
    while start < len(data):
        end = data.index(b"\n", start)
        identity, kind, size = data[start:end].decode().split()
        start = end + 1 + int(size)
        if kind == "blob":
            yield names[identity], data[end + 1 : start]
        start += 1  # the newline behind each object


def test_no_private_key_is_tracked() -> None:
    assert private_keys(iter(tracked().items())) == []


def test_no_private_key_was_ever_committed() -> None:
    files = list(committed())
    assert files
    assert private_keys(iter(files)) == []


def test_keys_directory_is_public() -> None:
    names = [name for name in tracked() if name.startswith("keys/")]
    assert "keys/README.md" in names
    assert [name for name in names if not name.endswith(PUBLIC_NAMES)] == []


BODY = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg" * 2


@pytest.mark.parametrize("kind", ["", "ENCRYPTED ", "RSA ", "OPENSSH ", "EC "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\\n", '\\n"\n    b"'])
def test_a_private_key_would_be_found(kind: str, end: str) -> None:
    text = f"-----BEGIN {kind}PRIVATE KEY-----{end}{BODY}"
    assert private_keys(iter([("a.txt", text.encode())])) == ["a.txt"]
    assert private_keys(iter([("tests/insecure-a.pem", text.encode())])) == []


def test_a_public_key_is_welcome() -> None:
    text = f"-----BEGIN PUBLIC KEY-----\n{BODY}\n-----END PUBLIC KEY-----\n"
    assert private_keys(iter([("a.pub", text.encode())])) == []
