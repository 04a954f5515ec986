"""`device fetch`, `confirm`, `refresh`, `status`: what lies where, what is known."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.formats import oci
from margo_supplychain.formats.archives import build_compose_archive
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.record import Image
from tests.cli.plant import APPLICATION, Plant
from tests.cli.running import Ran, Terminal, run, spawn, validate
from tests.world.on_disk import write_files

if TYPE_CHECKING:
    from collections.abc import Callable

COMPOSE = b"services:\n  web:\n    image: registry.example/web@sha256:" + b"0" * 64


@pytest.fixture
def plant(place: Path) -> Plant:
    made = Plant(place)
    made.publish("1.0.0", "1.2.0", "2.0.0")
    assert made.init().status == 0
    return made


IMAGES = (
    Image(
        component="web-stack",
        reference="registry.example/web:1",
        digest=Digest("sha256", "0" * 64),
        platforms=("linux/amd64", "linux/arm64"),
    ),
    Image(component="web-stack", reference="registry.example/job:1", digest=None),
)


def with_components(plant: Plant, **record: Any) -> bytes:
    """Publish a release whose record names a Compose archive; return the archive."""
    archive = build_compose_archive({"compose.yaml": COMPOSE}, top="web-stack")
    component = plant.component("web-stack", "compose", archive)
    plant.world.release("1.3.0", APPLICATION, components=(component,), **record)
    write_files(plant.world.publish(), plant.trust)
    return archive


def paths(ran: Any) -> list[Path]:
    return [Path(line.strip()) for line in ran.out.splitlines() if "/blobs/" in line]


def test_fetch_says_where_everything_lies(plant: Plant) -> None:
    ran = plant.fetch()
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == "fetched acme/pump-monitor 1.2.0, every byte verified"
    assert lines[1].endswith(", 3 blobs, 524 B in staging")
    assert lines.pop(2) == "  fresh    timestamp v2, issued 3 h ago, good for 3 d 20 h"
    assert lines[2] == "  module.wasm, 23 B"
    assert paths(ran)[0].read_bytes() == b"acme/pump-monitor 1.2.0"
    assert lines[-1].startswith("next: install by digest; once it runs, margo-suppl")


def test_fetch_of_a_component(plant: Plant) -> None:
    archive = with_components(plant)
    ran = plant.fetch("^1.0", "--slot", "line-2")
    assert ran.status == 0
    assert "  compose-profile/web-stack, compose, web-stack.tgz, " in ran.out
    assert [one.read_bytes() for one in paths(ran)] == [archive]
    assert ran.out.endswith(" --slot line-2 --state device\n")
    document = plant.fetch(json=True).json
    validate(document, "device-fetch")
    validate(document["result"]["report"], "report")
    (content,) = document["result"]["content"]
    assert content["component"] == "compose-profile/web-stack"
    assert content["digest"] == f"sha256:{hashlib.sha256(archive).hexdigest()}"
    assert content["mediaType"] == oci.COMPOSE_LAYER


def test_the_images_are_listed_by_digest(plant: Plant) -> None:
    with_components(plant, images=IMAGES, closure="partial")
    said = "  images      1 of 2 pinned: closure partial, others may run\n"
    assert said in plant.verify().out
    expected = [
        {
            "component": "web-stack",
            "reference": "registry.example/web:1",
            "digest": f"sha256:{'0' * 64}",
            "platforms": ["linux/amd64", "linux/arm64"],
        },
        {
            "component": "web-stack",
            "reference": "registry.example/job:1",
            "digest": None,
            "platforms": [],
        },
    ]
    verified = plant.verify(json=True).json
    validate(verified, "device-verify")
    fetched = plant.fetch(json=True).json
    validate(fetched, "device-fetch")
    assert verified["result"]["images"] == fetched["result"]["images"] == expected
    lines = plant.fetch().out.splitlines()
    assert lines[-3:-1] == [
        (
            "  image registry.example/web:1 of web-stack, sha256:000000000000, "
            "linux/amd64, linux/arm64"
        ),
        "  image registry.example/job:1 of web-stack, not pinned",
    ]


def test_explain_tells_the_steps_of_a_success(plant: Plant) -> None:
    lines = plant.fetch("^1.0", "--explain").out.splitlines()
    assert [line.split()[0] for line in lines[-8:-1]] == list("0123456")
    assert lines[-2] == (
        f"  6  content              passed  blobs 3, from {plant.trust}"
    )


def test_fetch_of_an_image_index(plant: Plant) -> None:
    entry = plant.world.artifact(b"one platform")
    index = oci.index_bytes([oci.Entry(descriptor=entry)])
    what = plant.world.add_blob(index, oci.INDEX)
    plant.world.release("1.4.0", APPLICATION, artifact=what, kind=None)
    write_files(plant.world.publish(), plant.trust)
    ran = plant.fetch("1.4.0")
    assert ran.status == 0
    assert paths(ran) == [Path("staging/blobs/sha256") / what.digest.hex]
    assert "\n  content, " in ran.out


def with_platforms(plant: Plant, *platforms: str) -> dict[str, str]:
    """Publish 1.5.0, an index of these; return the digest of each one's module."""
    entries, modules = [], {}
    for platform in platforms:
        data = f"for {platform}".encode()
        os_name, architecture = platform.split("/")
        named = {"os": os_name, "architecture": architecture}
        entries.append(
            oci.Entry(descriptor=plant.world.artifact(data), other={"platform": named})
        )
        modules[platform] = hashlib.sha256(data).hexdigest()
    what = plant.world.add_blob(oci.index_bytes(entries), oci.INDEX)
    plant.world.release("1.5.0", APPLICATION, artifact=what, kind=None)
    write_files(plant.world.publish(), plant.trust)
    return modules


