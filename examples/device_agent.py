# ruff: noqa: INP001  (a script to copy, not a package)
"""An agent for a device: keeps running what may run, and nothing else.

    python examples/device_agent.py --state /var/lib/margo --wanted wanted.toml

`--state` is what `margo-supplychain device init` made. `wanted.toml` says what shall
run:

    [[wanted]]
    name = "acme/pump-monitor"
    pin = "^1.0"
    slot = "line-1"

Copy it and replace `install` and `alarm`. Everything else is what an agent owes the
verifier: no means keep what runs and raise an alarm, "could not tell" means try again
with back-off, and a release is confirmed only when it runs.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
import tomllib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from margo_supplychain import (
    Control,
    Digest,
    FixedContent,
    FormatError,
    InconclusiveError,
    MirroredContent,
    MirrorMap,
    Network,
    Pin,
    Policy,
    RegistryAccess,
    ReleaseName,
    Report,
    SupplyChainError,
    TrustStore,
    VerificationError,
    VerifiedContent,
    VerifiedRelease,
    Verifier,
    open_mirrored_source,
    open_source,
)

if TYPE_CHECKING:
    from collections.abc import Callable

POLL = timedelta(minutes=15)
FIRST_WAIT = timedelta(seconds=30)
LONGEST_WAIT = timedelta(hours=1)
log = logging.getLogger("device-agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What shall run in a slot: a line of the owner's file, never of a deployment."""

    name: ReleaseName
    pin: Pin
    slot: str


def install(content: VerifiedContent, slot: str) -> None:
    """Install and start a release; here it is only read. The same twice is no harm.

    Take bytes from `content.open(digest)` and from nowhere else, and the images by the
    digests in `content.release.record.images`.
    """
    for digest in content.digests:
        with content.open(digest) as stream:
            while stream.read(1 << 20):
                pass
    log.info("%s: installed %s", slot, content.release.name)


def signed_as(release: VerifiedRelease) -> str:
    """Return what the release is: version, package, components and images, in one.

    The digest of the package alone says nothing of its components: the signed record
    names all of it by digest.
    """
    return str(Digest.of(release.record.to_bytes()))


def alarm(wanted: Wanted, code: str, report: Report | None, evidence: Path) -> None:
    """Tell somebody; here it is a log line and a file with the evidence."""
    log.error("%s: rejected [%s], keep what runs", wanted.name, code)
    if report is not None:
        name = f"{wanted.name.publisher}.{wanted.name.name}-{code}.json"
        (evidence / name).write_bytes(report.to_json())


