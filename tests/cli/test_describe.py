"""Words for people, types of arguments, and help pages that load little."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click
import pytest

from margo_supplychain.cli import arguments, describe
from margo_supplychain.cli.author import warn
from margo_supplychain.cli.invocation import Invocation
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.versions import Version
from tests.cli.running import environment

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "just now"),
        (5, "in 5 s"),
        (-5, "5 s ago"),
        (89, "in 89 s"),
        (90, "in 2 min"),
        (3 * 3600 + 60, "in 3 h"),
        (-3 * 3600, "3 h ago"),
        (86400, "in 24 h"),
        (4 * 86400 - 2, "in 4 days"),
        (180 * 86400 - 1, "in 180 days"),
    ],
)
def test_distances(seconds: int, text: str) -> None:
    assert describe.distance(NOW + timedelta(seconds=seconds), at=NOW) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3_599, "59 min"),
        (3_600, "1 h"),
        (86_399, "23 h"),
        (86_400, "1 d"),
        (93 * 3600 + 3_599, "3 d 21 h"),
        (10 * 86_400 + 7_200, "10 d"),
    ],
)
def test_what_is_left_is_never_rounded_up(seconds: float, text: str) -> None:
    assert describe.remaining(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_950, "10 kB"),
        (41_234, "41 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (12_000_000_000, "12 GB"),
        (5_000_000_000_000_000, "5000 TB"),
    ],
)
def test_sizes(length: int, text: str) -> None:
    assert describe.size(length) == text


def test_counts_and_tables() -> None:
    assert describe.counted(1, "duty", "duties") == "1 duty"
    assert describe.counted(0, "layer") == "0 layers"
    assert describe.table([]) == []
    assert describe.table([("a", "b"), ("long", "", "x"), ("c",)]) == [
        "  a     b",
        "  long     x",
        "  c",
    ]


def test_times_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        late = datetime(2026, 11, 21, 20, 30, tzinfo=UTC)
        assert describe.date(late) == "2026-11-22"
        assert describe.moment(late) == "2026-11-22 05:30"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_arguments_are_parsed_once() -> None:
    digest = f"sha256:{'0' * 64}"
    assert arguments.ARTIFACT.convert(digest, None, None) == Digest.parse(digest)
    version = Version.parse("1.2.0")
    assert arguments.ARTIFACT.convert("1.2.0", None, None) == version
    assert arguments.VERSION.convert(version, None, None) is version
    assert arguments.VERSION_OR_NONE.convert("none", None, None) == "none"
    assert arguments.SPAN.convert("36h", None, None) == timedelta(hours=36)
    assert str(arguments.RELEASE_NAME.convert("acme/x", None, None)) == "acme/x"
    with pytest.raises(click.BadParameter, match="expected <publisher>/<name>"):
        arguments.RELEASE_NAME.convert("x", None, None)
    with pytest.raises(click.BadParameter, match="expected a time up to 3650d"):
        arguments.SPAN.convert("3651d", None, None)


def test_many_warnings_are_not_all_said(capsys: pytest.CaptureFixture[str]) -> None:
    warn(Invocation(), [f"warning {number}" for number in range(100)])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "note: and 80 more: --format json lists them"


@pytest.mark.parametrize(
    "command",
    [
        *("repo init", "repo status", "publisher add", "app policy", "release build"),
        *("attest run", "attest add", "attest show"),
    ],
)
def test_help_loads_little(place: Path, command: str) -> None:
    program = (
        "import sys; from margo_supplychain.cli.main import main; "
        "status = main(sys.argv[1:]); "
        "heavy = {'cryptography', 'securesystemslib', 'tuf', 'yaml', 'urllib3',"
        " 'tomllib', 'semver', 'margo_supplychain.signing',"
        " 'margo_supplychain.authoring', 'margo_supplychain.verify',"
        " 'margo_supplychain.transport'}; "
        "print(status, sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, *command.split(), "--help"],
        check=True,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert ran.stderr == "0 []\n"
