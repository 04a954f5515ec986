"""in-toto's own tools and this package read each other's layouts and links.

in-toto-golang's `InTotoVerify` and in-toto-python's `in-toto-verify` are asked about
what our writers wrote; a device of ours is asked about what they wrote, as part of a
release. Each of them also says no to the same things.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import pytest

from margo_supplychain.formats.dsse import PAYLOAD
from margo_supplychain.provenance.in_toto_models import (
    PlannedStep,
    layout_payload,
    link_payload,
)
from margo_supplychain.signing.envelopes import sign_envelope
from tests.attacks.proven import running
from tests.peers.intoto_clients import ALGORITHMS, PythonInToto, person
from tests.world.provenance import LINK, MANIFEST, RECORD, Document, sha256, steps

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.attacks.proven import Plant
    from tests.peers.intoto_clients import Answer, GoInToto, Person
    from tests.world.provenance import Json, Run

FUNCTIONARIES: Final = {"build": "builder", "test": "tester", "package": "packager"}
EXPIRES: Final = datetime(2100, 1, 1, tzinfo=UTC)  # the tools ask the machine's clock


class Tool(Protocol):
    """Another implementation."""

    def verify(self, layout: Path, links: Path, keys: Iterable[Person]) -> Answer: ...


@pytest.fixture(params=["go", "python"])
def tool(request: pytest.FixtureRequest) -> Tool:
    if request.param == "python":
        return PythonInToto()
    found: GoInToto = request.getfixturevalue("go_in_toto")
    return found


class People:
    """The vendor, who signs the layout, and three functionaries."""

    def __init__(self, directory: Path, scheme: str = "ecdsa-sha2-nistp256") -> None:
        self.acme = person(directory, "acme")
        self.by_step = {
            step: person(directory, name, scheme)
            for step, name in FUNCTIONARIES.items()
        }


# --- what we write, they read --------------------------------------------------------


def our_layout(people: People) -> bytes:
    """Return the pipeline's layout by our writer, signed."""
    payload = layout_payload(
        [
            PlannedStep(
                name=one["name"],
                keyids=[people.by_step[one["name"]].keyid],
                threshold=1,
                materials=one["expected_materials"],
                products=one["expected_products"],
            )
            for one in steps()
        ],
        keys={one.keyid: one.signer.public_key for one in people.by_step.values()},
        expires=EXPIRES,
    )
    return sign_envelope(PAYLOAD, payload, [people.acme.signer])


def our_link(said: Json, *signers: Person) -> bytes:
    """Return a link by our writer, signed."""
    payload = link_payload(
        said["name"], materials=said["materials"], products=said["products"]
    )
    return sign_envelope(PAYLOAD, payload, [one.signer for one in signers])


def lay_out(directory: Path, layout: bytes, links: dict[str, bytes]) -> Path:
    """Write the files as in-toto's tools look for them; return the layout's."""
    directory.mkdir()
    (directory / "root.layout").write_bytes(layout)
    for name, data in links.items():
        (directory / name).write_bytes(data)
    return directory / "root.layout"


def named(step: str, who: Person) -> str:
    return f"{step}.{who.keyid[:8]}.link"


def ours(people: People, run: Run) -> dict[str, bytes]:
    """Return the links of a run by file name."""
    return {
        named(step, people.by_step[step]): our_link(said, people.by_step[step])
        for step, said in run.links.items()
    }


@pytest.mark.parametrize("scheme", ALGORITHMS)
def test_tools_verify_what_we_wrote(tool: Tool, tmp_path: Path, scheme: str) -> None:
    people = People(tmp_path / "keys", scheme)
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    links = ours(people, run)
    layout = lay_out(tmp_path / "ours", our_layout(people), links)
    said = tool.verify(layout, layout.parent, [people.acme])
    assert said.ok, said.error
    published(plant, run, layout, (layout.parent / name for name in links))
    plant.verified("1.1.0")


def test_tools_want_the_layout_signed(tool: Tool, tmp_path: Path) -> None:
    people = People(tmp_path / "keys")
    links = ours(people, running(tmp_path).run("1.1.0"))
    layout = lay_out(tmp_path / "ours", our_layout(people), links)
    assert not tool.verify(layout, layout.parent, [people.by_step["build"]]).ok