def test_fetch_of_the_platforms_asked_for(plant: Plant) -> None:
    modules = with_platforms(plant, "linux/amd64", "linux/arm64", "wasi/wasm")
    blobs = plant.place / "staging" / "blobs" / "sha256"
    ran = plant.fetch("1.5.0", "--platform", "linux/arm64", "--explain")
    assert (ran.status, ran.err) == (0, "")
    assert "\n  platforms  linux/arm64 alone\n" in ran.out
    assert f"passed  blobs 4, platforms linux/arm64, from {plant.trust}\n" in ran.out
    here = {platform: (blobs / name).exists() for platform, name in modules.items()}
    assert here == {"linux/amd64": False, "linux/arm64": True, "wasi/wasm": False}
    # What runs is named by the index, whoever else it is for.
    assert plant.run("confirm", APPLICATION).status == 0
    both = ("--platform", "linux/amd64", "--platform", "wasi/wasm")
    document = plant.fetch("1.5.0", *both, json=True).json
    validate(document, "device-fetch")
    assert document["result"]["platforms"] == ["linux/amd64", "wasi/wasm"]
    assert all((blobs / name).exists() for name in modules.values())


def test_fetch_of_a_platform_that_is_none(plant: Plant) -> None:
    with_platforms(plant, "linux/amd64", "linux/arm64")
    ran = plant.fetch("1.5.0", "--platform", "linux/riscv64")
    assert (ran.status, ran.out) == (3, "rejected content of acme/pump-monitor 1.5.0\n")
    assert "has nothing for linux/riscv64, only for linux/amd64, linux/arm64" in ran.err
    assert "ask for a platform that the release has" in ran.err
    assert plant.run("confirm", APPLICATION).status == 3
    ran = plant.fetch("1.5.0", "--platform", "arm64")
    assert ran.status == 2
    assert "platform 'arm64' is not os/architecture" in ran.err


def test_fetch_of_other_bytes_is_refused(plant: Plant) -> None:
    assert plant.verify().status == 0
    for blob in (plant.trust / "blobs" / "sha256").iterdir():
        if blob.read_bytes() == b"acme/pump-monitor 1.2.0":
            blob.write_bytes(b"acme/pump-monitor 1.0.0")
    ran = plant.fetch()
    assert ran.status == 3
    assert ran.out == "rejected content of acme/pump-monitor 1.2.0\n"
    assert "[digest-mismatch]" in ran.err
    document = plant.fetch(json=True).json
    validate(document, "error")
    validate(document["report"], "report")
    assert plant.run("confirm", APPLICATION).status == 3


