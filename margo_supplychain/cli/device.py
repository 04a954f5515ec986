"""`margo-supplychain device`: may exactly this software run here?

Everything that a command needs is imported when it runs: a device pays for each start.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from margo_supplychain.cli.arguments import PLATFORM
from margo_supplychain.cli.invocation import Invocation, pass_invocation
from margo_supplychain.cli.options import epilog, setting_option
from margo_supplychain.cli.output import Result

if TYPE_CHECKING:
    from margo_supplychain.cli.device_directory import DeviceDirectory
    from margo_supplychain.cli.device_request import Request
    from margo_supplychain.cli.device_watch import Watch

_state_option = setting_option(
    "state",
    required=False,
    device=True,
    help="The device's directory; default: this one, if it holds device.toml.",
)
_source_option = setting_option(
    "source",
    required=False,
    device=True,
    help="Where the repository is, instead of device.toml's.",
)
_policy_option = setting_option(
    "policy",
    required=False,
    device=True,
    help="The owner's policy, instead of device.toml.",
)
_slot_option = click.option(
    "--slot", default="default", show_default=True, help="Which instance runs it here."
)
_pin_option = click.option(
    "--pin",
    required=True,
    help="Versions agreed to: 1.2.0, 1.2.0@sha256:…, or an npm range such as '^1.0'.",
)
_explain_option = click.option(
    "--explain", is_flag=True, help="Say what each step of the verification found."
)
_summary_option = click.option(
    "--summary",
    metavar="FILE",
    help="A verification summary, for a policy that takes one for the provenance.",
)


@click.group()
def device() -> None:
    """Decide what may run on this device, and remember it."""


@device.command(
    epilog=epilog(
        examples=[
            "device init --root trust/metadata/1.root.json --publisher acme --state .",
            (
                "device init --root-sha256 71c5… --source https://updates.example/acme "
                "--publisher acme --state /var/lib/margo"
            ),
        ],
        exits=[0, 2, 3, 4],
        follow="device verify acme/pump-monitor --pin '^1.0'",
    )
)
@click.option("--root", metavar="FILE", help="A root file that arrived out of band.")
@click.option(
    "--root-sha256",
    metavar="HEX",
    help="Digest of 1.root.json that arrived out of band; the file is fetched.",
)
@click.option(
    "--source",
    metavar="URL",
    help="Where the repository is; default: where --root lies in one.",
)
@click.option(
    "--publisher",
    "publishers",
    multiple=True,
    required=True,
    help="Whom the repository may speak for; may be repeated.",
)
@click.option("--name", help="What this device calls it; default: the first publisher.")
@_state_option
@pass_invocation
def init(
    invocation: Invocation,
    /,
    *,
    root: str | None,
    root_sha256: str | None,
    source: str | None,
    publishers: tuple[str, ...],
    name: str | None,
    state: str | None,
) -> Result:
    """Trust a repository, by a root that arrived out of band."""
    from margo_supplychain.cli import device_init
    from margo_supplychain.formats.digests import Digest

    directory = _directory(state)
    if (root is None) == (root_sha256 is None):
        raise click.UsageError("give either --root or --root-sha256")
    if source is None and root is not None:
        source = device_init.source_beside(Path(root))
    if not source:
        raise click.UsageError(
            "--source is missing, and --root lies in no repository that gives it"
        )
    said = device_init.check_source(source)
    if root is not None:
        data = device_init.root_from_file(Path(root))
    else:
        data = device_init.root_from_source(directory, source, root_sha256 or "")
    chosen = name or publishers[0]
    if said is not None:
        invocation.note(said)
    made = device_init.initialise(
        directory,
        root=data,
        source=source,
        publishers=frozenset(publishers),
        name=chosen,
    )
    digest = Digest.of(data)
    named = ", ".join(sorted(set(publishers)))
    policy = ", ".join(made.policies) or "nothing added"
    return Result(
        data={
            "repository": chosen,
            "publishers": sorted(set(publishers)),
            "root": {"version": made.root, "digest": str(digest)},
            "source": source,
            "store": str(made.store),
            "file": str(made.file),
            "policies": list(made.policies),
        },
        lines=[
            f"trusted {chosen}: root v{made.root}, for {named}",
            f"  root    {digest}",
            f"  source  {source}",
            f"  store   {made.store}",
            f"  policy  {made.file}: {policy}",
            (
                f"next: margo-supplychain device verify {publishers[0]}/NAME "
                f"--pin '^1.0'{_state_again(state)}"
            ),
        ],
    )


@device.command(
    epilog=epilog(
        examples=[
            "device refresh",
            "device refresh acme --source oci-archive:/media/stick/acme.tar",
        ],
        exits=[0, 2, 3, 4],
        follow="device verify acme/pump-monitor --pin '^1.0'",
    )
)
@click.argument("repositories", nargs=-1, metavar="[REPOSITORY]…")
@_source_option
@_state_option
@pass_invocation
def refresh(
    invocation: Invocation,
    *,
    repositories: tuple[str, ...],
    source: str | None,
    state: str | None,
) -> Result:
    """Bring the trust metadata of every repository up to date.

    --source is where one repository is: name it, if there are several. One that is out
    of reach has not been refreshed: exit status 4, and what was known stays.
    """
    from margo_supplychain.cli.device_refresh import refresh_all
    from margo_supplychain.cli.device_watch import Watch

    return refresh_all(
        _device(state),
        repositories,
        source=source,
        watch=Watch(invocation),
        note=invocation.note,
    )


@device.command(
    epilog=epilog(
        examples=[
            "device verify acme/pump-monitor --pin '^1.0'",
            "--format json device verify acme/pump-monitor --pin 1.2.0 --slot line-2",
            "device verify acme/pump-monitor --pin 1.2.0 --explain-to chain.svg",
        ],
        exits=[0, 2, 3, 4],
        follow="device fetch acme/pump-monitor --pin '^1.0' --to staging",
    )
)
@click.argument("name")
@_pin_option
@_slot_option
@_source_option
@_policy_option
@_explain_option
@click.option(
    "--explain-to",
    metavar="FILE",
    help="Write how the provenance was judged, for yes and for no: .json, .dot, .svg.",
)
@_summary_option
@click.option(
    "--vsa",
    metavar="FILE",
    help="Write a verification summary of this answer, for `attest add` to sign.",
)
@_state_option
@pass_invocation
def verify(
    invocation: Invocation,
    /,
    *,
    name: str,
    pin: str,
    explain_to: str | None,
    vsa: str | None,
    **options: Any,
) -> Result:
    """Say whether a release of NAME inside the pin may run here now."""
    from margo_supplychain.cli.device_evidence import data_of, lines_of
    from margo_supplychain.cli.device_files import AnswerFiles

    files = AnswerFiles(explain_to, vsa, read=(options["summary"], options["policy"]))
    request = _request(invocation, name, pin, options)
    with files.written(invocation) as answers:
        checked = request.verify()
        answers.append(checked.release.report)
    return Result(
        data=data_of(checked.release, request.pin, checked.repository),
        lines=[
            *lines_of(checked.release, request.pin, explain=request.explain),
            *files.said,
        ],
    )


@device.command(
    epilog=epilog(
        examples=[
            "device fetch acme/pump-monitor --pin '^1.0' --to staging",
            (
                "device fetch acme/pump-monitor --pin 1.2.0 --to staging --platform "
                "linux/arm64"
            ),
            "--format json device fetch acme/pump-monitor --pin 1.2.0 --to staging",
        ],
        exits=[0, 2, 3, 4],
        follow="device confirm acme/pump-monitor  (once it runs)",
    )
)
@click.argument("name")
@_pin_option
@click.option("--to", required=True, metavar="DIR", help="OCI image layout to fill.")
@click.option(
    "--platform",
    "platforms",
    type=PLATFORM,
    multiple=True,
    metavar="OS/ARCH",
    help="Of image indexes, this platform alone, such as linux/arm64; may be repeated.",
)
@_slot_option
@_source_option
@_policy_option
@_explain_option
@_summary_option
@_state_option
@pass_invocation
def fetch(
    invocation: Invocation,
    /,
    *,
    name: str,
    pin: str,
    to: str,
    platforms: tuple[str, ...],
    **options: Any,
) -> Result:
    """Verify a release and fetch every byte of it."""
    from margo_supplychain.cli.device_content import data_of, lines_of

    if (Path(to) / "metadata").is_dir():
        raise click.UsageError(
            f"--to {to} holds a trust repository: fetch into a directory of its own"
        )
    request = _request(invocation, name, pin, options)
    checked = request.verify()
    content = request.fetch(checked, Path(to), frozenset(platforms) or None)
    served = request.served
    for one in served:
        invocation.detail(f"content came from {one}")
    return Result(
        data=data_of(content, served),
        lines=lines_of(
            content,
            served,
            explain=request.explain,
            options=_state_again(options["state"]),
        ),
    )


@device.command(
    epilog=epilog(
        examples=[
            "device confirm acme/pump-monitor",
            "device confirm sha256:0efd1feea313… --slot line-2",
        ],
        exits=[0, 2, 3, 4],
        follow="device status",
    )
)
@click.argument("what", metavar="NAME|DIGEST")
@_slot_option
@_state_option
def confirm(*, what: str, slot: str, state: str | None) -> Result:
    """Say that a fetched release runs: nothing older may be installed from now on."""
    from margo_supplychain.cli.device_confirm import confirm_running

    return confirm_running(_device(state), what, slot)


@device.command(
    epilog=epilog(
        examples=["device status", "--format json device status --state device"],
        exits=[0, 2, 4],
        follow="device refresh",
    )
)
@_state_option
def status(*, state: str | None) -> Result:
    """Show what this device trusts and remembers; asks nobody."""
    from margo_supplychain.cli.device_status import show

    return show(_device(state))


def _directory(state: str | None) -> Path:
    from margo_supplychain.cli.device_settings import FILE_NAME

    if state is not None:
        return Path(state)
    if not Path(FILE_NAME).is_file():
        raise click.UsageError(
            "--state is missing, MARGO_SUPPLYCHAIN_STATE does not give it, and this "
            f"directory holds no {FILE_NAME}"
        )
    return Path()


def _state_again(state: str | None) -> str:
    """Return what the next command needs to find the same device, if it was typed."""
    import shlex

    source = click.get_current_context().get_parameter_source("state")
    if state is None or source is not click.core.ParameterSource.COMMANDLINE:
        return ""
    return f" --state {shlex.quote(state)}"


def _device(state: str | None, watch: Watch | None = None) -> DeviceDirectory:
    from margo_supplychain.cli.device_directory import DeviceDirectory

    return DeviceDirectory(_directory(state), watch)


def _request(
    invocation: Invocation, name: str, pin: str, options: dict[str, Any]
) -> Request:
    from margo_supplychain.cli import arguments
    from margo_supplychain.cli.device_request import Request
    from margo_supplychain.cli.device_watch import Watch
    from margo_supplychain.formats.names import ReleaseName, slot_name
    from margo_supplychain.formats.pins import Pin

    watch = Watch(invocation)
    policy, summary = options["policy"], options["summary"]
    with arguments.typed(arguments.NAME_HINT):
        parsed = ReleaseName.parse(name)
    with arguments.typed(arguments.PIN_HINT):
        wanted = Pin.parse_argument(pin)
    with arguments.typed(arguments.SLOT_HINT):
        slot = slot_name(options["slot"])
    return Request(
        invocation,
        _device(options["state"], watch),
        watch,
        name=parsed,
        pin=wanted,
        slot=slot,
        source=options["source"],
        policy=None if policy is None else Path(policy),
        explain=options["explain"],
        summary=None if summary is None else Path(summary),
    )