@pytest.mark.parametrize("step", FUNCTIONARIES)
@pytest.mark.parametrize("change", ["missing", "tampered", "other key", "extra"])
def test_tools_and_we_refuse_the_same(
    tool: Tool, tmp_path: Path, step: str, change: str
) -> None:
    """What breaks a chain of ours breaks it for the tools, too."""
    people = People(tmp_path / "keys")
    plant = running(tmp_path)
    run = plant.run("1.1.0")
    links = ours(people, run)
    name = named(step, people.by_step[step])
    if change == "missing":
        del links[name]
    elif change == "tampered":
        raw = json.loads(links[name])
        payload = base64.b64decode(raw["payload"]).replace(b'"sha256"', b'"sha512"')
        raw["payload"] = base64.b64encode(payload).decode()
        links[name] = json.dumps(raw).encode()
    elif change == "other key":
        links[name] = our_link(run.links[step], people.acme)
    else:
        run.links[step]["products"]["odd/backdoor"] = sha256("mallory")
        links[name] = our_link(run.links[step], people.by_step[step])
    layout = lay_out(tmp_path / "ours", our_layout(people), links)
    assert not tool.verify(layout, layout.parent, [people.acme]).ok
    published(plant, run, layout, (layout.parent / name for name in links))
    reasons = {
        "missing": "missing-step",
        "tampered": "signature",
        "other key": "signature",
        "extra": "rule",
    }
    error = plant.refused(reasons[change], "step ")
    assert error.step == step


# --- what they write, we read --------------------------------------------------------


def worked(directory: Path, plant: Plant, version: str) -> Run:
    """Leave a pipeline's files where in-toto's tools look at them."""
    run = plant.run(version)
    content = {
        "src/pump.c": f"source {version}".encode(),
        "out/pump.wasm": f"program {version}".encode(),
        "report/tests.json": f"report {version}".encode(),
        MANIFEST: plant.world.files.blobs[str(run.artifact.digest)],
        RECORD: run.identity,
    }
    for name, data in content.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return run


LOOKED_AT: Final = {
    "build": (["src"], ["out"]),
    "test": (["out"], ["report"]),
    "package": (["out", "report"], ["release"]),
}


def their_layout(people: People, keyids: dict[str, str]) -> Json:
    """Return the pipeline's layout, in which keys have these ids."""
    found = steps()
    for one in found:
        one["pubkeys"] = [keyids[one["name"]]]
    return {
        "_type": "layout",
        "steps": found,
        "inspect": [],
        "keys": {
            keyids[step]: {**who.for_layout, "keyid": keyids[step]}
            for step, who in people.by_step.items()
        },
        "expires": "2100-01-01T00:00:00Z",
        "readme": "",
    }


def published(plant: Plant, run: Run, layout: Path, links: Iterable[Path]) -> None:
    """Publish a release that is proven by these files."""
    plant.use_layout(layout.read_bytes())
    plant.publish(
        run,
        [
            Document(LINK, path.name.partition(".")[0], path.read_bytes())
            for path in links
        ],
    )


def go_links(
    go: GoInToto,
    people: People,
    directory: Path,
    *,
    base: Path,
    hashes: Iterable[str] = ("sha256",),
) -> list[Path]:
    """Let in-toto-golang record the pipeline; return the links."""
    directory.mkdir()
    for step, (materials, products) in LOOKED_AT.items():
        who = people.by_step[step]
        said = go.link(
            step,
            who,
            directory / f"{step}.{go.keyid(who)[:8]}.link",
            base=base,
            materials=materials,
            products=products,
            hashes=hashes,
        )
        assert said.ok, said.error
    return sorted(directory.iterdir())


