"""Execute a page: its commands in order, in one directory, compared with what it shows.

What changes from run to run is normalised on both sides: key ids and digests, dates and
spans, sizes, versions of this package; the directory is called /srv/acme, and a
registry as the page calls it. A line `…` stands for any number of lines, a line
`(exit status 3)` at the end for how the command ended. A page is brought up to date,
but for outputs with `…` that are still right, by

    python -m tests.docs.transcripts docs/tutorial.md …
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.cli.main import main
from tests.docs.pages import items, name_of
from tests.fixtures import copy_package, image_index_layout, wasm_layout
from tests.house.tree import ROOT
from tests.registries.servers import docker_registry
from tests.softhsm import soft_token

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.docs.pages import Item

PROGRAM: Final = "margo-supplychain"
_PATIENCE: Final = 120.0  # seconds for one command
_SHELL: Final = re.compile(r"[|<>;&$`(){}*?!~\n]|^[A-Z_]+=")
_EXPORT: Final = re.compile(r"export ([A-Z_]+)=\$\((.+)\)")
_ANY: Final = "…"
_PLACE: Final = "DOCS_PLACE"
_CALLED: Final = "/srv/acme"  # what pages call the directory that they work in
_HOSTS: Final[dict[str, str]] = {}  # what a page calls a registry -> host:port
_RULES: Final = (
    (re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z"), "<time>"),
    (re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}( [0-9]{2}:[0-9]{2})?"), "<time>"),
    (re.compile(r"(?<=;id=)(%[0-9A-F]{2})+"), "<id>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<64 hex>"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "<16 hex>"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "<12 hex>"),
    (re.compile(r"\b[0-9a-f]{4}…[0-9a-f]{4}\b"), "<hex>"),
    (re.compile(r"(?<=\.)[0-9a-f]{8}(?=\.(link\.)?dsse\.json)"), "<8 hex>"),
    (re.compile(r"\b[0-9.]+ (B|kB|MB|GB)\b"), "<size>"),
    (re.compile(r"\b(in )?[0-9]+ (s|min|h|d|days?)\b( [0-9]+ h)?( ago)?"), "<span>"),
    (re.compile(r"\bjust now\b"), "<span>"),
    (re.compile(r"\bmargo-supplychain [0-9]+\.[0-9.a-z+]+"), "margo-supplychain <v>"),
    (re.compile(r"(?<=\S) {2,}"), "  "),
    (re.compile(r"[ \t]+$"), ""),
)


class Exchange(NamedTuple):
    """One command of a console block and what the page says it prints."""

    command: str
    shown: tuple[str, ...]
    line: int


class Run(NamedTuple):
    """What a page says that a command prints, and what it printed."""

    exchange: Exchange
    printed: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether they are the same."""
        return agree(self.exchange.shown, self.printed)

    def __str__(self) -> str:
        shown = "\n".join(f"  - {line}" for line in self.exchange.shown)
        printed = "\n".join(f"  + {line}" for line in self.printed)
        return (
            f"line {self.exchange.line}: $ {self.exchange.command}\n{shown}\n{printed}"
        )


def exchanges(block: str, line: int) -> list[Exchange]:
    r"""Return the commands of a console block.

    A command goes on over lines that end in a backslash.

    Raises:
        ValueError: the block begins with something else than a command.
    """
    found: list[tuple[str, list[str], int]] = []
    lines = iter(enumerate(block.splitlines(), start=line + 1))
    for number, text in lines:
        if text.startswith("$ "):
            command = text[2:]
            while command.endswith("\\"):
                command = command[:-1].rstrip() + " " + next(lines)[1].strip()
            found.append((command, [], number))
        elif found:
            found[-1][1].append(text)
        else:
            raise ValueError(f"line {number}: a console block begins with a command")
    return [Exchange(command, tuple(shown), at) for command, shown, at in found]


def normalised(lines: Sequence[str]) -> tuple[str, ...]:
    """Return lines without what changes from run to run."""
    found = []
    for line in lines:
        text = line
        for rule, word in _RULES:
            text = rule.sub(word, text)
        found.append(text)
    return tuple(found)


def agree(shown: Sequence[str], printed: Sequence[str]) -> bool:
    """Tell whether a command printed what the page shows.

    `…` stands for lines, never for how the command ended.
    """
    if _ended(shown) != _ended(printed):
        return False
    return _matches(normalised(shown), normalised(printed))


def _ended(lines: Sequence[str]) -> str:
    last = lines[-1] if lines else ""
    return last if last.startswith("(exit status ") else "(exit status 0)"


def _matches(shown: tuple[str, ...], printed: tuple[str, ...]) -> bool:
    if not shown:
        return not printed
    if shown[0].strip() == _ANY:
        rest = shown[1:]
        return any(_matches(rest, printed[at:]) for at in range(len(printed) + 1))
    return bool(printed) and shown[0] == printed[0] and _matches(shown[1:], printed[1:])


def run(command: str) -> tuple[str, ...]:
    """Run a command in the current directory and return what it printed.

    The product runs in this process, unless the command needs a shell, runs a program
    that prints, or the page has tokens: a module that stays loaded would know their
    PINs. `cd` and `export` last.
    """
    command = _there(command)
    words = [] if _SHELL.search(command) else shlex.split(command, comments=True)
    if words[:1] == ["cd"]:
        os.chdir(words[1])
        return ()
    if set_by := _EXPORT.fullmatch(command):
        status, output = _run_in_shell(set_by.group(2))
        os.environ[set_by.group(1)] = output.strip()
        return (output, f"(exit status {status})") if status else ()
    if words[:1] == ["export"]:
        os.environ.update(dict(word.split("=", 1) for word in words[1:]))
        return ()
    apart = "SOFTHSM2_CONF" in os.environ or words[1:3] == ["attest", "run"]
    if words[:1] == [PROGRAM] and not apart:
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            status = main(words[1:])
        output = text.getvalue()
    else:
        status, output = _run_in_shell(command)
    ended = [f"(exit status {status})"] if status else []
    output = output.replace(str(place_of()), _CALLED)
    for name, host in _HOSTS.items():
        output = output.replace(host, name)
    return (*output.splitlines(), *ended)


