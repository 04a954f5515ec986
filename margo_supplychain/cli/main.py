"""The entry point: global options, lazily loaded commands, exit statuses.

`main` is the one place that turns exceptions into words and an exit status; nothing
else in the product ends the process. A noun's module is imported only when the noun is
used, so `device verify` pays for nothing but itself.
"""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, final

import click

from margo_supplychain.cli.failures import (
    INTERRUPTED,
    PROGRAM,
    Failure,
    failure_of,
)
from margo_supplychain.cli.invocation import Invocation
from margo_supplychain.cli.output import Result, write_failure, write_result
from margo_supplychain.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# noun: (where its command is, its line in --help). A noun is added here, no more.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "key": ("margo_supplychain.cli.key:key", "make, show and import keys"),
    "repo": ("margo_supplychain.cli.repo:repo", "make and look after a repository"),
    "publisher": (
        "margo_supplychain.cli.publisher:publisher",
        "say who may publish in it",
    ),
    "app": (
        "margo_supplychain.cli.app:app",
        "say who releases an application, and what is demanded",
    ),
    "root": (
        "margo_supplychain.cli.root:root",
        "change who signs what, several people apart",
    ),
    "layout": (
        "margo_supplychain.cli.layout:layout",
        "say which steps make a release, and who does them",
    ),
    "attest": (
        "margo_supplychain.cli.attest:attest",
        "record what a step did; bind documents to a release",
    ),
    "release": (
        "margo_supplychain.cli.release:release",
        "build, publish and withdraw releases",
    ),
    "device": (
        "margo_supplychain.cli.device:device",
        "decide what may run on this device",
    ),
}
_COLLECT_AFTER: Final = 100_000  # objects; Python's own 700 suit a server
_COMPLETION: Final = "_MARGO_SUPPLYCHAIN_COMPLETE"


@final
class _LazyGroup(click.Group):
    """Knows its commands by name and imports the one that is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click gives it
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click gives it
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is not a command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, 1)
            if near:
                ctx.fail(f"no such command {name!r:.80}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click gives it
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


class _Answered(Exception):  # noqa: N818  (not an error: `--version` has its answer)
    def __init__(self, result: Result) -> None:
        super().__init__()
        self.result = result


def _show_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        lines = [f"{PROGRAM} {__version__}"]
        raise _Answered(Result(data={"version": __version__}, lines=lines))


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "\b\nExit status: 0 done or verified, 1 internal error or interrupted,\n"
        "2 usage or bad local input, 3 rejected, 4 inconclusive, 5 incomplete,\n"
        "6 signer. Only 0 means install.\n\n"
        f'\b\nShell completion:  eval "$({_COMPLETION}=bash_source {PROGRAM})"\n'
        "(zsh_source, fish_source)"
    ),
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Print the result for people, or as one JSON document (also on failure).",
)
@click.option("-v", "--verbose", is_flag=True, help="Say more: settings, tracebacks.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but result and errors.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Print the version.",
)
@click.pass_obj
def cli(invocation: Invocation, form: str, verbose: bool, quiet: bool) -> None:
    """Sign, publish and verify Margo application packages."""
    if verbose and quiet:
        raise click.UsageError("-v and -q contradict each other")
    invocation.form = form
    invocation.verbosity = 1 if verbose else -1 if quiet else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    if arguments is None:
        _own_the_process()
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks must not end the program.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    invocation = Invocation(form=_wanted_form(given))
    try:
        outcome = _run(given, invocation)
        invocation.end_progress()
        return _print(outcome, invocation.form)
    except KeyboardInterrupt:
        return INTERRUPTED.exit_status
    finally:
        _flush_stderr()


def _own_the_process() -> None:
    # A command lives for a moment: collecting garbage while modules load, and again
    # while the interpreter ends, is a fifth of what `device verify` costs.
    gc.set_threshold(_COLLECT_AFTER)
    atexit.register(gc.freeze)


def _run(arguments: list[str], invocation: Invocation) -> Result | Failure | int:
    try:
        if _COMPLETION in os.environ:
            cli.main(arguments, prog_name=PROGRAM, complete_var=_COMPLETION)
        # Not cli.main: it takes a connection's EPIPE for a closed stdout and exits.
        with cli.make_context(PROGRAM, arguments, obj=invocation) as context:
            outcome: Any = cli.invoke(context)
        if not isinstance(outcome, Result):
            raise TypeError(f"a command returned {type(outcome).__name__}")
        return outcome
    except _Answered as answered:
        return answered.result
    except click.exceptions.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  (the one place that may)
        failure = failure_of(error)
        if failure.code == "internal" and invocation.verbosity > 0:
            import traceback

            with suppress(OSError):
                traceback.print_exc()
        return failure


def _print(outcome: Result | Failure | int, form: str) -> int:
    if isinstance(outcome, int):
        return outcome
    try:
        if isinstance(outcome, Result):
            write_result(outcome, form=form)
        else:
            write_failure(outcome, form=form)
    except BrokenPipeError:
        # The reader left before it had the answer: not a success. Nothing more is
        # written, also not by the interpreter as it ends.
        _close_stdout()
        return 1
    except OSError as why:
        _close_stdout()
        failure = failure_of(OSError(why.errno, why.strerror, "standard output"))
        write_failure(failure, form="text")
        return failure.exit_status
    return outcome.exit_status


def _flush_stderr() -> None:
    """Leave nothing to be written that the interpreter would fail with as it ends."""
    try:
        if sys.stderr is not None and not sys.stderr.closed:
            sys.stderr.flush()
    except OSError:
        _lead_nowhere(2)


def _close_stdout() -> None:
    _lead_nowhere(1)


def _lead_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _wanted_form(arguments: Sequence[str]) -> str:
    """Return the wanted form, also when the rest is wrong and click never says it."""
    form = "text"
    for position, each in enumerate(arguments):
        if each in COMMANDS or each == "--":
            break
        name, divided, value = each.partition("=")
        if name == "--format":
            following = arguments[position + 1 : position + 2]
            form = value if divided else "".join(following)
    return "json" if form == "json" else "text"
