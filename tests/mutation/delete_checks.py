"""Deletes each numbered check in turn and demands that a test fails.

A numbered check is one statement directly below a comment

    # check 1.7: TUF 5.4.3: the version may not fall

It is replaced by `pass` when it is a call, or an `if` or `for` without `else` that ends
with `raise` or binds no name. Anything else says what stands in its place:

    # check 2.4 (instead: candidates = releases): versions below the floor are out

Further comment lines may follow before the statement. Each deletion is tried in a copy
of the working tree, two at once; the tree itself is never changed.

    python tests/mutation/delete_checks.py [--list] [--only 1.7 …] [TEST…]
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import tokenize
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PACKAGE: Final = "margo_supplychain"
WHERE: Final = ("threshold.py", "formats", "provenance", "verify")
TESTS: Final = ("threshold", "formats", "verify", "attacks", "provenance")
AT_ONCE: Final = 2
TIMEOUT: Final = 900  # seconds for one run of the tests
PYTEST_PASSED: Final = 0
PYTEST_FAILED: Final = 1

_MARKER: Final = re.compile(
    r"# check (?P<number>[0-9]+\.[0-9]+)(?: \(instead: (?P<code>.+?)\))?: (?P<what>.+)"
)
_LOOKS_LIKE: Final = re.compile(r"#\s*check\s*[0-9]", re.IGNORECASE)


class MarkerError(Exception):
    """A marker that this script can't use; says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One marked statement and what stands in its place when it is deleted."""

    number: str
    what: str
    path: Path
    first: int
    last: int
    replacement: str

    @property
    def order(self) -> tuple[int, ...]:
        """Sorts 1.10 behind 1.9."""
        return tuple(int(part) for part in self.number.split("."))

    def __str__(self) -> str:
        return f"{self.number:6} {self.path}:{self.first}  {self.what}"

    def deleted_from(self, source: str) -> str:
        """Return `source` without the check; it still compiles."""
        lines = source.splitlines(keepends=True)
        line = lines[self.first - 1]
        indentation = line[: len(line) - len(line.lstrip())]
        lines[self.first - 1 : self.last] = [f"{indentation}{self.replacement}\n"]
        changed = "".join(lines)
        compile(changed, str(self.path), "exec")
        return changed


def _is_plain(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Call)
    if not isinstance(statement, ast.If | ast.For) or statement.orelse:
        return False
    # Without a name that it binds, what follows would fail for another reason.
    return isinstance(statement.body[-1], ast.Raise) or not any(
        isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        for part in statement.body
        for node in ast.walk(part)
    )


def checks_in(path: Path, source: str) -> Iterator[Check]:
    """Yield the numbered checks of one file.

    Raises:
        MarkerError: for a marker in another form, without a statement, or above a
            statement that can't be deleted.
    """
    statements = {
        node.lineno: node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt)
    }
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or not _LOOKS_LIKE.match(token.string):
            continue
        at = f"{path}:{token.start[0]}"
        marker = _MARKER.fullmatch(token.string)
        if marker is None:
            raise MarkerError(f"{at}: expected '# check N.M: …', not {token.string!r}")
        below = token.start[0] + 1
        while below <= len(lines) and lines[below - 1].lstrip().startswith("#"):
            below += 1
        statement = statements.get(below)
        if statement is None or statement.col_offset != token.start[1]:
            raise MarkerError(f"{at}: no statement directly below, at its indentation")
        if isinstance(statement, ast.With | ast.FunctionDef | ast.ClassDef):
            raise MarkerError(f"{at}: mark one statement, not a block around others")
        code = marker["code"]
        if code is None and not _is_plain(statement):
            raise MarkerError(f"{at}: needs '(instead: CODE)', what deletes it is open")
        last = statement.end_lineno or below
        check = Check(
            number=marker["number"],
            what=marker["what"],
            path=path,
            first=below,
            last=last,
            replacement=code or "pass",
        )
        try:
            check.deleted_from(source)
        except SyntaxError as why:
            raise MarkerError(f"{at}: does not compile without it: {why.msg}") from why
        yield check


def all_checks(root: Path = ROOT) -> list[Check]:
    """Return every numbered check of the package in order.

    Raises:
        MarkerError: as in `checks_in`, and for a number that is used twice.
    """
    found: dict[str, Check] = {}
    for part in WHERE:
        top = root / PACKAGE / part
        files = sorted(top.rglob("*.py")) if top.is_dir() else [top]
        for path in (file for file in files if file.is_file()):
            name = path.relative_to(root)
            for check in checks_in(name, path.read_text("utf-8")):
                if check.number in found:
                    raise MarkerError(
                        f"check {check.number} is both {found[check.number].path}:"
                        f"{found[check.number].first} and {name}:{check.first}"
                    )
                found[check.number] = check
    return sorted(found.values(), key=lambda check: check.order)


def _copy_tree(to: Path) -> Path:
    skip = shutil.ignore_patterns(
        ".git", ".venv*", ".*_cache", "__pycache__", "node_modules", ".build"
    )
    return Path(shutil.copytree(ROOT, to, ignore=skip, symlinks=True))


def _run_tests(tree: Path, tests: Sequence[str]) -> tuple[int | None, str]:
    # No byte code: two deletions within a second could leave the wrong one behind.
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *tests],
            cwd=tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"no end after {TIMEOUT} s"
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return done.returncode, (failed or done.stdout.splitlines() or [""])[-1]


def _try(check: Check, trees: queue.Queue[Path], tests: Sequence[str]) -> str:
    """Return how the tests took the deletion: `noticed`, `SURVIVED` or `BROKEN`."""
    tree = trees.get()
    path = tree / check.path
    source = path.read_text("utf-8")
    try:
        path.write_text(check.deleted_from(source), "utf-8")
        code, said = _run_tests(tree, tests)
    finally:
        path.write_text(source, "utf-8")
        trees.put(tree)
    if code == PYTEST_FAILED:
        return f"noticed   {check}\n            {said[:120]}"
    word = "SURVIVED" if code == PYTEST_PASSED else "BROKEN"
    return f"{word:9} {check}\n            {said[:120]}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="only list the checks")
    parser.add_argument("--only", action="append", metavar="N.M", help="these alone")
    parser.add_argument("tests", nargs="*", help="tests to run, instead of the usual")
    return parser.parse_args()


def main() -> int:
    """Delete, test, report; 0 when every deletion was noticed."""
    arguments = _arguments()
    checks = all_checks()
    if arguments.only:
        checks = [check for check in checks if check.number in arguments.only]
    if not checks:
        print("no numbered check found")
        return 1
    if arguments.list:
        print("\n".join(str(check) for check in checks))
        return 0
    usual = [f"tests/{name}" for name in TESTS if (ROOT / "tests" / name).is_dir()]
    tests = arguments.tests or usual
    with tempfile.TemporaryDirectory(prefix="delete-checks-") as scratch:
        trees: queue.Queue[Path] = queue.Queue()
        for number in range(AT_ONCE):
            trees.put(_copy_tree(Path(scratch) / str(number)))
        first = trees.get()
        code, said = _run_tests(first, tests)
        trees.put(first)
        if code != PYTEST_PASSED:
            print(f"the tests don't pass as it is: {said}")
            return 1
        unnoticed = 0
        with ThreadPoolExecutor(AT_ONCE) as pool:
            tries = [pool.submit(_try, check, trees, tests) for check in checks]
            for one in as_completed(tries):
                print(one.result(), flush=True)
                unnoticed += not one.result().startswith("noticed")
    print(f"{len(checks)} checks deleted in turn, {unnoticed} without a failing test")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