class Agent:
    """Decides for all repositories of one device.

    Args:
        state: the device's directory.
        wanted: what shall run.
    """

    def __init__(self, state: Path, wanted: tuple[Wanted, ...]) -> None:
        self._state = state
        self._wanted = wanted
        self._evidence = state / "evidence"
        self._evidence.mkdir(exist_ok=True)
        self._installed = state / "installed"
        self._verifiers = {}
        self._running: dict[tuple[ReleaseName, str], Digest] = {}
        for store, verifier in _verifiers(state):
            status = store.status()
            self._verifiers.update(dict.fromkeys(status.publishers, verifier))
            for slot, floors in status.slots.items():
                for name, floor in floors.items():
                    self._running[name, slot] = floor.artifact
        for one in wanted:
            if one.name.publisher not in self._verifiers:
                raise FormatError(f"no repository here speaks for {one.name.publisher}")

    def poll(self) -> bool:
        """Look once at everything; False if something could not be decided."""
        decided = True
        for wanted in self._wanted:
            try:
                self._bring(wanted)
            except VerificationError as why:  # the answer is no
                alarm(wanted, why.code, why.report, self._evidence)
            except InconclusiveError as why:  # could not tell
                log.warning("%s: %s (%s)", wanted.name, why, why.hint)
                decided = False
            self._look_after(wanted)
        return decided

    def _bring(self, wanted: Wanted) -> None:
        verifier = self._verifiers[wanted.name.publisher]
        control = Control(deadline=timedelta(hours=1), max_bytes=20 << 30)
        release = verifier.verify(
            wanted.name, wanted.pin, slot=wanted.slot, control=control
        )
        digest = release.manifest.digest
        signed = signed_as(release)
        memo = self._installed / wanted.slot / wanted.name.role
        same = self._running.get((wanted.name, wanted.slot)) == digest
        if same and memo.is_file() and memo.read_text() == signed:
            return
        staging = self._state / "staging" / wanted.slot
        content = verifier.fetch(release, staging, control=control)
        install(content, wanted.slot)
        # Only now does the floor rise: had it not started, the old one could come back.
        verifier.confirm_running(digest, slot=wanted.slot)
        memo.parent.mkdir(parents=True, exist_ok=True)
        memo.write_text(signed)
        self._running[wanted.name, wanted.slot] = digest
        log.info("%s: runs %s %s", wanted.slot, wanted.name, release.version)

    def _look_after(self, wanted: Wanted) -> None:
        """Ask whether what runs may go on; needs no network and no clock."""
        digest = self._running.get((wanted.name, wanted.slot))
        if digest is None:
            return
        report = self._verifiers[wanted.name.publisher].check_installed(digest)
        if report.verdict != "verified":
            alarm(wanted, f"running-{report.code}", report, self._evidence)

    def run(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Poll for ever; back off while something could not be decided."""
        wait = FIRST_WAIT
        while True:
            if self.poll():
                wait, pause = FIRST_WAIT, POLL
            else:
                wait, pause = min(wait * 2, LONGEST_WAIT), wait
            # A plant's devices must not all come back in the same second.
            sleep(pause.total_seconds() * random.uniform(0.8, 1.2))  # noqa: S311 - jitter is no secret


def _verifiers(state: Path) -> list[tuple[TrustStore, Verifier]]:
    """Return each store with its verifier, from `device.toml` and what lies beside."""
    data = (state / "device.toml").read_bytes()
    settings = tomllib.loads(data.decode())
    policy = Policy.from_toml(data)
    mirrors = MirrorMap(
        {
            prefix: [_located(state, one) for one in places]
            for prefix, places in settings.get("mirrors", {}).items()
        }
    )
    registries = settings.get("registry", {})
    network = Network(
        registries={host: _access(state, table) for host, table in registries.items()}
    )
    found = []
    for name, table in settings["repository"].items():
        store = TrustStore.open(state / "stores" / name)
        where = _located(state, table["source"])
        source = open_mirrored_source(where, mirrors, network=network)
        named = [
            open_source(_located(state, one), network=network)
            for one in table.get("content", [])
        ]
        # Else where the releases say, through the mirrors. A registry has repositories
        # for content; of everything else, what lies beside the metadata is first.
        beside = [] if where.startswith("oci://") else [source]
        content: FixedContent | MirroredContent = (
            FixedContent(named)
            if named
            else MirroredContent(
                mirrors, network=network, before=beside, trust=source.url
            )
        )
        verifier = Verifier(store=store, source=source, content=content, policy=policy)
        found.append((store, verifier))
    return found


def _access(state: Path, table: dict[str, Any]) -> RegistryAccess:
    """Return what a table `[registry."HOST"]` says."""
    files = ("ca_file", "certificate", "private_key")
    return RegistryAccess(
        **{
            name: state / value if name in files else value
            for name, value in table.items()
        }
    )


def _located(state: Path, place: str) -> str:
    """Return a URL as it is, a path from where `device.toml` lies."""
    kind, colon, path = place.rpartition(":")
    if kind in ("", "oci-layout", "oci-archive"):
        return f"{kind}{colon}{state / path}"
    return place


def read_wanted(path: Path) -> tuple[Wanted, ...]:
    """Read what shall run."""
    tables = tomllib.loads(path.read_text("utf-8")).get("wanted", [])
    if not tables:
        raise FormatError(f"{path} wants nothing")
    return tuple(
        Wanted(
            name=ReleaseName.parse(table["name"]),
            pin=Pin.parse_argument(table["pin"]),
            slot=table.get("slot", "default"),
        )
        for table in tables
    )


def main() -> int:
    """Run the agent; an exit status like the command line's."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--wanted", type=Path, required=True)
    parser.add_argument("--once", action="store_true", help="poll once and end")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        agent = Agent(arguments.state, read_wanted(arguments.wanted))
        if arguments.once:
            return 0 if agent.poll() else 4
        agent.run()
    except SupplyChainError as why:
        log.error("%s [%s]; %s", why, why.code, why.hint)  # noqa: TRY400 - the reason is in the text
        return why.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
