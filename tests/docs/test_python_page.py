"""docs/reference/python.md, the `__all__` lists and what can be imported agree."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Final

import pytest

from tests.docs.pages import DOCS

PAGE: Final = DOCS / "reference" / "python.md"
PACKAGES: Final = (
    "margo_supplychain",
    "margo_supplychain.formats",
    "margo_supplychain.transport",
    "margo_supplychain.signing",
    "margo_supplychain.authoring",
)


def sections() -> dict[str, str]:
    """Return the text under each `## ` heading."""
    parts = re.split(r"^## (.+)$", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def named(package: str) -> list[str]:
    """Return the names of the first table of a package's section."""
    table = sections()[package].partition("\n### ")[0]
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_page_names_exactly_what_is_public(package: str) -> None:
    public = import_module(package).__all__
    assert sorted(named(package)) == sorted(public)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_can_be_imported(package: str) -> None:
    module = import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


def test_every_member_that_is_named_exists() -> None:
    module = import_module("margo_supplychain")
    text = sections()["margo_supplychain"]
    rows = re.findall(r"^\| (`[A-Z]\w+\..+?) \|", text, re.MULTILINE)
    assert len(rows) > 15
    for row in rows:
        owner = ""
        for full, short in re.findall(r"`(?:(\w+\.\w+)\b|\.(\w+)`)", row):
            owner, _, member = full.partition(".") if full else (owner, "", short)
            found = getattr(module, owner)
            known = set(dir(found)) | set(getattr(found, "__annotations__", {}))
            assert member in known, (owner, member)


def test_no_other_package_is_called_public() -> None:
    others = {"margo_supplychain.errors"}
    assert set(sections()) == {*PACKAGES, *others}


def test_the_helper_for_tests_is_there() -> None:
    testing = import_module("margo_supplychain.authoring.testing")
    assert callable(testing.tiny_repository)
