"""Our reading of npm's ranges against npm's own `semver`, case by case.

The cases are generated, the same on every run: operators and partial versions in all
combinations, ranges put together at random from the grammar, and ranges and versions
with a few characters changed. What npm takes and we refuse has a name in `STRICTER`;
nothing is the other way around, and no version is admitted that npm would not admit.
"""

from __future__ import annotations

import collections
import itertools
import json
import random
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from margo_supplychain.errors import FormatError
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.versions import Version
from tests.peers.clients import HERE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Case = tuple[str, str]

ABOVE_LIMIT: Final = r"[-.](?:9007199254740992|[0-9]{17,})"
# Where we refuse a range that npm takes. The patterns see the text as it is.
STRICTER: Final = {
    "white space around a range, or other than spaces in it": r"^\s|\s$|[^\S ]",
    "an alternative that says nothing": r"^ *\|\||\|\| *\|\||\|\| *$|^ *$",
    "v or = as part of a version": (
        r"(?:^|[ |<>=~^])(?:v|=[v=])|[~^]>? *=|= +[v=]|=[^ |]* +- | - +="
    ),
    "a space inside an operator": r"[<>] +=|~>? +>",
    "a number after a wildcard": r"(?:^|[ |<>=~^]|[0-9]\.)[xX*]\.(?:[xX*]\.)?[0-9]",
    "a pre-release after a wildcard": r"(?:^|\.|[ |<>=~^])[xX*]-",
    "build metadata, but not after a complete version": (
        r"(?:^|(?<=[ |<>=~^]))(?![0-9]+\.[0-9]+\.[0-9]+[-+])[^ |<>=~^+]*\+"
        r"|\+[0-9A-Za-z.-]+[^0-9A-Za-z.| -]"
    ),
    "a star behind a version": r"[0-9A-Za-z-][<>]?=?\*|\*[0-9A-Za-z*<>=]",
    "a pre-release number above 2^53-1": ABOVE_LIMIT,
    "a version above 100 characters": r"[^ |]{101,}",
    "a range above 256 characters": r"^.{257,}$",
    "more than 64 parts": r"(?:[^ |]+[ |]+){64,}",
}
# Where we refuse a version that npm takes.
STRICTER_VERSIONS: Final = {
    "white space around it": r"^\s|\s$",
    "a leading v": r"^\s*v",
    "a pre-release number above 2^53-1": ABOVE_LIMIT,
    "above 100 characters": r"^.{101,}$",
}
NUMBERS: Final = ("0", "1", "2", "3", "10")
PRERELEASES: Final = ("-0", "-1", "-rc", "-rc.1", "-rc.1.x", "-a-b", "-10", "-RC")
BUILDS: Final = ("+a", "+a.1", "+001", "+-")
PARTIALS: Final = (
    *("*", "x", "X", "x.x", "*.*.*", "0", "1", "0.x", "1.x", "2.X.x", "1.*.x"),
    *("0.0", "0.1", "1.2", "0.0.x", "0.2.x", "1.2.*", "0.0.0", "0.0.1", "0.1.0"),
    *("1.0.0", "1.2.3", "0.0.0-0", "0.0.0-rc", "0.0.1-rc.1", "0.1.0-rc.1"),
    *("1.0.0-rc.1", "1.2.3-0", "1.2.3-rc.1", "1.2.3+a", "1.2.3-rc.1+a.b"),
    *("9007199254740991", "0.9007199254740991", "1.2.9007199254740991"),
    *("9007199254740992.0.0", "1.9007199254740992", "1.x.3", "x.1", "01", "1.2.3-01"),
)
OPERATORS: Final = (
    *("", "=", "<", "<=", ">", ">=", "~", "~>", "^"),
    *("= ", "< ", "<= ", ">  ", ">= ", "~ ", "~>  ", "^ "),
    *("v", "=v", ">v", "==", "> =", "^=", "~v", "~ >", "<>", "!", "!=", "=>"),
)
VERSIONS: Final = (
    *(
        ".".join(numbers) + end
        for numbers in itertools.product("0123", "012", "0134")
        for end in ("", "-0", "-rc.1")
    ),
    *("1.2.3+a", "1.2.3-rc", "1.2.3-rc.1+b", "1.2.3-rc.2", "0.0.0-a", "2.0.0-0.0"),
)
ALPHABET: Final = "0123 9.xX*-+|<>=~^vrc,\t\n\u0662"


