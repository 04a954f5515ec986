"""`repo push` and `repo mirror`."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.verify.trust_store import TrustStore
from tests.cli.running import run, run_json
from tests.cli.vendor import NAME, Vendor, move_clock
from tests.registries.servers import docker_registry

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = ("--root", "trust/metadata/1.root.json")


@pytest.fixture
def vendor(place: Path, secret: str) -> Vendor:
    vendor = Vendor(place, secret)
    vendor.application()
    vendor.publish("1.2.0")
    return vendor


def test_push_into_a_directory(vendor: Vendor) -> None:
    ran = run("repo", "push", "out")
    assert ran.status == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == "copied trust to out"
    assert "root v1, snapshot v3, timestamp v3: 8 files new, 0 already" in lines[1]
    assert "1 of 1 release: 11 blobs new" in lines[2]
    assert "  [mirrors]" in lines
    assert f'  "oci://registry.example/acme" = ["{vendor.place}/out"]' in lines
    assert lines[-1] == "next: margo-supplychain repo check out"
    again = run("repo", "push", "out").out.splitlines()
    assert again[0] == "nothing new in trust for out"
    vendor.publish("1.3.0")
    grown = run_json("repo-copy", "repo", "push", "out")["result"]
    assert grown["changed"]
    assert grown["releases"] == {
        "listed": 2,
        "withContent": 2,
        "incomplete": [],
        "withdrawn": 0,
    }


def test_mirror_and_what_devices_make_of_it(vendor: Vendor) -> None:
    vendor.publish("2.0.0")
    document = run_json(
        "repo-copy",
        *("repo", "mirror", "trust", "oci-archive:stick.tar", *ROOT),
        *("--name", NAME, "--pin", "^1"),
    )
    result = document["result"]
    assert result["releases"] == {
        "listed": 2,
        "withContent": 1,
        "incomplete": [],
        "withdrawn": 0,
    }
    assert result["blobs"]["new"] > 5
    ran = run("repo", "mirror", "oci-archive:stick.tar", "oci-layout:there", *ROOT)
    assert ran.status == 5, "the content of 2.0.0 is not on the stick"
    assert ran.out.startswith("incomplete: copied oci-archive:stick.tar to ")
    assert "1 of 2 releases, 1 left out" in ran.out
    assert "acme/releases/pump-monitor/2.0.0 is not copied whole" in ran.err
    more = ("repo", "mirror", "oci-archive:stick.tar", "oci-layout:there", *ROOT)
    document = run_json("repo-copy", *more)
    assert (document["ok"], document["exit"]) == (False, 5)
    assert document["result"]["releases"]["incomplete"] == [
        "acme/releases/pump-monitor/2.0.0"
    ]
    ran = run(
        *("repo", "mirror", "oci-archive:stick.tar", "oci-layout:there", *ROOT),
        *("--pin", "^1"),
    )
    assert ran.status == 0, ran.err
    *_, follow = ran.out.splitlines()
    assert follow.endswith(
        "repo check oci-layout:there --root trust/metadata/1.root.json --pin '^1'"
    )
    assert run(*shlex.split(follow)[2:]).status == 0
    ran = run(
        *("device", "init", *ROOT, "--source", "oci-layout:there"),
        *("--publisher", "acme", "--state", "device"),
    )
    assert ran.status == 0, ran.err
    fetch = ("device", "fetch", NAME, "--to", "staging", "--state", "device")
    ran = run(*fetch, "--pin", "^1")
    assert ran.status == 0, ran.err
    assert run(*fetch, "--pin", "^2").status == 4


def test_a_registry_and_its_mirror(vendor: Vendor, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        origin = f"oci://{registry.host}/acme/trust"
        plant = f"oci://{registry.host}/plant/acme/trust"
        ran = run("repo", "push", origin)
        assert ran.status == 0, ran.err
        assert "content =" not in ran.out
        result = run_json("repo-copy", "repo", "mirror", origin, plant, *ROOT)["result"]
        places = [f"oci://{registry.host}/plant/acme"]
        assert result["mirrors"] == {
            f"oci://{registry.host}/acme": places,
            "oci://registry.example/acme": places,
        }


def test_a_release_that_was_published_into_a_directory(
    vendor: Vendor, tmp_path: Path
) -> None:
    """Its record names no place: devices find the package beside the metadata."""
    with docker_registry(tmp_path / "registry") as registry:
        origin = f"oci://{registry.host}/acme/trust"
        plant = f"oci://{registry.host}/plant/acme/trust"
        # Its policy has the same bytes: one file where they lie by digest.
        vendor.must("app", "add", "acme/other", "--release-key", "ci.pub")
        pushed = run_json("repo-copy", "repo", "push", origin)["result"]
        assert pushed["files"]["there"] == 0
        again = run_json("repo-copy", "repo", "push", origin)["result"]
        assert not again["changed"]
        registry.collect_garbage()
        assert run("repo", "check", origin).status == 0
        device(vendor, origin, pushed["mirrors"], "1")

        there = run_json("repo-copy", "repo", "mirror", origin, plant, *ROOT)["result"]
        registry.collect_garbage()
        ran = run("repo", "check", plant, *ROOT)
        assert ran.status == 0, ran.err
        device(vendor, plant, there["mirrors"], "2")
        for to in ("oci-archive:stick.tar", "oci-layout:stick", "out"):
            ran = run("repo", "mirror", plant, to, *ROOT)
            assert ran.status == 0, ran.err
            device(vendor, to, {}, to)


def device(
    vendor: Vendor, source: str, mirrors: Mapping[str, list[str]], name: str
) -> None:
    """Let a fresh device fetch, which was told of nothing but these mirrors."""
    state = f"device-{name.partition(':')[2] or name}-{len(name)}"
    at = ("--state", state)
    ran = run("device", "init", *ROOT, "--source", source, "--publisher", "acme", *at)
    assert ran.status == 0, ran.err
    with (vendor.place / state / "device.toml").open("a") as file:
        file.write("\n[mirrors]\n" if mirrors else "")
        for prefix, places in mirrors.items():
            file.write(f'"{prefix}" = ["{places[0]}"]\n')
    for command in (("verify",), ("fetch", "--to", f"{state}/staging")):
        ran = run("device", command[0], NAME, "--pin", "^1", *command[1:], *at)
        assert ran.status == 0, ran.err


def test_an_old_copy(vendor: Vendor) -> None:
    shutil.copytree("trust", "old")
    vendor.publish("1.3.0")
    assert run("repo", "push", "out").status == 0
    ran = run("repo", "mirror", "old", "out", *ROOT)
    assert ran.status == 3
    assert "[rollback]" in ran.err
    assert "hint: out shows a newer state or another one than old" in ran.err
    ran = run("repo", "push", "new", "--repo", "old")
    assert ran.status == 3, "the author's memory knows better"
    state = ".margo-supplychain/state"
    ran = run("repo", "mirror", "old", "new", "--state", state)
    assert ran.status == 3


def test_what_is_not_copied_is_said(vendor: Vendor) -> None:
    """Container images never are; content that is withdrawn is not any more."""
    vendor.publish("1.3.0")
    vendor.must("release", "withdraw", NAME, "1.2.0", "--reason", "leaks")
    ran = run("repo", "push", "out")
    assert ran.status == 0, ran.err
    assert "  content   1 of 2 releases, 1 withdrawn: " in ran.out
    assert "  images    3 container images are not part of the copy\n" in ran.out
    result = run_json("repo-copy", "repo", "push", "out")["result"]
    assert (result["imagesNotCopied"], result["releases"]["withdrawn"]) == (3, 1)


def test_a_memory_begins_with_the_root(vendor: Vendor) -> None:
    """An operator's own: it knows an old copy from then on."""
    shutil.copytree("trust", "old")
    mirror = ("repo", "mirror", "trust", "out", "--state", "op/state")
    ran = run(*mirror)
    assert ran.status == 4, "a memory that should be there is not made by itself"
    ran = run(*mirror, *ROOT)
    assert ran.status == 0, ran.err
    assert ran.err.startswith(
        f"note: began op/state from {ROOT[1]}: from now on --state op/state is enough"
    )
    assert ran.out.splitlines()[-1].endswith("repo check out --state op/state")
    assert TrustStore.open(Path("op/state")).publishers == {"acme"}
    vendor.publish("1.3.0")
    for more in ((), ROOT):
        ran = run(*mirror, *more)
        assert (ran.status, ran.err) == (0, "")
    # It is not asked for the root any more.
    ran = run("repo", "mirror", "old", "new", "--state", "op/state", *ROOT)
    assert (ran.status, "[rollback]" in ran.err) == (3, True)
    (vendor.place / "wrong.json").write_text("{}")
    ran = run(*mirror[:-1], "op/other", "--root", "wrong.json")
    assert (ran.status, Path("op/other").exists()) == (3, False)


