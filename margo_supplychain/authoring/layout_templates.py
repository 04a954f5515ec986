"""Layouts to start from: TOML that says why each rule is there, for people to review.

Each one ends in the step that makes the release, and joins every step with it by
digest: what is packaged is what was tested, and that is what was built.

Example:
    >>> TEMPLATES["two-builders-agree"].steps
    ('build', 'package')
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.errors import RefusedError
from margo_supplychain.formats.toml import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Template(NamedTuple):
    """A pipeline.

    Args:
        says: one line for people.
        steps: each needs somebody who does it.
        agreeing: steps that so many must do alike: step → how many.
        text: the steps in TOML; `{by:STEP}` and `{threshold:STEP}` are filled in.
    """

    says: str
    steps: tuple[str, ...]
    agreeing: Mapping[str, int]
    text: str


_SOURCES: Final = """\
# What is recorded with `--git`: the commit, and each of its files. Without it, or with
# changes that nobody has committed, nothing is built.
materials = ["REQUIRE git/commit", "DISALLOW git/dirty", "ALLOW *"]
"""
_BUILT: Final = """\
# New files alone: what was in the commit comes from there.
products = ["CREATE *", "DISALLOW *"]
"""
_RELEASED: Final = """\
# The release itself: `attest run --release DIST` records these names. A device compares
# each of them with what it is about to install.
products = ["REQUIRE release/manifest", "ALLOW release/*", "DISALLOW *"]
"""
_THIRD_PARTY: Final = """\
  "ALLOW release/components/*",          # what others made, and this release pins
  "DISALLOW *",
]
"""


def _step(name: str, about: str, *rules: str) -> str:
    return (
        f'\n[[steps]]  # {about}\nname = "{name}"\nby = {{by:{name}}}\n'
        f"threshold = {{threshold:{name}}}\n" + "".join(rules)
    )


_TEST: Final = _step(
    "test",
    "looks at what was built, and makes nothing",
    """\
materials = [
  "MATCH * WITH PRODUCTS FROM build",    # exactly what was built
  "MATCH * WITH MATERIALS FROM build",   # with the tests of the same commit
  "DISALLOW *",
]
products = ["DISALLOW *"]
""",
)
_PACKAGE: Final = _step(
    "package",
    "makes the release",
    """\
materials = [
  "MATCH * WITH MATERIALS FROM test",    # exactly what was tested
""",
    _THIRD_PARTY,
    _RELEASED,
)
_REVIEW: Final = _step(
    "review",
    "somebody else has read the commit",
    _SOURCES,
    'products = ["DISALLOW *"]\n',
)
_BUILD: Final = _step("build", "from one commit", _SOURCES, _BUILT)
_BUILD_REVIEWED: Final = _step(
    "build",
    "from the commit that was reviewed",
    """\
materials = [
  "REQUIRE git/commit",
  "MATCH * WITH MATERIALS FROM review",  # exactly what was reviewed
  "DISALLOW *",
]
""",
    _BUILT,
)
_BUILD_TWICE: Final = _step(
    "build",
    "on machines of different people, with the same result",
    _SOURCES,
    _BUILT,
)
_PACKAGE_BUILT: Final = _step(
    "package",
    "makes the release",
    """\
materials = [
  "MATCH * WITH PRODUCTS FROM build",    # exactly what was built
  "MATCH * WITH MATERIALS FROM build",   # with files of the same commit
""",
    _THIRD_PARTY,
    _RELEASED,
)

TEMPLATES: Final[Mapping[str, Template]] = MappingProxyType(
    {
        "build-test-package": Template(
            "build, then test, then package",
            ("build", "test", "package"),
            {},
            _BUILD + _TEST + _PACKAGE,
        ),
        "build-test-package-review": Template(
            "review, then build, test and package",
            ("review", "build", "test", "package"),
            {},
            _REVIEW + _BUILD_REVIEWED + _TEST + _PACKAGE,
        ),
        "two-builders-agree": Template(
            "two build alike, a third packages",
            ("build", "package"),
            {"build": 2},
            _BUILD_TWICE + _PACKAGE_BUILT,
        ),
    }
)


def render(
    template: str, by: Mapping[str, Sequence[str]], *, expires: str, readme: str
) -> bytes:
    """Return a template as a file to review.

    Args:
        template: one of `TEMPLATES`.
        by: step → the texts that name its functionaries' keys, as the file shall.
        expires: a date or a period.
        readme: one line for people.

    Raises:
        RefusedError: a step that nobody does, or that is none of the template's; fewer
            functionaries than must agree.
        FormatError: what is not printable.
    """
    found = TEMPLATES[template]
    for step in by:
        if step not in found.steps:
            raise RefusedError(
                f"{template} has no step {step!r:.80}",
                hint=f"its steps are {', '.join(found.steps)}",
            )
    text = found.text
    names = _names({step: by.get(step, ()) for step in found.steps})
    for step in found.steps:
        needed = found.agreeing.get(step, 1)
        given = by.get(step, ())
        if len(given) < needed:
            raise RefusedError(
                f"step {step} of {template} needs {needed} functionar"
                f"{'y' if needed == 1 else 'ies'}, {len(given)} given",
                hint=f"say who does it: --by {step}=KEY.pub",
            )
        shown = ", ".join(quoted(names[uri]) for uri in given)
        text = text.replace(f"{{by:{step}}}", f"[{shown}]")
        text = text.replace(f"{{threshold:{step}}}", str(needed))
    return "".join(_head(found, names, expires, readme)).encode() + text.encode()


def _head(
    template: Template, names: Mapping[str, str], expires: str, readme: str
) -> Iterator[str]:
    yield f"# A layout: {template.says}. Whoever signs it has read each rule.\n"
    yield f"readme = {quoted(readme)}\n"
    yield f"expires = {quoted(expires)}\n"
    yield "\n[functionaries]  # public keys: files beside this one, or PEM\n"
    for uri, name in names.items():
        yield f"{quoted(name)} = {quoted(uri)}\n"


def _names(by: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return a name for each key: its first step, counted where a step has several."""
    found: dict[str, str] = {}
    for step, uris in by.items():
        for number, uri in enumerate(uris, 1):
            name = step if len(uris) == 1 else f"{step}-{number}"
            found.setdefault(uri, name)
    return found
