"""What docs/reference/formats.md shows is what the parsers take."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Final

import pytest

from margo_supplychain.authoring import layout_plan
from margo_supplychain.authoring.holders import Holder
from margo_supplychain.authoring.plan_changes import PlannedKey
from margo_supplychain.authoring.plan_file import parse_plan
from margo_supplychain.authoring.submission_file import parse_list
from margo_supplychain.cli import settings
from margo_supplychain.cli.device_settings import parse_settings
from margo_supplychain.formats.locks import ComponentLock, ImageLock
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.formats.record import ReleaseRecord
from margo_supplychain.signing.public_files import NEVER_EXTRACTABLE
from tests.authoring.trust import key
from tests.docs.pages import DOCS, items

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE: Final = DOCS / "reference" / "formats.md"


def examples() -> dict[str, bytes]:
    """Return the files that the page shows, by name."""
    found = {}
    name = None
    for item in items(PAGE):
        if item.kind == "write":
            name = item.text
        elif name is not None:
            found[name] = item.text.encode()
            name = None
    return found


def read_device(data: bytes, path: Path) -> object:
    return parse_settings(data, path)


def read_plan(data: bytes) -> object:
    def in_a_token(text: str) -> PlannedKey:
        return PlannedKey(key(text).public_key, Holder(custody=NEVER_EXTRACTABLE))

    return parse_plan(data, in_a_token)


def read_layout(data: bytes) -> object:
    return layout_plan.parse_plan(
        data,
        lambda text: key(text).public_key,
        what="layout.toml",
        form="toml",
        now=datetime(2026, 11, 21, tzinfo=UTC),
    )


PARSERS: Final[dict[str, Callable[[bytes], object]]] = {
    "record.json": ReleaseRecord.parse,
    "policy.json": PublisherPolicy.parse,
    "layout.toml": read_layout,
    "submission.json": lambda data: parse_list(data, what="example"),
    "images.lock": ImageLock.parse,
    "components.lock": ComponentLock.parse,
    "plan.toml": read_plan,
    "margo-supplychain.toml": lambda data: settings.parse(data, what="example"),
}


def test_each_example_has_a_parser() -> None:
    assert set(examples()) == {*PARSERS, "device.toml"}


@pytest.mark.parametrize("name", PARSERS)
def test_an_example_is_what_it_is_called(name: str) -> None:
    assert PARSERS[name](examples()[name])


def test_the_device_settings_are_read(tmp_path: Path) -> None:
    found = parse_settings(examples()["device.toml"], tmp_path / "device.toml")
    assert set(found.repositories) == {"acme"}
    assert found.patterns == {"acme/*", "acme/pump-monitor", "acme/valve"}


def test_every_setting_is_named() -> None:
    text = PAGE.read_text("utf-8")
    assert [one for one in settings.NAMES if f"`{one}`" not in text] == []


def test_every_schema_is_named_and_there() -> None:
    folder = resources.files("margo_supplychain.cli") / "schemas"
    there = {one.name for one in folder.iterdir() if one.name.endswith(".json")}
    rows = [
        line.split("`")[1]
        for line in PAGE.read_text("utf-8").splitlines()
        if line.startswith("| `") and ".schema.json`" in line
    ]
    assert sorted(rows) == sorted(there)
