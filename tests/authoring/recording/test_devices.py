"""What is recorded is what devices take: a pipeline with git, a test and a release."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from securesystemslib.signer import CryptoSigner

from margo_supplychain.authoring.recording.kept import keep
from margo_supplychain.authoring.recording.links import Step
from margo_supplychain.authoring.recording.steps import Wishes, attest
from margo_supplychain.authoring.release import Release
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.dsse import PAYLOAD
from margo_supplychain.formats.release_products import DIRTY, release_products
from margo_supplychain.provenance.chain import (
    ChainResult,
    LinkFile,
    ReleaseFacts,
    verify_chain,
)
from margo_supplychain.provenance.in_toto_models import PlannedStep, layout_payload
from margo_supplychain.provenance.layouts import parse_layout
from tests.fixtures import copy_package

if TYPE_CHECKING:
    from pathlib import Path

    from securesystemslib.signer import Signer

NOW = datetime(2026, 11, 21, tzinfo=UTC)
EXPIRES = datetime(2027, 11, 21, tzinfo=UTC)
COPY = "import shutil; shutil.copytree('pump-monitor', 'package')"


def rules(*texts: str) -> list[list[str]]:
    return [one.split() for one in texts]


class Pipeline:
    """Sources in git, and a functionary for each of three steps."""

    def __init__(self, tmp_path: Path) -> None:
        self.place = tmp_path / "work"
        self.place.mkdir()
        copy_package("pump-monitor", self.place)
        for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
            self.git(*command)
        self.keys = {
            name: CryptoSigner.generate_ecdsa() for name in ("build", "test", "package")
        }
        self.links: list[LinkFile] = []

    def git(self, *command: str) -> None:
        names = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        subprocess.run(["git", *names, *command], cwd=self.place, check=True)

    def do(self, step: Step, wishes: Wishes, signer: Signer | None = None) -> None:
        made = attest(step, wishes)
        file = self.place.parent / f"{step.name}.link.dsse.json"
        keep(file, PAYLOAD, made.payload, signer or self.keys[step.name], force=False)
        data = file.read_bytes()
        self.links.append(LinkFile(step.name, Digest.of(data), data))

    def all(self) -> Release:
        """Go through all steps; return the release."""
        build = Step("build", base=self.place, git=self.place, products=("package",))
        copying = (
            sys.executable,
            "-c",
            f"import os; os.chdir({str(self.place)!r}); {COPY}",
        )
        self.do(build, Wishes(command=copying))
        self.do(Step("test", base=self.place, materials=("package",)), Wishes())
        dist = self.place / "dist"
        release = Release.from_package(
            self.place / "package", publisher="acme", output=dist
        )
        package = Step("package", base=self.place, materials=("package",))
        self.do(package, Wishes(release=dist))
        return release

    def judge(self, release: Release) -> ChainResult:
        """Judge as a device does."""
        keys = {name: one.public_key for name, one in self.keys.items()}
        same = rules("MATCH package/* WITH PRODUCTS FROM build", "DISALLOW *")
        names = (*rules("REQUIRE release/manifest", "ALLOW release/*", "DISALLOW *"),)
        payload = layout_payload(
            [
                PlannedStep(
                    "build",
                    [keys["build"].keyid],
                    1,
                    rules("REQUIRE git/commit", "DISALLOW git/dirty", "ALLOW *"),
                    rules("CREATE package/*", "DISALLOW *"),
                ),
                PlannedStep("test", [keys["test"].keyid], 1, same, rules("DISALLOW *")),
                PlannedStep(
                    "package",
                    [keys["package"].keyid],
                    1,
                    rules("ALLOW release/components/*") + same,
                    names,
                ),
            ],
            keys={one.keyid: one for one in keys.values()},
            expires=EXPIRES,
        )
        products = release_products(release.record(NOW))
        return verify_chain(
            parse_layout(payload, what="layout"),
            self.links,
            ReleaseFacts(release.artifact.digest, products),
            now=NOW,
            expires=EXPIRES,
            revoked={},
        )


def test_devices_take_what_we_record(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    result = pipeline.judge(pipeline.all())
    assert result.findings == ()
    assert [one.name for one in result.steps] == ["build", "test", "package"]
    assert len(result.functionaries) == 3


def test_unknown_sources_are_refused(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    (pipeline.place / "Makefile").write_text("all:\n")
    result = pipeline.judge(pipeline.all())
    assert [one.artifact for one in result.findings] == [DIRTY]


def test_another_package_than_was_built(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    release = pipeline.all()
    sane = pipeline.judge(release)
    assert sane.findings == ()
    pipeline.links.pop()
    description = pipeline.place / "package" / "margo.yaml"
    description.write_text(description.read_text() + "\n# changed\n")
    (tmp_path / "package.link.dsse.json").unlink()
    package = Step("package", base=pipeline.place, materials=("package",))
    pipeline.do(package, Wishes(release=pipeline.place / "dist"))
    findings = pipeline.judge(release).findings
    assert {(one.step, one.artifact) for one in findings} == {
        ("package", "package/margo.yaml")
    }
