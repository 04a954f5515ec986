"""What `layout build` says about layouts that prove little."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest

from margo_supplychain.provenance.lint import Lint, lint
from tests.provenance.chains import CLOSED, MANIFEST, Pipeline, pipeline
from tests.world import provenance as world

MATCHED = ["MATCH", "out/*", "WITH", "PRODUCTS", "FROM", "build"]


def of(pipe: Pipeline) -> list[tuple[str, str]]:
    found = lint(pipe.parsed(), support_until=None)
    assert list(found) == sorted(found, key=lambda one: one.severity == "warning")
    return [(one.severity, one.reason) for one in found]


def with_rules(step: str, side: str, *rules: Any) -> Pipeline:
    pipe = pipeline()
    pipe.step(step)[f"expected_{side}"] = [list(rule) for rule in rules]
    return pipe


def test_nothing_is_said_about_a_good_layout() -> None:
    assert of(pipeline()) == []


def test_an_expiry_before_the_support_ends() -> None:
    layout = pipeline().parsed()
    day = timedelta(days=1)
    assert lint(layout, support_until=layout.expires) == ()
    (found,) = lint(layout, support_until=layout.expires + day)
    assert (found.severity, found.reason) == ("error", "expires-early")
    assert "2028-11-21T10:00:00Z, before" in found.text
    longer = layout._replace(expires=layout.expires + day)
    assert lint(longer, support_until=longer.expires) == ()


def test_one_key_under_two_ids_of_different_steps() -> None:
    pipe = pipeline()
    again = copy.deepcopy(pipe.layout["keys"][world.keyid("builder")])
    pipe.layout["keys"]["ab" * 32] = {**again, "keyid": "ab" * 32}
    pipe.step("package")["pubkeys"] = ["ab" * 32]
    assert of(pipe) == [("error", "key-twice"), ("warning", "key-unused")]


def test_one_functionary_for_everything() -> None:
    pipe = pipeline()
    for step in pipe.layout["steps"]:
        step["pubkeys"] = [world.keyid("builder")]
    assert ("warning", "one-functionary") in of(pipe)


def test_a_step_that_nothing_joins() -> None:
    pipe = with_rules("package", "materials", ("ALLOW", "out/*"), CLOSED)
    assert of(pipe) == [("error", "unconnected")]
    looks_at_itself = ["MATCH", "*", "WITH", "MATERIALS", "FROM", "package"]
    pipe = with_rules("package", "materials", looks_at_itself, CLOSED)
    assert of(pipe) == [("error", "unconnected"), ("warning", "match-itself")]


def test_products_that_nobody_uses() -> None:
    matched = ["MATCH", "src/*", "WITH", "MATERIALS", "FROM", "build"]
    pipe = with_rules("package", "materials", matched, CLOSED)
    assert of(pipe) == [("error", "unconnected")]
    pipe.step("build")["expected_products"] = [list(CLOSED)]
    assert of(pipe) == []


def test_a_report_that_nobody_takes() -> None:
    """It is of this release, for its step took what another one made."""
    pipe = pipeline()
    taken = ("MATCH", "out/*", "WITH", "PRODUCTS", "FROM", "build")
    pipe.layout["steps"].insert(
        1,
        world.step(
            "scan", "second", materials=[taken, CLOSED], products=[("CREATE", "*")]
        ),
    )
    assert ("warning", "products-unused") in of(pipe)
    assert ("error", "unconnected") not in of(pipe)


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ([MATCHED], ("error", "match-open")),
        ([MATCHED, ["DISALLOW", "x*"]], ("error", "match-open")),
        ([MATCHED, ["DISALLOW", "out/*"]], None),
        ([MATCHED, ["DISALLOW", "o*"]], None),
        ([MATCHED, ["DISALLOW", "o?*"]], ("error", "match-open")),
        ([MATCHED, ["ALLOW", "*"], CLOSED], ("error", "match-void")),
        ([["ALLOW", "out/*"], MATCHED, CLOSED], ("error", "match-void")),
        ([["ALLOW", "out/a"], MATCHED, CLOSED], None),
        ([MATCHED, ["ALLOW", "other"], CLOSED], None),
        ([[*MATCHED[:2], "IN", "x", *MATCHED[2:]], ["DISALLOW", "x/*"]], None),
        (
            [[*MATCHED[:2], "IN", "x", *MATCHED[2:]], ["DISALLOW", "out/*"]],
            ("error", "match-open"),
        ),
    ],
)
def test_match_without_an_end(rules: list[Any], found: Any) -> None:
    pipe = with_rules("package", "materials", *rules)
    assert of(pipe) == ([] if found is None else [found])


def test_rules_that_nothing_is_left_for() -> None:
    pipe = with_rules("package", "materials", MATCHED, CLOSED, ("ALLOW", "other"))
    assert of(pipe) == [("warning", "unreachable")]


def test_require_after_what_consumes_it() -> None:
    create, require = ["CREATE", "release/*"], ["REQUIRE", MANIFEST]
    pipe = with_rules("package", "products", create, require, CLOSED)
    assert of(pipe) == [("warning", "require-consumed")]
    pipe = with_rules("package", "products", ["ALLOW", "*"], require, CLOSED)
    assert ("error", "require-consumed") in of(pipe)
    other = ["REQUIRE", "other"]
    pipe = with_rules("package", "products", other, require, create, CLOSED)
    assert of(pipe) == []


def test_a_manifest_that_no_rule_accounts_for() -> None:
    pipe = with_rules("package", "products", ["REQUIRE", MANIFEST], CLOSED)
    assert of(pipe) == [("error", "release-unexplained")]
    rules: list[list[str]] = [["REQUIRE", MANIFEST], ["CREATE", MANIFEST]]
    pipe = with_rules("package", "products", *rules, CLOSED)
    assert of(pipe) == [("error", "release-unexplained")]
    (found,) = lint(pipe.parsed(), support_until=None)
    assert found.text.startswith("step package makes release/record, and no rule")
    pipe = with_rules("package", "products", *rules, ["CREATE", world.RECORD], CLOSED)
    assert of(pipe) == []
    assert of(with_rules("package", "products", rules[0]))[0] == (
        "error",
        "release-unexplained",
    )
    refused = ["DISALLOW", "release/r*"]
    pipe = with_rules("package", "products", refused, *rules, ["CREATE", world.RECORD])
    assert ("error", "release-unexplained") in of(pipe)


def test_what_no_rule_is_about_and_what_stands_for_itself() -> None:
    pipe = with_rules("build", "materials")
    assert of(pipe) == [("warning", "no-rules")]
    pipe = with_rules("build", "materials", ["ALLOW", "src-{VERSION}/*"], CLOSED)
    assert of(pipe) == [("warning", "placeholder")]


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("git/dirt\u0443", ["look-alike"]),  # Cyrillic
        ("git/dirty\u3164", ["invisible", "look-alike"]),
        ("git/dirty\u2800", ["invisible", "look-alike"]),
        ("g\u0456t/dirty", ["look-alike"]),
        ("r\u0435lease/*", ["look-alike"]),
        ("r\u0435\u0328lease/*", ["look-alike"]),
        ("\uff52elease/*", ["look-alike"]),
        ("src/\ufe0f*", ["invisible"]),
        ("git/dirty", []),
        ("gitter/\u00e4", []),
        ("src/Gr\u00f6\u00dfe/*", []),
        ("Release/Gr\u00f6\u00dfe", []),
    ],
)
def test_rules_that_read_like_others(name: str, reasons: list[str]) -> None:
    pipe = with_rules("build", "materials", ("DISALLOW", name), ("ALLOW", "*"))
    assert of(pipe) == [("error", one) for one in reasons]
    for one in lint(pipe.parsed(), support_until=None):
        assert one.text.isascii()
    match = ["MATCH", "*", "IN", name.rstrip("/*"), "WITH", "PRODUCTS", "FROM", "build"]
    pipe = with_rules("package", "materials", MATCHED, match, CLOSED)
    assert of(pipe) == [("error", one) for one in reasons]


def test_a_remark_says_where() -> None:
    pipe = with_rules("package", "materials", MATCHED)
    (found,) = lint(pipe.parsed(), support_until=None)
    text = "MATCH out/* WITH PRODUCTS FROM build"
    assert found == Lint(
        "error",
        "match-open",
        f'step package: no DISALLOW follows "{text}", so in-toto lets pass what does '
        "not match; add DISALLOW *",
        "package",
        text,
    )
