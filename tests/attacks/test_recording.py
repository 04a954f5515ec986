"""Somebody who writes where a step is recorded, or waits for what a link gives away."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
from securesystemslib.signer import CryptoSigner

from margo_supplychain.authoring.recording import files
from margo_supplychain.authoring.recording.kept import keep
from margo_supplychain.authoring.recording.links import Step
from margo_supplychain.authoring.recording.statements import about_digest, bind
from margo_supplychain.authoring.recording.steps import Wishes, attest
from margo_supplychain.errors import (
    CommandFailedError,
    ConflictError,
    FormatError,
    SupplyChainError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.dsse import PAYLOAD, Envelope
from margo_supplychain.formats.statements import Subject, statement_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

SECRET: Final = "hunter2-hunter2"
OUTSIDE: Final = b"nothing that this vendor publishes"


class Pipeline:
    """A vendor's step from src/ to dist/, recorded once and sane."""

    def __init__(self, tmp_path: Path) -> None:
        self.place = tmp_path / "work"
        self.outside = tmp_path / "outside"
        for directory in (self.place / "src", self.place / "dist", self.outside):
            directory.mkdir(parents=True)
        self.main = self.place / "src" / "main.c"
        self.main.write_bytes(b"int main;\n")
        (self.place / "src" / "util.c").write_bytes(b"int util;\n")
        (self.place / "dist" / "web").write_bytes(b"web")
        (self.outside / "main.c").write_bytes(OUTSIDE)
        self.signer = CryptoSigner.generate_ecdsa()
        self.file = tmp_path / "build.link.dsse.json"
        self.step = Step(
            "build", base=self.place, materials=("src",), products=("dist",)
        )
        self.record()
        self.before = self.file.read_bytes()

    def record(self, command: Sequence[str] = (), **wishes: Any) -> dict[str, Any]:
        """Record and sign; return what the link says."""
        environment = wishes.pop("environment", {})
        asked = Wishes(command=tuple(command), **wishes)
        made = attest(self.step, asked, environment=environment)
        keep(self.file, PAYLOAD, made.payload, self.signer, force=True)
        found: dict[str, Any] = json.loads(made.payload)
        return found

    def refuses(
        self, kind: type[SupplyChainError], message: str, *command: str, **wishes: Any
    ) -> None:
        """Check that nothing is recorded, and what was signed before still stands."""
        with pytest.raises(kind, match=message):
            self.record(command, **wishes)
        assert self.file.read_bytes() == self.before


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path)


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let something happen after files were looked at, before they are read."""
    real = files._hash_all

    def hash_all(*arguments: Any, **options: Any) -> Any:
        act()
        monkeypatch.setattr(files, "_hash_all", real)
        return real(*arguments, **options)

    monkeypatch.setattr(files, "_hash_all", hash_all)


# --- out of the tree -----------------------------------------------------------------


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("kind", ["file", "directory", "chain", "proc"])
def test_a_link_leads_out_of_the_tree(
    pipeline: Pipeline, kind: str, follow: bool
) -> None:
    """A dependency plants a link, so that a file of the builder's is named."""
    link = pipeline.place / "src" / "link"
    if kind == "file":
        link.symlink_to(pipeline.outside / "main.c")
    elif kind == "directory":
        link.symlink_to(pipeline.outside)
    elif kind == "chain":
        (pipeline.place / "src" / "next").symlink_to("../../outside/main.c")
        link.symlink_to("next")
    else:
        link.symlink_to("/proc/self/environ")
    pipeline.step = pipeline.step._replace(follow_symlinks=follow)
    pipeline.refuses(FormatError, "symbolic link|2 files can't be recorded as they are")