def test_what_has_expired(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    move_clock(monkeypatch, 5)
    ran = run("repo", "push", "out")
    assert (ran.status, ran.out) == (3, "")
    assert "hint: a copy is made only of what devices accept today" in ran.err


def test_usage(vendor: Vendor) -> None:
    ran = run("repo", "mirror", "trust", "out")
    assert ran.status == 2
    assert ran.err.startswith("error: give --root FILE or --state DIR")
    ran = run("repo", "mirror", "trust", "out", *ROOT, "--name", "acme/nothing")
    assert ran.status == 3
    assert "hint: check --name: trust has no such application; nothing" in ran.err
    ran = run("repo", "mirror", "trust", "stick.tar", *ROOT)
    assert ran.status == 2
    assert ran.err.startswith("error: stick.tar would be a directory [refused]")
    assert "hint: write oci-archive:stick.tar for a tar" in ran.err
    for command in (("mirror", "trust"), ("push",)):
        more = ROOT if command[0] == "mirror" else ()
        ran = run("repo", *command, "oci-archive:/media/stick/a/b.tar", *more)
        assert ran.status == 2
        assert "error: /media/stick/a does not exist, and b.tar shall be" in ran.err
    ran = run("repo", "mirror", "trust", "out", *ROOT, "--pin", "one")
    assert ran.status == 2
    ran = run("repo", "mirror", "trust", "https://mirror.example/", *ROOT)
    assert ran.status == 2
    assert "can be read, not written" in ran.err
    ran = run("repo", "push", ".")
    assert ran.status == 2
    assert "is not empty, and no copy" in ran.err