def _there(text: str) -> str:
    """Return a page's text with registries by their real names."""
    for name, host in _HOSTS.items():
        text = text.replace(name, host)
    return text


def place_of() -> Path:
    """Return the directory that `place` made, wherever `cd` has led."""
    return Path(os.environ.get(_PLACE, "/nowhere"))


def _run_in_shell(command: str) -> tuple[int, str]:
    done = subprocess.run(
        ["sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_PATIENCE,
        check=False,
        start_new_session=True,  # no terminal to ask for a passphrase
    )
    return done.returncode, done.stdout


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """Work in an empty directory, with the product on PATH and nobody's settings."""
    before, environment = Path.cwd(), dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="docs-") as scratch:
        programs = Path(scratch) / "bin"
        programs.mkdir()
        program = programs / PROGRAM
        program.write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m margo_supplychain "$@"\n'
        )
        program.chmod(0o755)
        (programs / "python3").symlink_to(sys.executable)
        work = Path(scratch) / "work"
        work.mkdir()
        for name in environment:
            if name.startswith(("MARGO_SUPPLYCHAIN_", "_MARGO", "COLUMNS", "SOFTHSM2")):
                del os.environ[name]
        os.environ["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
        os.environ[_PLACE] = str(work)
        os.environ["CHECKOUT"] = str(ROOT)
        os.environ["DOCKER_CONFIG"] = str(work / ".docker")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        os.chdir(work)
        try:
            yield work
        finally:
            _HOSTS.clear()
            os.chdir(before)
            os.environ.clear()
            os.environ.update(environment)


def execute(page: Path) -> list[Run]:
    """Execute a page; return what each of its commands printed.

    Raises:
        AssertionError: a hidden command or a program failed.
    """
    found: list[Run] = []
    with place(), contextlib.ExitStack() as servers:
        names: dict[str, object] = {"__name__": "__main__"}
        pending: Item | None = None
        for item in items(page):
            if item.kind != "block":
                pending = _prepare(item, page, servers)
                continue
            if pending is not None:
                _store(pending, item)
            elif item.language == "console":
                found += [
                    Run(one, run(one.command))
                    for one in exchanges(item.text, item.line)
                ]
            elif item.language == "python":
                text = _there(item.text)
                code = compile(text, f"{name_of(page)}:{item.line}", "exec")
                exec(code, names)  # noqa: S102  (that is the point)
            pending = None
    return found


def _prepare(item: Item, page: Path, servers: contextlib.ExitStack) -> Item | None:
    if item.kind == "package":
        description = copy_package(item.text, Path.cwd()) / "margo.yaml"
        description.write_text(_there(description.read_text("utf-8")), "utf-8")
    elif item.kind == "artifact":
        name, *words = item.text.split()
        make = image_index_layout if "platforms" in words else wasm_layout
        make(Path(name))
    elif item.kind == "registry":
        servers.enter_context(_registry(*item.text.split()))
    elif item.kind == "token":
        for name in item.text.split():
            token = servers.enter_context(soft_token(place_of().parent, name))
            shutil.copy(token.pin_file, f"{name}.pin")  # 0600, as it is
    elif item.kind == "run":
        for command in item.text.splitlines():
            printed = run(command)
            failed = bool(printed) and printed[-1].startswith("(exit status")
            assert not failed, f"{name_of(page)}:{item.line}: {command}\n" + "\n".join(
                printed
            )
    else:
        return item  # about the next block
    return None


@contextlib.contextmanager
def _registry(name: str, *words: str) -> Iterator[None]:
    """Run a registry that the page calls `name`; skips where none is installed."""
    with docker_registry(
        place_of().parent / name.replace(":", "-"),
        auth="basic" if "basic" in words else "none",
        tls="mutual" if "mutual" in words else "server" if "tls" in words else "none",
    ) as registry:
        if registry.authority is not None:
            shutil.copy(registry.authority.file, "plant-ca.pem")
        if registry.client is not None:
            shutil.copy(registry.client.certificate, "device.pem")
            shutil.copy(registry.client.key, "device.key")
        _HOSTS[name] = registry.host
        yield


def _store(comment: Item, block: Item) -> None:
    if comment.kind == "skip":
        return
    path = Path(comment.text)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a" if comment.kind == "append" else "w", encoding="utf-8") as file:
        file.write(_there(block.text))


def rewrite(page: Path) -> int:
    """Put what the commands print now where the page shows something; return how much.

    The same key ids and digests are then the same all over the page.
    """
    changed = [
        one
        for one in execute(page)
        if not one.agrees
        or not any(line.strip() == _ANY for line in one.exchange.shown)
    ]
    lines = page.read_text("utf-8").split("\n")
    for one in reversed(changed):
        first = one.exchange.line
        while lines[first - 1].endswith("\\"):
            first += 1
        lines[first : first + len(one.exchange.shown)] = one.printed
    page.write_text("\n".join(lines), "utf-8")
    return len(changed)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        written = rewrite(ROOT / argument)
        sys.stdout.write(f"{argument}: {written} outputs written\n")
