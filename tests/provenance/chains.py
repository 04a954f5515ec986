"""Chains of links that are judged twice: by this package, and by in-toto-python.

A `Pipeline` holds a layout and signed links as plain JSON, to be changed at will. Both
sides get the very same envelopes; in-toto finds its own in a directory, by file names.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import securesystemslib.exceptions
from in_toto import exceptions as in_toto_exceptions
from in_toto.models.metadata import Metadata
from in_toto.verifylib import in_toto_verify

from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.dsse import Envelope
from margo_supplychain.provenance.chain import (
    ChainResult,
    LinkFile,
    ReleaseFacts,
    verify_chain,
)
from margo_supplychain.provenance.layouts import Layout, read_layout
from tests.world import provenance as world
from tests.world.repository import key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from margo_supplychain.provenance.findings import Finding

NOW: Final = datetime(2027, 1, 1, tzinfo=UTC)
ARTIFACT: Final = Digest.of(b"{}")
MANIFEST: Final = world.MANIFEST
CLOSED: Final = world.CLOSED
Json = dict[str, Any]
# What in-toto raises when its answer is no, and what it stumbles over.
NO: Final = (
    in_toto_exceptions.LayoutExpiredError,
    in_toto_exceptions.LinkNotFoundError,
    in_toto_exceptions.RuleVerificationError,
    in_toto_exceptions.SignatureVerificationError,
    in_toto_exceptions.ThresholdVerificationError,
    in_toto_exceptions.InvalidMetadata,
    securesystemslib.exceptions.Error,
)


def digest(text: str) -> dict[str, str]:
    """Return the digests of an artifact with that content."""
    return world.sha256(text)


def listed(files: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return artifacts as a link has them, of names and contents."""
    return {name: digest(text) for name, text in files.items()}


@dataclass
class Pipeline:
    """A layout and its links: build and package, all as they should be.

    Args:
        layout: as JSON.
        links: step, payload and signers of each.
        release: what must have been made.
        files: envelopes as they are, in place of `links`: step, file name, bytes.
    """

    layout: Json
    links: list[tuple[str, Any, tuple[Any, ...]]]
    release: ReleaseFacts = field(default_factory=lambda: ReleaseFacts(ARTIFACT, {}))

    def step(self, name: str) -> Json:
        found: Json = next(s for s in self.layout["steps"] if s["name"] == name)
        return found

    def link(self, name: str) -> Json:
        found: Json = next(payload for step, payload, _ in self.links if step == name)
        return found

    def sign(self, name: str, *signers: Any) -> None:
        """Let others sign the link of a step."""
        self.links = [
            (step, payload, signers if step == name else old)
            for step, payload, old in self.links
        ]

    def parsed(self) -> Layout:
        found, _ = read_layout(world.envelope(self.layout, "boss"), what="layout 1")
        return found

    def files(self) -> list[LinkFile]:
        return [link_file(step, payload, *who) for step, payload, who in self.links]

    def ours(
        self,
        *,
        now: datetime = NOW,
        expires: datetime | None = None,
        revoked: Mapping[str, frozenset[Digest]] | None = None,
        files: Sequence[LinkFile] | None = None,
    ) -> ChainResult:
        """Return this package's verdict."""
        layout = self.parsed()
        return verify_chain(
            layout,
            self.files() if files is None else files,
            self.release,
            now=now,
            expires=layout.expires if expires is None else expires,
            revoked=revoked or {},
        )

    def theirs(self, files: Sequence[tuple[str, bytes]] | None = None) -> str | None:
        """Return None where in-toto-python passes, else what it says.

        Args:
            files: names and bytes; the links under in-toto's names by default.
        """
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            if files is None:
                files = [
                    (file_name(step, signer), world.envelope(payload, *who))
                    for step, payload, who in self.links
                    for signer in who
                ]
            for path, data in files:
                (place / path).write_bytes(data)
            (place / "root.layout").write_bytes(world.envelope(self.layout, "boss"))
            boss = key("boss").public_key
            known = {boss.keyid: {"keyid": boss.keyid, **boss.to_dict()}}
            path = str(place / "root.layout")
            layout = Metadata.load(path)  # type: ignore[no-untyped-call]  # in_toto has no annotations
            try:
                in_toto_verify(layout, known, link_dir_path=name)  # type: ignore[no-untyped-call]  # likewise
            except NO as why:
                return f"{type(why).__name__}: {why}"
        return None


def file_name(step: str, signer: str | tuple[str, str | None]) -> str:
    """Return what in-toto calls a link."""
    keyid = world.keyid(signer) if isinstance(signer, str) else signer[1] or ""
    return f"{step}.{keyid[:8]}.link"


def link_file(step: str, payload: object, *signers: Any) -> LinkFile:
    """Return a signed link as a record names it; bytes are an envelope already."""
    data = payload if isinstance(payload, bytes) else world.envelope(payload, *signers)
    return LinkFile(step, Digest.of(data), data)


def pipeline() -> Pipeline:
    """Return a pipeline of two steps that proves its release."""
    source, program = listed({"src/a.c": "source"}), listed({"out/a": "program"})
    matched = ("MATCH", "out/*", "WITH", "PRODUCTS", "FROM", "build")
    steps = [
        world.step(
            "build",
            "builder",
            "second",
            materials=[("ALLOW", "src/*"), CLOSED],
            products=[("CREATE", "out/*"), CLOSED],
        ),
        world.step(
            "package",
            "packager",
            materials=[matched, CLOSED],
            products=[("REQUIRE", MANIFEST), ("CREATE", "release/*"), CLOSED],
        ),
    ]
    made = {MANIFEST: {"sha256": ARTIFACT.hex}}
    return Pipeline(
        world.layout(steps, functionaries=("builder", "second", "packager")),
        [
            (
                "build",
                world.link("build", materials=source, products=program),
                ("builder",),
            ),
            (
                "package",
                world.link("package", materials=program, products=made),
                ("packager",),
            ),
        ],
    )


def reasons(result: ChainResult) -> list[str]:
    return [one.reason for one in result.findings]


def only(result: ChainResult) -> Finding:
    """Return the one finding."""
    assert len(result.findings) == 1, [one.text for one in result.findings]
    return result.findings[0]


def reopened(file: LinkFile, change: Callable[[Json], object]) -> LinkFile:
    """Return a link whose envelope was changed after it was signed."""
    data = world.reopened(file.data, change)
    return LinkFile(file.step, Digest.of(data), data)


def payload_of(file: LinkFile) -> bytes:
    """Return the exact bytes that were signed."""
    return Envelope.parse(file.data, what="link").payload