def test_the_whole_tree_is_a_link(pipeline: Pipeline) -> None:
    """What is named `src` leads elsewhere."""
    (pipeline.place / "src").rename(pipeline.place / "was")
    (pipeline.place / "src").symlink_to(pipeline.outside)
    pipeline.refuses(FormatError, r"^src is a symbolic link to ")
    pipeline.step = pipeline.step._replace(follow_symlinks=True)
    pipeline.refuses(FormatError, r"^src is a symbolic link that leads out of ")


def test_a_directory_becomes_a_link_before_it_is_read(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mallory waits for the look, and has other files read under the same names."""

    def swap() -> None:
        (pipeline.place / "src").rename(pipeline.place / "was")
        (pipeline.place / "src").symlink_to(pipeline.outside)

    meanwhile(monkeypatch, swap)
    pipeline.refuses(ConflictError, "changed while it was hashed: src is a symbolic")


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_something_that_never_ends(pipeline: Pipeline, kind: str) -> None:
    """A pipe that nobody writes, or a link to a device that never ends."""
    odd = pipeline.place / "src" / "odd"
    if kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to("/dev/zero")
    pipeline.refuses(FormatError, r"^src/odd is a ")


def test_a_file_becomes_a_pipe_before_it_is_read(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens it would wait for ever."""

    def swap() -> None:
        pipeline.main.unlink()
        os.mkfifo(pipeline.main)

    meanwhile(monkeypatch, swap)
    pipeline.refuses(ConflictError, "changed while it was hashed: src/main.c is a pipe")


# --- other bytes than were there -----------------------------------------------------


@pytest.mark.parametrize("way", ["written", "set back", "swapped", "swapped and back"])
def test_a_file_is_swapped_while_it_is_hashed(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Mallory has good sources recorded and bad ones built, or the other way round."""
    evil = pipeline.outside / "evil.c"
    evil.write_bytes(b"int evil;\n")

    def swap() -> None:
        stamps = pipeline.main.stat()
        if way in {"written", "set back"}:
            pipeline.main.write_bytes(b"int evil;\n")
        else:
            pipeline.main.rename(pipeline.outside / "kept.c")
            evil.rename(pipeline.main)
        if way == "set back":
            os.utime(pipeline.main, ns=(stamps.st_atime_ns, stamps.st_mtime_ns))

    real = files._hash_all

    def hash_all(*arguments: Any, **options: Any) -> Any:
        if way == "swapped and back":
            swap()
        found = real(*arguments, **options)
        if way == "swapped and back":
            (pipeline.outside / "kept.c").rename(pipeline.main)
        else:
            swap()
        return found

    monkeypatch.setattr(files, "_hash_all", hash_all)
    pipeline.refuses(ConflictError, r"^src/main\.c changed while files were hashed")


def test_a_hidden_file_is_not_left_out(pipeline: Pipeline) -> None:
    """What other tools leave out by themselves is where Mallory hides."""
    for name in ("evil.pyc", ".evil", "evil~", "evil.link", ".gitignore"):
        (pipeline.place / "dist" / name).write_bytes(b"evil")
    products = pipeline.record()["products"]
    assert len(products) == 6
    assert "dist/evil.pyc" in products


def test_what_is_left_out_is_said(pipeline: Pipeline) -> None:
    """A job's options leave out what was made; the link tells on it."""
    (pipeline.place / "dist" / "evil.pyc").write_bytes(b"evil")
    pipeline.step = pipeline.step._replace(exclude=("*.pyc",))
    said = pipeline.record()
    assert list(said["products"]) == ["dist/web"]
    assert said["byproducts"]["excluded"]["products"] == {"*.pyc": 1}


def test_a_step_that_failed_is_attested(pipeline: Pipeline) -> None:
    """Tests that fail, and a job that goes on: there is no link that says otherwise."""
    failing = (sys.executable, "-c", "raise SystemExit(1)")
    pipeline.refuses(CommandFailedError, "ended with exit status 1", *failing)


# --- what a link gives away ----------------------------------------------------------


def test_secrets_of_the_environment(pipeline: Pipeline) -> None:
    """Links are public: Mallory reads in them what a job was given in confidence."""
    environment = {"DEPLOY_TOKEN": SECRET, "LANG": "C.UTF-8"}
    said = pipeline.record((sys.executable, "-c", "pass"), environment=environment)
    assert said["environment"] == {}
    assert "stdout" not in said["byproducts"]
    pipeline.before = pipeline.file.read_bytes()
    pipeline.refuses(
        FormatError,
        "argument 3 of the command holds the value of DEPLOY_TOKEN",
        *(sys.executable, "-c", "pass", f"--token={SECRET}"),
        environment=environment,
    )
    printing = (sys.executable, "-c", "print('hunter2-' + 'hunter2')")
    said = pipeline.record(printing, environment=environment, keep_streams=True)
    assert said["byproducts"]["stdout"] == "[DEPLOY_TOKEN]\n"
    assert (
        SECRET.encode()
        not in Envelope.parse(pipeline.file.read_bytes(), what="link").payload
    )


def test_the_digest_of_a_passphrase(pipeline: Pipeline) -> None:
    """A job records its whole directory; Mallory tries words until the digest fits."""
    secret = pipeline.place / "passphrase"
    secret.write_text("correct horse")
    pipeline.step = pipeline.step._replace(materials=(".",))
    pipeline.refuses(
        FormatError,
        r"^passphrase is a secret of this command, and its digest would become public",
        private=(secret,),
    )


@pytest.mark.parametrize("way", ["link", "hard link", "copy"])
def test_the_digest_of_a_passphrase_under_another_name(
    pipeline: Pipeline, way: str
) -> None:
    """A dependency has the secret recorded where nobody would look for it."""
    secret = pipeline.place / "secret" / "passphrase"
    secret.parent.mkdir()
    secret.write_text("correct horse")
    planted = pipeline.place / "src" / "data.txt"
    if way == "link":
        planted.symlink_to("../secret/passphrase")
    elif way == "hard link":
        os.link(secret, planted)
    else:
        planted.write_bytes(secret.read_bytes())
    pipeline.step = pipeline.step._replace(follow_symlinks=True)
    pipeline.refuses(
        FormatError, r"^src/data\.txt is a secret of this command", private=(secret,)
    )


def test_a_link_takes_the_place_of_another(pipeline: Pipeline) -> None:
    """A second job of the same step must not replace what the first one signed."""
    (pipeline.place / "dist" / "web").write_bytes(b"evil")
    made = attest(pipeline.step, Wishes(), environment={})
    with pytest.raises(FormatError, match="exists and says something else"):
        keep(pipeline.file, PAYLOAD, made.payload, pipeline.signer, force=False)
    assert pipeline.file.read_bytes() == pipeline.before


@pytest.mark.parametrize("name", ["git/commit", "git/dirty", "release/manifest"])
def test_a_file_passes_for_the_commit(pipeline: Pipeline, name: str) -> None:
    """Sources that nobody committed satisfy `REQUIRE git/commit`."""
    top = name.partition("/")[0]
    (pipeline.place / top).mkdir()
    (pipeline.place / name).write_text("fake")
    pipeline.step = pipeline.step._replace(materials=("src", top))
    pipeline.refuses(FormatError, f"^{name} has a name by which links say something")


def test_a_statement_about_more_than_is_shown() -> None:
    """Whoever signs sees one release, and vouches for two."""
    this, other = (Subject("x", {"sha256": one * 64}) for one in "ab")
    type_ = "https://cyclonedx.org/bom"
    about = about_digest(Digest("sha256", "a" * 64))
    sane = statement_bytes([this], type_, {})
    assert bind(sane, about=about, name=None, what="x").payload == sane
    evil = statement_bytes([this, other], type_, {})
    with pytest.raises(FormatError, match="x is about more than sha256:aaaa"):
        bind(evil, about=about, name=None, what="x")