class Generator:
    """Makes ranges and versions from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - cases, not secrets
        self.pick = self._random.choice

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def version(self) -> str:
        text = ".".join(self.pick(NUMBERS) for _ in range(3))
        text += self.pick(PRERELEASES) if self.chance(0.4) else ""
        return text + (self.pick(BUILDS) if self.chance(0.15) else "")

    def partial(self) -> str:
        if self.chance(0.5):
            return self.version()
        known = self._random.randrange(3)
        parts = [self.pick(NUMBERS) for _ in range(known)]
        wildcards = self._random.randrange(0 if known else 1, 4 - known)
        return ".".join(parts + [self.pick("xX*") for _ in range(wildcards)])

    def alternative(self) -> str:
        if self.chance(0.15):
            return f"{self.partial()} - {self.partial()}"
        count = self.pick((1, 1, 2, 2, 3))
        return self.pick((" ", " ", "   ")).join(
            self.pick(OPERATORS[:17]) + self.partial() for _ in range(count)
        )

    def range(self) -> str:
        count = self.pick((1, 1, 1, 2, 3))
        bar = self.pick(("||", " || ", "  ||"))
        return bar.join(self.alternative() for _ in range(count))

    def changed(self, text: str) -> str:
        for _ in range(self.pick((1, 1, 2))):
            where = self._random.randint(0, len(text))
            cut = self.pick((0, 1))
            new = self.pick(ALPHABET) if self.chance(0.8) else ""
            text = text[:where] + new + text[where + cut :]
        return text

    def near(self, text: str) -> str:
        """A version that a range speaks about, or one close to it."""
        found = re.findall(r"[0-9]+\.[0-9]+\.[0-9]+(?:-[0-9A-Za-z.-]+)?", text)
        if not found or self.chance(0.3):
            return self.pick(VERSIONS) if self.chance(0.5) else self.version()
        core, dash, prerelease = self.pick(found).partition("-")
        numbers = [int(part) for part in core.split(".")]
        if self.chance(0.5):
            place = self._random.randrange(3)
            numbers[place] = max(0, numbers[place] + self.pick((-1, 1)))
        core = ".".join(map(str, numbers))
        ends = ("", dash + prerelease, "-0", "-rc.1", f"-{prerelease or 'rc'}.0", "+b")
        return core + self.pick(ends)


def enumerated() -> Iterator[Case]:
    """Every operator before every partial version, and every pair around a hyphen."""
    ranges = [sign + partial for sign in OPERATORS for partial in PARTIALS]
    ranges += [f"{low} - {high}" for low, high in itertools.product(PARTIALS, PARTIALS)]
    versions = itertools.cycle(VERSIONS)
    for text in ranges:
        yield from ((version, text) for version in itertools.islice(versions, 7))


def generated() -> Iterator[Case]:
    generator = Generator(1)
    for _ in range(4000):
        text = generator.range()
        yield from ((generator.near(text), text) for _ in range(4))


def changed() -> Iterator[Case]:
    generator = Generator(2)
    for _ in range(4000):
        text = generator.range()
        yield generator.near(text), generator.changed(text)
        yield generator.changed(generator.near(text)), text


def limits() -> Iterator[Case]:
    long = "1.2.3-" + "a" * 95
    large = "1.2.3-9007199254740992"
    for text in ("*", "^1", "1.2.3-a", "", " ", "||", "1||", "|| 1", "v1.2.3", "^v1"):
        for version in ("1.2.3", "v1.2.3", " 1.2.3", "1.2.3\n", long, large, "1.2.3\0"):
            yield version, text
    for version in ("1.2.3", "1.2.4", "1.2.3-rc.1"):
        for count in (63, 64, 65, 90):
            yield version, " ".join(["1"] * count)
            yield version, "||".join(["1"] * count)
        yield version, "1.2.3-" + "a" * 93 + " || 1.2.3"
        yield version, long + " || 1.2.3"
        yield version, large + " || 1.2.3"
        yield version, "1.2.3+a >" + " " * 260 + "1"
        yield version, "1.2.3-9007199254740991 || ^1"
        yield version, "~1.2.x-rc.1"
        yield version, "1+build"


def ask_npm(cases: list[Case], node: str) -> list[str]:
    answer = subprocess.run(
        [node, str(HERE / "node" / "semver_peer.js")],
        input="".join(json.dumps(case) + "\n" for case in cases),
        capture_output=True,
        check=True,
        encoding="ascii",
        timeout=120,
    )
    return answer.stdout.split()


@pytest.fixture(scope="module")
def answers(pytestconfig: pytest.Config) -> list[tuple[Case, str, str]]:
    """Every case with our answer and npm's."""
    node = shutil.which("node")
    if node is None or not (HERE / "node" / "node_modules" / "semver").is_dir():
        missing = "peer semver needs Node.js and `npm ci` in tests/peers/node"
        if pytestconfig.getoption("--peers"):
            pytest.fail(missing)
        pytest.skip(missing)
    cases = [*enumerated(), *generated(), *changed(), *limits()]
    theirs = ask_npm(cases, node)
    return [(case, ours(*case), npm) for case, npm in zip(cases, theirs, strict=True)]


def ours(version: str, text: str) -> str:
    try:
        pin = Pin.range(text, grammar="npm")
    except FormatError:
        return "invalid-range"
    try:
        return "admitted" if pin.admits(Version.parse(version)) else "refused"
    except FormatError:
        return "invalid-version"


def matching(exceptions: Mapping[str, str], text: str) -> list[str]:
    return [name for name, form in exceptions.items() if re.search(form, text)]


def test_agreement(answers: list[tuple[Case, str, str]]) -> None:
    unused = {**STRICTER, **{f"version: {name}": "" for name in STRICTER_VERSIONS}}
    unnamed = []
    for (version, text), here, npm in answers:
        if here == npm:
            continue
        names: list[str] = []
        if here == "invalid-range":
            names = matching(STRICTER, text)
        elif here == "invalid-version" and npm != "invalid-range":
            found = matching(STRICTER_VERSIONS, version)
            names = [f"version: {name}" for name in found]
        if not names:
            unnamed.append((version, text, here, npm))
        for name in names:
            unused.pop(name, None)
    assert unnamed == []
    assert sorted(unused) == []  # an exception that no case needs is a wrong one


def test_exceptions_are_narrow(answers: list[tuple[Case, str, str]]) -> None:
    """None of them would excuse a refusal of what we take today."""
    for (version, text), here, _ in answers:
        if here != "invalid-range":
            assert matching(STRICTER, text) == [], text
        if here in ("admitted", "refused"):
            assert matching(STRICTER_VERSIONS, version) == [], version


def test_cases_are_worth_asking(answers: list[tuple[Case, str, str]]) -> None:
    count = collections.Counter((here, npm) for _, here, npm in answers)
    for same in ("admitted", "refused", "invalid-range", "invalid-version"):
        assert count[same, same] > 1500, count
    prereleases = [
        case for case, here, _ in answers if here == "admitted" and "-" in case[0]
    ]
    assert len(prereleases) > 400
