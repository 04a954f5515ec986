"""Numbered checks: unique, and each can be deleted by tests/mutation."""

from __future__ import annotations

import ast
from pathlib import Path
from textwrap import dedent

import pytest

from tests.mutation.delete_checks import Check, MarkerError, all_checks, checks_in


def parse(source: str) -> list[Check]:
    return list(checks_in(Path("a.py"), dedent(source)))


def deleted(source: str) -> str:
    (check,) = parse(source)
    return check.deleted_from(dedent(source))


def test_every_marker_of_the_package_can_be_deleted() -> None:
    checks = all_checks()  # raises for a number that is used twice
    assert len(checks) > 1
    assert len({check.number for check in checks}) == len(checks)


def test_an_if_that_raises_becomes_pass() -> None:
    source = """\
        def f(a):
            # check 1.7: TUF 5.4.3: the version may not fall,
            # whatever else is new
            if a:
                b = 1
                raise ValueError(
                    b
                )
            return a
        """
    assert deleted(source) == (
        "def f(a):\n"
        "    # check 1.7: TUF 5.4.3: the version may not fall,\n"
        "    # whatever else is new\n"
        "    pass\n"
        "    return a\n"
    )


def test_a_call_becomes_pass() -> None:
    assert deleted("# check 1.7: why\nf(\n    1)\n") == "# check 1.7: why\npass\n"


def test_an_if_or_for_that_binds_nothing_becomes_pass() -> None:
    assert (
        deleted("# check 1.7: why\nif a:\n    b.c(1)\n") == "# check 1.7: why\npass\n"
    )
    source = "# check 1.7: why\nfor a in b:\n    if a:\n        raise c\n"
    assert deleted(source) == "# check 1.7: why\npass\n"


def test_anything_else_says_what_deletes_it() -> None:
    source = "# check 2.10 (instead: a = g(b)): why (TUF 5.1): and so\na = f(g(b))\n"
    (check,) = parse(source)
    assert (check.number, check.what) == ("2.10", "why (TUF 5.1): and so")
    assert check.order > (2, 9)
    assert ast.unparse(ast.parse(check.deleted_from(source))) == "a = g(b)"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("# check 1.7 why\nf()\n", "expected '# check N.M"),
        ("# Check 1: why\nf()\n", "expected '# check N.M"),
        ("# check 1.7: why\n\nf()\n", "no statement directly below"),
        ("f()\n# check 1.7: why\n", "no statement directly below"),
        ("if a:\n    f()\n    # check 1.7: why\ng()\n", "no statement directly below"),
        ("# check 1.7: why\na = f()\n", "needs '\\(instead: CODE\\)'"),
        ("# check 1.7: why\nif a:\n    b = 1\n", "needs '\\(instead: CODE\\)'"),
        ("# check 1.7: why\nif a:\n    raise b\nelse:\n    c = 1\n", "needs"),
        ("# check 1.7: why\nwith f():\n    g()\n", "not a block"),
        ("# check 1.7 (instead: a b): why\nreturn_ = 1\n", "does not compile"),
    ],
)
def test_a_marker_that_can_not_be_used(source: str, words: str) -> None:
    with pytest.raises(MarkerError, match=words):
        parse(source)


def test_a_number_that_is_used_twice(tmp_path: Path) -> None:
    package = tmp_path / "margo_supplychain" / "verify"
    package.mkdir(parents=True)
    (package / "a.py").write_text("# check 1.7: one\nf()\n", "utf-8")
    (package / "b.py").write_text("# check 1.7: another\nf()\n", "utf-8")
    with pytest.raises(MarkerError, match=r"check 1\.7 is both .*a\.py:2 and .*b\.py"):
        all_checks(tmp_path)
