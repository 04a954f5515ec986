"""1,000 applications with 100 releases each: one more release costs what it touches."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import TargetFile

from margo_supplychain.authoring.plan import RootPlan
from margo_supplychain.authoring.repository import Repository
from margo_supplychain.authoring.testing import artifact_release
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.names import ReleaseName, TargetPath
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.release_entry import ReleaseEntry
from margo_supplychain.signing.files import generate, open_signer
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.transport.opening import FixedContent
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.authoring.trust import DEVICE_POLICY, OPEN

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from securesystemslib.signer import Signer

    from margo_supplychain.authoring.work import Work

PROGRAM: Final = "from margo_supplychain.cli.main import main; raise SystemExit(main())"
ROOT: Final = Path(__file__).resolve().parent.parent.parent
WORDS: Final = "correct horse battery staple"
NAME: Final = ReleaseName("acme", "app-0003")
RUNS: Final = 2


class Cost(NamedTuple):
    clock: float
    processor: float


class Place:
    """A repository of `applications` with `releases` each, and its key files."""

    def __init__(self, directory: Path, applications: int, releases: int) -> None:
        self.directory = directory
        directory.mkdir()
        for name in ("offline", "online", "release"):
            generate(
                directory / f"{name}.key",
                scheme="ecdsa-sha2-nistp256",
                passphrase=WORDS,
            )
        self.words = directory / "words"
        self.words.write_text(WORDS + "\n")
        self.words.chmod(0o600)
        self._fill(applications, releases)

    def _signer(self, name: str) -> Signer:
        return open_signer(self.directory / f"{name}.key", passphrase=WORDS)

    def _fill(self, applications: int, releases: int) -> None:
        offline, online = self._signer("offline"), self._signer("online")
        plan = RootPlan.small(
            publisher="acme", offline=offline.public_key, online=online.public_key
        )
        trust = self.directory / "trust"
        self.repository = Repository.create(trust, plan=plan, keys=[offline, online])
        names = [ReleaseName("acme", f"app-{one:04}") for one in range(applications)]
        own: dict[ReleaseName, Signer] = {
            name: CryptoSigner.generate_ecdsa() for name in names
        }
        own[NAME] = self._signer("release")
        with self.repository.edit([offline, online, *own.values()]) as edit:
            for number, name in enumerate(names):
                edit.add_application(name, [own[name].public_key], policy=OPEN)
                _list(edit._work, name, number, releases)
        for number, name in enumerate(names):
            place = trust / "targets/acme/releases" / name.name
            place.mkdir(parents=True)
            for one in range(releases):
                digest = _digest(number, one)
                (place / f"{digest.hex}.1.{one}.0").touch()

    def publish(self, number: int) -> Cost:
        """Publish one more release by the command line; return what it cost."""
        built = self.directory / f"built-{number}"
        content = os.urandom(64)
        release = artifact_release(
            built, name=NAME, version=f"9.{number}.0", content=content
        )
        command = [
            *(sys.executable, "-c", PROGRAM, "release", "adopt"),
            f"{built}@{release.artifact.digest}",
            *("--name", str(NAME), "--version", str(release.version)),
            *("--repo", str(self.directory / "trust")),
            *("--key", str(self.directory / "release.key")),
            *("--key", str(self.directory / "online.key")),
            *("--passphrase-file", str(self.words)),
        ]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run(
            command, check=True, capture_output=True, env={"PYTHONPATH": str(ROOT)}
        )
        clock = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Cost(
            clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        )


def _digest(number: int, release: int) -> Digest:
    return Digest("sha256", f"{number * 1000 + release:064x}")


def _list(work: Work, name: ReleaseName, number: int, releases: int) -> None:
    """List releases whose records nobody reads here."""
    targets = work.changes.change(name.role).targets
    for one in range(releases):
        digest = _digest(number, one)
        path = name.release_path(f"1.{one}.0")
        custom = ReleaseEntry(artifact=digest).to_custom()
        targets[path] = TargetFile(
            500, {"sha256": digest.hex}, path, {"custom": custom}
        )


class CountingSource:
    """Says what was asked for."""

    def __init__(self, directory: Path) -> None:
        self._inner = DirectorySource(directory)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return self._inner.url

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        data = self._inner.metadata(filename, limit=limit, tick=tick)
        self.asked.append(filename)
        return data

    def target(
        self,
        path: TargetPath,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[BinaryIO]:
        return self._inner.target(path, what, start=start, tick=tick)

    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> AbstractContextManager[BinaryIO]:
        return self._inner.blob(what, start=start, tick=tick)


def test_one_more_release(tmp_path: Path) -> None:
    """A device with the previous state fetches timestamp, snapshot and one role.

    `tests/benchmarks/scale.py` measures what publishing costs.
    """
    large = Place(tmp_path / "large", 60, 5)
    trust = tmp_path / "large" / "trust"
    source = CountingSource(trust)
    device = Verifier(
        store=TrustStore.create(
            tmp_path / "state",
            root=large.repository.root,
            publishers=frozenset({"acme"}),
        ),
        source=source,
        content=FixedContent([DirectorySource(trust)]),
        policy=DEVICE_POLICY,
    )
    for number in range(RUNS):
        large.publish(number)
        if number == 0:
            device.verify(NAME, Pin.range("^9", grammar="npm"))
            source.asked.clear()
    newest = RUNS - 1
    release = device.verify(NAME, Pin.range("^9", grammar="npm"))
    assert str(release.version) == f"9.{newest}.0"
    first = 2  # creation made snapshot v1, filling it v2
    assert source.asked == [
        "timestamp.json",
        f"{first + RUNS}.snapshot.json",
        f"{1 + RUNS}.acme.app-0003.json",
    ]