def test_device_verifies_what_go_wrote(go_in_toto: GoInToto, tmp_path: Path) -> None:
    """Layout and links by in-toto-golang, with key ids of its own making."""
    people = People(tmp_path / "keys", "ed25519")
    plant = running(tmp_path)
    run = worked(tmp_path / "work", plant, "1.1.0")
    keyids = {step: go_in_toto.keyid(who) for step, who in people.by_step.items()}
    layout = tmp_path / "root.layout"
    said = go_in_toto.layout(their_layout(people, keyids), people.acme, layout)
    assert said.ok, said.error
    links = go_links(go_in_toto, people, tmp_path / "links", base=tmp_path / "work")
    people.acme.as_json.write_text(
        json.dumps({**people.acme.for_layout, "keyid": said.keyid})
    )
    said = go_in_toto.verify(layout, tmp_path / "links", [people.acme])
    assert said.ok, said.error
    published(plant, run, layout, links)
    plant.verified("1.1.0")

    published(plant, run, layout, links[1:])
    plant.refused("missing-step", "build")


def test_layout_that_go_writes_and_nobody_reads(
    go_in_toto: GoInToto, tmp_path: Path
) -> None:
    """in-toto-golang 0.11 puts a PEM key's line ends into a layout as they are. That is
    no JSON: neither it nor anybody else reads it back."""
    people = People(tmp_path / "keys", "ecdsa-sha2-nistp256")
    plant = running(tmp_path)
    run = worked(tmp_path / "work", plant, "1.1.0")
    keyids = {step: go_in_toto.keyid(who) for step, who in people.by_step.items()}
    layout = tmp_path / "root.layout"
    assert go_in_toto.layout(their_layout(people, keyids), people.acme, layout).ok
    links = go_links(go_in_toto, people, tmp_path / "links", base=tmp_path / "work")
    said = go_in_toto.verify(layout, tmp_path / "links", [people.acme])
    assert not said.ok
    published(plant, run, layout, links)
    plant.refused("layout-malformed", "is not JSON")


@pytest.mark.parametrize("scheme", ALGORITHMS)
def test_device_verifies_links_of_go(
    go_in_toto: GoInToto, tmp_path: Path, scheme: str
) -> None:
    """Links by in-toto-golang, with digests of two algorithms, under a layout by
    in-toto-python's models."""
    people = People(tmp_path / "keys", scheme)
    plant = running(tmp_path)
    run = worked(tmp_path / "work", plant, "1.1.0")
    layout = python_layout(
        tmp_path, people, {s: w.keyid for s, w in people.by_step.items()}
    )
    links = go_links(
        go_in_toto,
        people,
        tmp_path / "links",
        base=tmp_path / "work",
        hashes=("sha256", "sha512"),
    )
    published(plant, run, layout, links)
    plant.verified("1.1.0")


def python_layout(tmp_path: Path, people: People, keyids: dict[str, str]) -> Path:
    """Return the pipeline's layout by in-toto-python's models, signed."""
    from in_toto.models.layout import Layout
    from in_toto.models.metadata import Envelope

    models: Any = Layout  # in_toto has no annotations
    envelope: Any = Envelope.from_signable(models.read(their_layout(people, keyids)))
    envelope.create_signature(people.acme.signer)
    layout = tmp_path / "root.layout"
    envelope.dump(str(layout))
    return layout


@pytest.mark.parametrize("scheme", ALGORITHMS)
def test_device_verifies_what_python_wrote(tmp_path: Path, scheme: str) -> None:
    """Links by `in-toto-run --use-dsse`, and a layout by in-toto-python's models."""
    people = People(tmp_path / "keys", scheme)
    plant = running(tmp_path)
    run = worked(tmp_path / "work", plant, "1.1.0")
    keyids = {step: who.keyid for step, who in people.by_step.items()}
    layout = python_layout(tmp_path, people, keyids)
    links = tmp_path / "links"
    links.mkdir()
    python = PythonInToto()
    for step, (materials, products) in LOOKED_AT.items():
        said = python.link(
            step,
            people.by_step[step],
            links,
            base=tmp_path / "work",
            materials=materials,
            products=products,
            command=["true"] if step == "build" else (),
        )
        assert said.ok, said.error
    said = python.verify(layout, links, [people.acme])
    assert said.ok, said.error
    found = sorted(links.iterdir())
    published(plant, run, layout, found)
    plant.verified("1.1.0")

    published(plant, run, layout, found[1:])
    plant.refused("missing-step", "build")