def test_fetch_verifies_first(plant: Plant) -> None:
    ran = plant.fetch("^9")
    assert (ran.status, ran.out) == (3, "rejected acme/pump-monitor ^9\n")
    assert not (plant.place / "staging").exists()
    assert plant.run("fetch", APPLICATION, "--pin", "^1").status == 2
    ran = plant.run("fetch", APPLICATION, "--pin", "^1", "--to", "trust")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("error: --to trust holds a trust repository: fetch into")


def test_short_work_shows_no_progress(plant: Plant) -> None:
    asked = ["device", "fetch", APPLICATION, "--pin", "^1", "--state", "device", "--to"]
    quiet = spawn(*asked, "a", cwd=plant.place)
    assert (quiet.returncode, quiet.stderr) == (0, b"")
    terminal = Terminal(*asked, "b", cwd=plant.place, NO_COLOR="1")
    assert terminal.finish() == 0
    assert terminal.text.startswith("fetched acme/pump-monitor 1.2.0, every byte")


def test_confirm_raises_the_floor(plant: Plant) -> None:
    assert plant.run("confirm", APPLICATION).status == 3
    plant.fetch()
    assert plant.verify("1.0.0").status == 0  # looking raises no floor
    ran = plant.run("confirm", APPLICATION)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith("confirmed acme/pump-monitor 1.2.0 in slot default\n")
    refused = plant.verify("1.0.0")
    assert refused.status == 3
    assert "[release-floor]" in refused.err
    assert "the floor of slot default" in refused.err


def test_confirm_by_digest_in_a_slot(plant: Plant) -> None:
    digest = plant.verify(json=True).json["result"]["package"]["digest"]
    unknown = plant.run("confirm", digest)
    assert unknown.status == 3
    assert f"{digest} was not fetched by this device [unknown-target]" in unknown.err
    plant.fetch()
    ran = plant.run("confirm", digest, "--slot", "line-2", json=True)
    validate(ran.json, "device-confirm")
    assert ran.json["result"]["slot"] == "line-2"
    assert ran.json["result"]["artifact"] == digest


def test_confirm_takes_the_newest_fetched(plant: Plant) -> None:
    plant.fetch("2.0.0")
    plant.fetch("1.0.0")
    ran = plant.run("confirm", APPLICATION, json=True)
    assert ran.json["result"]["version"] == "1.0.0"
    plant.fetch("2.0.0")
    ran = plant.run("confirm", APPLICATION, json=True)
    assert ran.json["result"]["version"] == "2.0.0"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["pump"], "format"),
        (["sha256:00"], "oci-format"),
        (["Acme/x"], "format"),
        ([APPLICATION, "--slot", ".."], "format"),
        ([], "usage"),
    ],
)
def test_confirm_of_what_is_no_name(
    plant: Plant, arguments: list[str], code: str
) -> None:
    ran = plant.run("confirm", *arguments, json=True)
    assert ran.status == 2
    validate(ran.json, "error")
    assert ran.json["error"]["code"] == code
    assert "correct the file" not in ran.json["error"]["hint"]


def test_status_tells_what_is_remembered(plant: Plant) -> None:
    ran = plant.run("status")
    assert ran.out.splitlines() == [
        "device device: 1 store",
        "  acme  for acme",
        "    trust      root v1, never refreshed",
        f"    source     {plant.trust}",
        "    withdrawn  0 remembered",
    ]
    plant.fetch("1.0.0")
    plant.run("confirm", APPLICATION)
    plant.world.withdraw("1.0.0")
    plant.publish()
    plant.fetch("2.0.0")
    lines = plant.run("status").out.splitlines()
    assert lines[2].startswith("    trust      root v1, timestamp v3, snapshot v3, sig")
    assert lines[4].startswith("    runs       acme/pump-monitor 1.0.0 in slot default")
    assert lines[5].startswith("    fetched    acme/pump-monitor 2.0.0, not confirmed")
    assert lines[6] == "    withdrawn  1 remembered"
    document = plant.run("status", json=True).json
    validate(document, "device-status")
    (store,) = document["result"]["stores"]
    assert store["withdrawn"] == 1
    assert [one["version"] for one in store["fetched"]] == ["1.0.0", "2.0.0"]


