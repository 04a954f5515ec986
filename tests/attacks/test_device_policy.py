"""The device owner's policy says no, or can't say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import ClockError, FormatError, PolicyError
from margo_supplychain.formats.record import Image
from tests.attacks.standing import refused
from tests.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world import Device

SIGNED = 'require = ["signed"]\n'


def installed(tmp_path: Path, profile: str = "standard") -> tuple[World, Device]:
    world = World(profile=profile)
    world.release("1.0.0")
    world.publish()
    device = world.device(tmp_path)
    device.policy = table("*/*", SIGNED + "allow-simple-profile = true\n")
    assert device.install() == "1.0.0"  # sane
    return world, device


def table(pattern: str, lines: str = SIGNED) -> bytes:
    return f'[policy."{pattern}"]\n{lines}'.encode()


@pytest.mark.parametrize(
    "pattern",
    [
        "bolt/*",
        "acme/valve",
        "acme/pump",
        "acme/*-monitors",
        "*/pump",
        "acm/*",
        "a*b/*",
    ],
)
def test_no_pattern_matches(tmp_path: Path, pattern: str) -> None:
    """An application that the owner did not name is not allowed."""
    _, device = installed(tmp_path)
    device.policy = table(pattern)
    with refused(
        device, PolicyError, "policy", match="names no pattern for acme/pump-monitor"
    ):
        device.verify()


@pytest.mark.parametrize(
    "patterns",
    [
        ("acme/pump-*", "acme/*nitor"),
        ("acme/p*-monitor", "acme/pump-mo*or"),
        ("acme/*", "acme/**"),
        ("*cme/pump-monitor", "acm*/pump-monitor"),
    ],
)
def test_two_patterns_match_equally(tmp_path: Path, patterns: tuple[str, ...]) -> None:
    """A tie is not decided by the order in a file."""
    _, device = installed(tmp_path)
    device.policy = b"".join(table(one) for one in patterns)
    with refused(
        device, PolicyError, "policy", match="two equal patterns for acme/pump-"
    ):
        device.verify()


def test_the_most_specific_pattern_decides(tmp_path: Path) -> None:
    """A lax pattern for all does not weaken the strict one for this application."""
    world, device = installed(tmp_path)
    world.release("1.1.0", closure="partial")
    device.source.files = world.publish()
    strict = 'require = ["signed", "closure-complete"]\n'
    for better, worse in (
        ("acme/pump-monitor", "acme/*"),
        ("acme/*", "*/pump-monitors*"),
        ("acme/pump-*", "acme/*"),
        ("acme/*", "*/*"),
        ("*/pump-monitor", "*/*"),
    ):
        for policy in (
            table(better, strict) + table(worse),
            table(worse) + table(better, strict),
        ):
            device.policy = policy
            with refused(
                device, PolicyError, "policy", match="does not pin all its", newer=True
            ):
                device.verify()


@pytest.mark.parametrize(
    ("policy", "match"),
    [
        (b"", "has no patterns"),
        (b"[policy]\n", "has no patterns"),
        (b"policy = 1\n", "is not a table like"),
        (b'[[policy."a/*"]]\n', "is not a table"),
        (b'[policy]\n"acme/*" = true\n', "is not a table"),
        (table("acme/*", ""), "requires nothing"),
        (table("acme/*", "require = []\n"), "expected a list of rules"),
        (table("acme/*", 'require = "signed"\n'), "expected a list of rules"),
        (table("acme/*", "require = [1]\n"), "unknown rule 1"),
        (table("acme/*", 'require = ["signed", "sigend"]\n'), "unknown rule 'sigend'"),
        (table("acme/*", "allow-simple-profile = true\n"), "requires nothing"),
        (table("acme/*", 'max-age = "7d"\n'), "requires nothing"),
        (table("acme/*", SIGNED + "allow-simple-profile = false\n"), "expected true"),
        (table("acme/*", SIGNED + "allow-simple-profile = 1\n"), "expected true"),
        (table("acme/*", SIGNED + "requires = []\n"), "unknown key 'requires'"),
        (table("acme/*", SIGNED + "max-age = 7\n"), "expected a time"),
        (table("acme/*", SIGNED + 'max-age = "0d"\n'), "expected a time"),
        (table("acme/*", SIGNED + 'max-age = "7"\n'), "expected a time"),
        (table("acme/*", SIGNED + 'max-age = "1.5d"\n'), "expected a time"),
        (table("acme/*", SIGNED + 'max-age = "9999999d"\n'), "expected a time"),
        (table("acme/*", SIGNED + 'max-age = "\u0667d"\n'), "expected a time"),
        (table("acme"), "is not <publisher>/<name>"),
        (table("acme/*/x"), "is not <publisher>/<name>"),
        (table("*"), "is not <publisher>/<name>"),
        (table("ACME/*"), "is not <publisher>/<name>"),
        (table("acme/.*"), "is not <publisher>/<name>"),
        (table("acme/[a-z]*"), "is not <publisher>/<name>"),
        (table("acme/*") + b"[polcy]\n", "unknown table 'polcy'"),
        (table("acme/*") + table("acme/*"), "is not TOML"),
        (b"\xff", "is not TOML"),
        (b"a = " + b"[" * 5000, "is not TOML"),
        (b"#" * ((1 << 20) + 1), "more than 1048576 bytes"),
        (
            b"".join(table(f"acme/a{n}") for n in range(1001)),
            "more than 1000 patterns",
        ),
    ],
)
def test_policy_that_is_none(tmp_path: Path, policy: bytes, match: str) -> None:
    """A misspelt, empty or ambiguous policy is an error, never a weaker policy."""
    _, device = installed(tmp_path)
    device.policy = policy
    with refused(device, FormatError, "format", match=match):
        device.verify()


@pytest.mark.parametrize("named", [True, False])
def test_partial_closure(tmp_path: Path, named: bool) -> None:
    """A release that leaves images to tags, where the owner wants all by digest."""
    world, device = installed(tmp_path)
    images = (
        Image(component="web", reference="docker.io/library/nginx:1.27", digest=None),
    )
    world.release("1.1.0", closure="partial", images=images if named else ())
    device.source.files = world.publish()
    device.policy = table("acme/*", 'require = ["signed", "closure-complete"]\n')
    match = (
        r"container images \(docker.io/library/nginx:1\.27\)" if named else "images$"
    )
    with refused(device, PolicyError, "policy", match=match, newer=True):
        device.verify()
    assert device.version(pin="1.0.0") == "1.0.0"


def test_timestamp_older_than_the_owner_allows(tmp_path: Path) -> None:
    """A mirror keeps an unexpired state back longer than max-age."""
    _, device = installed(tmp_path)
    device.policy = table("acme/*", SIGNED + 'max-age = "36h"\n')
    device.clock.advance(hours=36)
    assert device.version() == "1.0.0"
    device.clock.advance(seconds=1)
    with refused(device, PolicyError, "policy", match="at most 1 day 12 hours allowed"):
        device.verify()
    device.source.down = True
    with refused(device, PolicyError, "policy", match="the timestamp is"):
        device.verify()
    for unit, amount in (("s", 129_700), ("m", 2_161), ("d", 2)):
        device.policy = table("acme/*", SIGNED + f'max-age = "{amount}{unit}"\n')
        assert device.version() == "1.0.0"


def test_age_that_the_clock_can_not_tell(tmp_path: Path) -> None:
    """A clock behind signed time proves no age: inconclusive, and never a yes."""
    _, device = installed(tmp_path)
    device.policy = table("acme/*", SIGNED + 'max-age = "7d"\n')
    assert device.version() == "1.0.0"
    device.clock.advance(days=-300)
    with refused(device, ClockError, "clock", match="age unknown, at most 7 days"):
        device.verify()


def test_a_clear_no_beside_an_unknown_age(tmp_path: Path) -> None:
    """What can't be judged does not soften what can."""
    world, device = installed(tmp_path)
    world.release("1.1.0", closure="partial")
    device.source.files = world.publish()
    device.policy = table(
        "acme/*", 'require = ["signed", "closure-complete"]\nmax-age = "7d"\n'
    )
    device.clock.advance(days=-300)
    with refused(
        device, PolicyError, "policy", match="pin all its.*age unknown", newer=True
    ):
        device.verify()


def test_simple_profile_not_allowed_by_name(tmp_path: Path) -> None:
    """One key that says all is accepted only where the owner wrote that down."""
    _, device = installed(tmp_path, profile="simple")
    device.policy = table("acme/*")
    with refused(
        device, PolicyError, "policy", match="profile simple.*does not allow it"
    ):
        device.verify()
