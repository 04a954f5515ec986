"""`repo push` and `repo mirror`: releases with their trust metadata, elsewhere too."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from margo_supplychain.cli import describe
from margo_supplychain.cli.arguments import PIN_HINT, RELEASE_NAME, typed
from margo_supplychain.cli.author import open_memory, reads, warn
from margo_supplychain.cli.failures import hinted
from margo_supplychain.cli.files import read_named
from margo_supplychain.cli.invocation import Invocation, pass_invocation
from margo_supplychain.cli.options import epilog
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.places import check_target
from margo_supplychain.cli.progress import progress
from margo_supplychain.errors import (
    IncompleteError,
    RefusedError,
    UnknownTargetError,
)
from margo_supplychain.formats.toml import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from margo_supplychain.authoring.copying import Copied
    from margo_supplychain.authoring.selection import Selection
    from margo_supplychain.cli.author import Author
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.verify.trust_store import TrustStore

_AGAIN: Final = (
    "check the addresses and the network, then run it again: only what is missing "
    "travels"
)


def selects(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command `--name` and `--pin`."""
    named = click.option(
        "--name",
        "names",
        type=RELEASE_NAME,
        multiple=True,
        metavar="PUBLISHER/NAME",
        help="Content of this application alone; may be repeated.",
    )
    pinned = click.option(
        "--pin",
        metavar="RANGE",
        help="Content of these versions alone, such as '^1.2'.",
    )
    return named(pinned(command))


def selection(names: tuple[ReleaseName, ...], pin: str | None) -> Selection:
    """Return what `--name` and `--pin` ask for."""
    from margo_supplychain.authoring.selection import Selection
    from margo_supplychain.formats.pins import Pin

    with typed(PIN_HINT):
        return Selection(
            names=frozenset(names),
            pin=None if pin is None else Pin.parse_argument(pin),
        )


@click.command(
    epilog=epilog(
        examples=[
            "repo push oci://registry.example/acme/trust",
            "repo push /srv/www/trust --name acme/pump-monitor",
        ],
        exits=[0, 2, 3, 4, 5],
        follow="repo check oci://registry.example/acme/trust",
    )
)
@click.argument("target", metavar="TO")
@selects
@reads
def push(
    author: Author, *, target: str, names: tuple[ReleaseName, ...], pin: str | None
) -> Result:
    """Copy your repository, with content, to a registry, directory, layout or tar.

    TO is oci://HOST/PATH, DIR, oci-layout:DIR or oci-archive:FILE. Only what is missing
    travels; run it again after each change, or after it broke off. A release whose
    content can't be had is left out, which is exit status 5.
    """
    # A repository that is not there is found before anything else.
    check_target(target)
    origin, trust = author.open().url, author.trust()
    with author.explained():
        select = selection(names, pin)
        return _copy(author.invocation, origin, target, trust, select, follow="")


@click.command(
    epilog=epilog(
        examples=[
            (
                "repo mirror oci://registry.example/acme/trust "
                "oci://mirror.plant:5000/acme/trust --root root.json"
            ),
            "repo mirror trust oci-archive:stick.tar --root root.json --pin '^1.2'",
        ],
        exits=[0, 2, 3, 4, 5],
        follow="device fetch NAME --pin RANGE --source TO",
    )
)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option(
    "--root",
    metavar="FILE",
    help="A root of FROM that you got from somebody you trust; begins --state.",
)
@click.option(
    "--state",
    metavar="DIR",
    help="Your memory of FROM: it notices an old copy.",
)
@selects
@pass_invocation
def mirror(
    invocation: Invocation,
    *,
    source: str,
    target: str,
    root: str | None,
    state: str | None,
    names: tuple[ReleaseName, ...],
    pin: str | None,
) -> Result:
    """Copy somebody's repository, with content, and verify it on the way.

    FROM and TO are oci://HOST/PATH, DIR, oci-layout:DIR or oci-archive:FILE, and FROM
    also https://…. Trust metadata is always whole; --name and --pin narrow the content.
    A release whose content can't be had is left out, which is exit status 5.
    """
    check_target(target)
    trust = _trust(invocation, source, root, state)
    follow = f" --root {root}" if state is None else f" --state {state}"
    select = selection(names, pin)
    return _copy(invocation, source, target, trust, select, follow=follow)


def _trust(
    invocation: Invocation, source: str, root: str | None, state: str | None
) -> TrustStore:
    """Return what the source is believed from."""
    from margo_supplychain.verify.limits import Limits
    from margo_supplychain.verify.trust_store import TrustStore

    if root is None and state is None:
        raise click.UsageError("give --root FILE or --state DIR: who is believed?")
    if state is not None and (root is None or Path(state).exists()):
        return open_memory(Path(state))
    data = read_named(Path(root or ""), limit=Limits().root, what="a root")
    if state is None:
        return TrustStore.unsafe_without_memory(root=data)
    publishers = _publishers(invocation, source, data)
    made = TrustStore.create(Path(state), root=data, publishers=publishers)
    invocation.note(f"began {state} from {root}: from now on --state {state} is enough")
    return made