def test_status_of_several_applications(plant: Plant) -> None:
    other = "acme/fan-monitor"
    plant.world.release("1.0.0", other)
    plant.publish()
    for name in (APPLICATION, other):
        ran = plant.run("fetch", name, "--pin", "1.0.0", "--to", "staging")
        assert ran.status == 0, ran.err
        assert plant.run("confirm", name).status == 0
    lines = plant.run("status").out.splitlines()
    assert [line.split()[1] for line in lines if "  runs  " in line] == [
        other,
        APPLICATION,
    ]
    document = plant.run("status", json=True).json
    validate(document, "device-status")
    (store,) = document["result"]["stores"]
    assert [one["name"] for one in store["slots"]] == [other, APPLICATION]


def test_next_finds_the_same_device(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirm = "margo-supplychain device confirm acme/pump-monitor"
    assert plant.fetch().out.splitlines()[-1].endswith(f"{confirm} --state device")
    (plant.place / "device").rename(plant.place / "my device")
    fetch = ("device", "fetch", APPLICATION, "--pin", "^1.0", "--to", "staging")
    ran = run(*fetch, "--slot", "line-2", "--state", "my device")
    assert ran.out.endswith(f"{confirm} --slot line-2 --state 'my device'\n")
    monkeypatch.setenv("MARGO_SUPPLYCHAIN_STATE", "my device")
    assert run(*fetch).out.endswith(f"{confirm}\n")


def test_status_shows_a_lost_store_and_the_others(plant: Plant) -> None:
    shutil.rmtree(plant.state / "stores" / "acme")
    ran = plant.run("status", json=True)
    assert ran.status == 4
    validate(ran.json, "device-status")
    assert "has no readable memory" in ran.json["result"]["stores"][0]["lost"]
    text = plant.run("status").out.splitlines()
    assert text[:2] == ["device device: 1 store, 1 lost", "  acme  lost"]


def test_refresh(plant: Plant) -> None:
    ran = plant.run("refresh")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "refreshed 1 of 1",
        "  acme  root v1, timestamp v2, snapshot v2, fresh",
    ]
    validate(plant.run("refresh", "acme", json=True).json, "device-refresh")
    assert "'beta' is no repository here" in plant.run("refresh", "beta").err
    shutil.rmtree(plant.trust)
    why = f"{plant.trust}/metadata is not a directory"
    ran = plant.run("refresh")
    assert ran.status == 4
    assert ran.out.splitlines() == [
        "refreshed 0 of 1: what is out of reach stays as it was",
        f"  acme  root v1, timestamp v2, snapshot v2, grace, out of reach: {why}",
    ]
    ran = plant.run("refresh", json=True)
    assert ran.status == 4
    validate(ran.json, "device-refresh")
    assert (ran.json["ok"], ran.json["exit"]) == (False, 4)
    (one,) = ran.json["result"]["repositories"]
    assert (one["reached"], one["outOfReach"]) == (False, why)


def test_fetch_tells_who_had_it_and_how_fresh_it_is(plant: Plant) -> None:
    """A stick has the metadata, another place the content."""
    shutil.copytree(plant.trust, plant.place / "stick")
    shutil.rmtree(plant.place / "stick" / "blobs")
    plant.edit("\n# content =", '\ncontent = ["../trust"]\n# content =')
    asked = ("device", "fetch", APPLICATION, "--pin", "^1.0", "--to", "staging")
    ran = run("-v", *asked, "--state", "device")
    assert ran.status == 0
    assert ran.err == "note: content came from device/../trust\n"
    shutil.rmtree(plant.place / "staging")
    ran = plant.fetch("^1.0", "--source", "stick", json=True)
    validate(ran.json, "device-fetch")
    result = ran.json["result"]
    assert result["servedBy"] == ["device/../trust"]
    assert (result["freshness"], result["outOfReach"]) == ("fresh", None)
    shutil.move(plant.place / "stick", plant.place / "gone")
    # What is here already came from nobody, and the source is out of reach.
    plant.edit(str(plant.trust), str(plant.place / "stick"))
    ran = plant.fetch()
    assert ran.status == 0
    lines = ran.out.splitlines()
    assert lines[2].endswith("; the source is out of reach, this was accepted before")
    why = f"{plant.place}/stick/metadata is not a directory"
    assert lines[3] == f"  source   out of reach: {why}"
    result = plant.fetch(json=True).json["result"]
    assert (result["servedBy"], result["outOfReach"]) == ([], why)


@pytest.mark.parametrize("kind", ["", "oci-layout:", "oci-archive:", "file:"])
@pytest.mark.parametrize("command", ["verify", "fetch", "refresh"])
def test_a_source_that_is_mistyped(plant: Plant, command: str, kind: str) -> None:
    """Not decided around, neither on copies nor by other places."""
    assert plant.fetch().status == 0
    given = ["--source", f"{kind}stikc"]
    acts: dict[str, Callable[[], Ran]] = {
        "verify": lambda: plant.verify("^1.0", *given),
        "fetch": lambda: plant.fetch("^1.0", *given),
        "refresh": lambda: plant.run("refresh", *given),
    }
    ran = acts[command]()
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"error: --source {kind}stikc does not exist [format]\n")


def test_refresh_goes_on_after_a_failure(plant: Plant) -> None:
    """One frozen mirror does not keep the device from the others."""
    other = Plant(plant.place / "b", publishers=("beta",))
    other.world.release("1.0.0", "beta/app")
    write_files(other.world.publish(), other.trust)
    root = str(other.trust / "metadata" / "1.root.json")
    assert plant.run("init", "--root", root, "--publisher", "beta").status == 0
    (plant.trust / "metadata" / "timestamp.json").write_text("{}")
    ran = plant.run("refresh")
    assert ran.status == 3
    assert ran.out == f"rejected refresh of {plant.trust}\n"
    assert "note: beta: root v1, timestamp v2, snapshot v2, fresh\n" in ran.err
    shutil.rmtree(other.trust)
    shutil.rmtree(plant.state / "stores" / "beta" / "metadata")
    ran = plant.run("refresh", json=True)
    assert ran.status == 3
    validate(ran.json, "error")
    assert "note: beta: " in ran.err
    assert ran.err.rstrip().endswith("[fetch]")


def test_refresh_from_another_source(plant: Plant) -> None:
    """A stick is carried to a device that no network reaches."""
    shutil.move(plant.trust, plant.place / "stick")
    ran = plant.run("refresh", "--source", "stick")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines()[0] == "refreshed 1 of 1"
    plant.edit("[repository.acme]", "[repository.other]")
    ran = plant.run("refresh", "--source", "stick")
    assert (ran.status, ran.out) == (2, "")
    assert "--source is where one repository is: which of acme, other? [usage]" in (
        ran.err
    )
    named = plant.run("refresh", "acme", "--source", "stick")
    assert named.out.splitlines()[0] == "refreshed 1 of 1"


def test_refresh_without_repositories(place: Path) -> None:
    (place / "device.toml").write_text('[policy."acme/*"]\nrequire = ["signed"]\n')
    ran = run("device", "refresh")
    assert ran.status == 4
    assert "has no repository [state-lost]" in ran.err


@pytest.mark.parametrize(
    "command", ["init", "refresh", "verify", "fetch", "confirm", "status"]
)
def test_help(place: Path, command: str) -> None:
    ran = run("device", command, "--help")
    assert ran.status == 0
    for part in ("Examples:", "Exit status:", "Next:", "--state DIR"):
        assert part in ran.out