def _publishers(invocation: Invocation, source: str, root: bytes) -> frozenset[str]:
    """Return whom a repository speaks for, as its verified metadata says.

    Raises:
        VerificationError, FetchError: it is not what the root says, or not there.
        RefusedError: nobody yet.
    """
    from datetime import UTC

    from margo_supplychain.authoring.settings import signed_publishers
    from margo_supplychain.authoring.state import load
    from margo_supplychain.transport.opening import open_source
    from margo_supplychain.verify.clock import StoppedClock

    origin = open_source(source, network=invocation.settings.registries.network)
    now = StoppedClock(describe.now().astimezone(UTC))
    with hinted(_AGAIN):
        found = signed_publishers(load(origin, first_root=root, store=None, clock=now))
    if not found:
        raise RefusedError(
            f"{source} speaks for no publisher yet: there is nothing to remember",
            hint="copy it with --root alone, or when it has a publisher",
        )
    return frozenset(found)


def _copy(
    invocation: Invocation,
    source: str,
    target: str,
    trust: TrustStore,
    select: Selection,
    *,
    follow: str,
) -> Result:
    """Copy; `follow` are the options of the `repo check` that comes next."""
    from margo_supplychain.authoring.copying import LONG, copy_releases
    from margo_supplychain.authoring.shelves import open_shelf
    from margo_supplychain.transport.mirrors import MirroredContent
    from margo_supplychain.transport.opening import open_sink, open_source

    mirrors, network = invocation.settings.registries
    origin = open_source(source, network=network)
    with (
        hinted(_AGAIN),
        _named_there(source),
        progress(invocation) as tell,
        open_shelf(target, network=network) as shelf,
    ):
        done = copy_releases(
            origin,
            shelf,
            trust=trust,
            content=MirroredContent(mirrors, network=network, trust=origin.url),
            select=select,
            open_repository=lambda url: open_sink(url, network=network),
            mirrored=mirrors.places,
            control=LONG._replace(progress=tell),
        )
        at = shelf.url
    warn(invocation, done.warnings)
    for name in sorted(map(str, select.names)):
        follow += f" --name {name}"
    if select.pin is not None:
        follow += f" --pin '{select.pin}'"
    lines = _lines(origin.url, at, done)
    lines.append(f"next: margo-supplychain repo check {at}{follow}")
    return Result(
        data=_data(origin.url, at, done),
        lines=lines,
        exit_status=IncompleteError.exit_status if done.incomplete else 0,
    )


@contextmanager
def _named_there(source: str) -> Iterator[None]:
    """Say what helps who named an application that is not there."""
    try:
        yield
    except UnknownTargetError as why:
        why.hint = f"check --name: {source} has no such application; nothing was copied"
        raise


def _lines(source: str, target: str, done: Copied) -> list[str]:
    now = describe.now()
    verb = f"copied {source} to" if done.changed else f"nothing new in {source} for"
    if done.incomplete:
        verb = f"incomplete: {verb}"
    content = f"{done.releases} of {describe.counted(done.listed, 'release')}"
    if done.withdrawn:
        content += f", {done.withdrawn} withdrawn"
    if done.incomplete:
        content += f", {len(done.incomplete)} left out"
    rows = [
        (
            "metadata",
            (
                f"root v{done.root}, snapshot v{done.snapshot}, timestamp "
                f"v{done.timestamp}: {describe.counted(done.files_new, 'file')} new, "
                f"{done.files_there} already there"
            ),
        ),
        (
            "content",
            (
                f"{content}: {describe.counted(done.blobs_new, 'blob')} new "
                f"({describe.size(done.size)}), {done.blobs_there} already there"
            ),
        ),
        *([("images", _images(done.images))] if done.images else []),
        (
            "fresh",
            (
                f"until {describe.moment(done.fresh_until)}, "
                f"{describe.distance(done.fresh_until, at=now)}: copy it again before"
            ),
        ),
    ]
    return [f"{verb} {target}", *describe.table(rows), *_told(done)]


def _images(number: int) -> str:
    verb = "is" if number == 1 else "are"
    counted = describe.counted(number, "container image")
    return f"{counted} {verb} not part of the copy"


def _told(done: Copied) -> list[str]:
    """Return what devices must be told, as device.toml has it."""
    lines = []
    if done.mirrors:
        lines += ["devices find it there with this in device.toml:", "  [mirrors]"]
        for prefix, places in done.mirrors.items():
            listed = ", ".join(quoted(_absolute(one)) for one in places)
            lines.append(f"  {quoted(prefix)} = [{listed}]")
    return lines


def _absolute(place: str) -> str:
    from margo_supplychain.cli.registry_settings import locate

    return locate(place, Path.cwd())


def _data(source: str, target: str, done: Copied) -> dict[str, Any]:
    return {
        "from": source,
        "to": target,
        "changed": done.changed,
        "root": done.root,
        "snapshot": done.snapshot,
        "timestamp": done.timestamp,
        "freshUntil": done.fresh_until,
        "releases": {
            "listed": done.listed,
            "withContent": done.releases,
            "incomplete": list(done.incomplete),
            "withdrawn": done.withdrawn,
        },
        "imagesNotCopied": done.images,
        "files": {"new": done.files_new, "there": done.files_there},
        "blobs": {
            "new": done.blobs_new,
            "there": done.blobs_there,
            "newBytes": done.size,
        },
        "mirrors": {
            prefix: [_absolute(one) for one in places]
            for prefix, places in done.mirrors.items()
        },
        "warnings": list(done.warnings),
    }
