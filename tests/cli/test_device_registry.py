"""A device whose repository and content lie in registries; requests are counted."""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.cli import device_watch
from margo_supplychain.formats import oci
from margo_supplychain.formats.archives import build_compose_archive
from margo_supplychain.formats.closure import children, is_manifest
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.oci import Layer, manifest_bytes
from margo_supplychain.storage.content_store import ContentStore
from margo_supplychain.transport import attempts, patience
from margo_supplychain.transport.opening import open_sink
from tests.cli.plant import APPLICATION, Plant
from tests.cli.running import Ran, run, validate
from tests.registries.between import Between
from tests.registries.servers import docker_registry
from tests.world.repository import GENERIC, WASM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from margo_supplychain.transport.protocols import Sink
    from tests.registries.servers import DockerRegistry

VENDOR = "oci://registry.acme.example/acme"


class Registered(Plant):
    """A plant whose repository lies at `where`, an oci:// URL without the last step."""

    def __init__(self, place: Path, where: str) -> None:
        super().__init__(place)
        self.where = where

    def push(self, *contents: tuple[str, Descriptor]) -> None:
        """Put the repository into the registry, and content below its names."""
        files = self.world.publish()
        for name, what in contents:
            sink = open_sink(f"{self.where}/{name}")
            self._push_content(sink, what)
        trust = open_sink(f"{self.where}/trust")
        for (path, _), data in files.targets.items():
            trust.put_target(path, Descriptor.of(data, "a/b"), io.BytesIO(data))  # type: ignore[arg-type]  # the world's paths are right
        for name, data in sorted(files.metadata.items()):
            if name != "timestamp.json":
                trust.put_metadata(name, data)
        trust.put_metadata("timestamp.json", files.metadata["timestamp.json"])
        root = self.place / "1.root.json"
        root.write_bytes(files.metadata["1.root.json"])

    def _push_content(self, sink: Sink, what: Descriptor) -> None:
        data = self.world.files.blobs[str(what.digest)]
        if not is_manifest(what):
            sink.put_blob(what, io.BytesIO(data))
            return
        for part in children(what, data):
            self._push_content(sink, part.descriptor)
        sink.put_manifest(what, data)

    def trust_it(self, source: str, *more: str) -> Ran:
        given = ["--root", "1.root.json", "--publisher", "acme", "--state", "device"]
        return run("device", "init", *given, "--source", source, *more)

    def artifact(self, count: int) -> Descriptor:
        """Serve an artifact of `count` small layers."""
        layers = [
            self.world.add_blob(f"layer {number}".encode(), WASM)
            for number in range(count)
        ]
        self.world.add_blob(b"{}", oci.EMPTY_TYPE)
        data = manifest_bytes(
            artifact_type=GENERIC, layers=[Layer(descriptor=one) for one in layers]
        )
        return self.world.add_blob(data, oci.MANIFEST)


@pytest.fixture
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def between(registry: DockerRegistry) -> Iterator[Between]:
    """What the device asks, and on how many connections."""
    with Between(to=registry.host) as relay:
        yield relay


@pytest.fixture
def plant(place: Path, registry: DockerRegistry) -> Registered:
    return Registered(place, f"oci://{registry.host}/acme")


def table(prefix: str, *places: str) -> str:
    named = ", ".join(f'"{one}"' for one in places)
    return f'\n[mirrors]\n"{prefix}" = [{named}]\n'


def append(plant: Plant, text: str) -> None:
    path = plant.state / "device.toml"
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(text)


def released(plant: Registered, count: int = 6, **record: Any) -> Descriptor:
    what = plant.artifact(count)
    plant.world.release("1.2.0", APPLICATION, artifact=what, **record)
    return what


def test_an_up_to_date_device_makes_two_requests(
    plant: Registered, between: Between
) -> None:
    where = f"oci://{between.host}/acme"
    what = released(plant, locations=(f"{where}/pump-monitor",))
    plant.push(("pump-monitor", what))
    ran = plant.trust_it(f"{where}/trust")
    assert (ran.status, ran.err) == (0, "")
    assert f"  source  {where}/trust\n" in ran.out
    assert between.passed == []
    assert plant.verify().status == 0
    first = len(between.passed)
    assert first > 2
    acts: tuple[Callable[[], Ran], ...] = (
        plant.verify,
        lambda: plant.run("refresh"),
    )
    for act in acts:
        between.passed.clear()
        ran = act()
        assert (ran.status, ran.err) == (0, "")
        assert [(one.method, one.path, one.status) for one in between.passed] == [
            ("GET", "/v2/acme/trust/manifests/2.root", 404),
            ("GET", "/v2/acme/trust/manifests/timestamp", 200),
        ]
    assert between.connections == 1


def test_one_round_trip_for_each_blob(plant: Registered, between: Between) -> None:
    where = f"oci://{between.host}/acme"
    what = released(plant, 50, locations=(f"{where}/pump-monitor",))
    plant.push(("pump-monitor", what))
    assert plant.trust_it(f"{where}/trust").status == 0
    assert plant.verify().status == 0
    between.passed.clear()
    ran = plant.fetch()
    assert (ran.status, ran.err) == (0, "")
    asked = [one for one in between.passed if "/acme/trust/" not in one.path]
    assert len(asked) == 51  # each layer and the config; the manifest is here
    assert {(one.method, one.status) for one in asked} == {("GET", 200)}
    assert all("/acme/pump-monitor/blobs/" in one.path for one in asked)
    assert between.connections <= 4


def test_components_lie_in_their_own_repositories(
    plant: Registered, between: Between
) -> None:
    """The record names the vendor's registry; the plant asks its own."""
    archive = build_compose_archive(
        {"compose.yaml": b"services: {web: {image: a.example/b@sha256:" + b"0" * 64},
        top="web",
    )
    component = plant.component("web", "compose", archive)
    what = released(
        plant,
        components=(component,),
        locations=(f"{VENDOR}/pump-monitor:1.2.0",),
    )
    plant.push(("pump-monitor", what), ("components/web", component.content))
    assert plant.trust_it(f"{VENDOR}/trust").status == 0
    append(
        plant,
        table(VENDOR, f"oci://{between.host}/acme")
        + f'"oci://registry.example/acme" = ["oci://{between.host}/acme/components"]\n',
    )
    assert plant.verify().status == 0
    between.passed.clear()
    ran = plant.fetch()
    assert (ran.status, ran.err) == (0, "")
    assert {one.status for one in between.passed if "root" not in one.path} == {200}
    asked = [one.path for one in between.passed if "/acme/trust/" not in one.path]
    web = [one for one in asked if one.startswith("/v2/acme/components/web/")]
    own = [one for one in asked if one.startswith("/v2/acme/pump-monitor/")]
    assert (len(web), len(own), len(asked)) == (2, 7, 9)


def test_a_stick_stands_in_for_all_registries(
    plant: Registered, registry: DockerRegistry
) -> None:
    """An OCI layout with metadata and content, and no network at all."""
    what = released(plant, locations=(f"{VENDOR}/pump-monitor",))
    plant.where = f"oci-layout:{plant.place}"
    sink = open_sink(f"oci-layout:{plant.place}/stick")
    with contextlib.closing(sink):
        plant._push_content(sink, what)
    (plant.place / "trust").symlink_to("stick")
    plant.push()
    assert plant.trust_it(f"{VENDOR}/trust").status == 0
    append(plant, table(VENDOR, "oci-layout:../stick"))
    ran = plant.fetch()
    assert (ran.status, ran.err) == (0, "")


def test_the_next_mirror_when_one_is_gone(
    plant: Registered, registry: DockerRegistry
) -> None:
    what = released(plant, locations=(f"{VENDOR}/pump-monitor",))
    plant.push(("pump-monitor", what))
    assert plant.trust_it(f"{VENDOR}/trust").status == 0
    append(plant, table(VENDOR, "../not-mounted", f"oci://{registry.host}/acme"))
    ran = plant.fetch()
    assert (ran.status, ran.err) == (0, "")


def test_the_trust_repository_is_asked_last(
    plant: Registered, between: Between
) -> None:
    """A vendor who keeps it all in one repository, and says of no location."""
    what = released(plant)
    plant.push(("trust", what))
    assert plant.trust_it(f"oci://{between.host}/acme/trust").status == 0
    ran = plant.fetch()
    assert (ran.status, ran.err) == (0, "")


def test_content_that_the_owner_names(plant: Registered, between: Between) -> None:
    """`content` is instead of what releases say: nobody else is asked."""
    what = released(plant, locations=(f"oci://{between.host}/acme/pump-monitor",))
    plant.push(("pump-monitor", what))
    store = ContentStore.create(plant.place / "stick")
    for data in plant.world.files.blobs.values():
        store.put(Descriptor.of(data, "a/b"), io.BytesIO(data))
    assert plant.trust_it(f"{plant.where}/trust").status == 0
    plant.edit("# content = [", 'content = ["../stick"] #')
    assert plant.fetch().status == 0
    assert between.passed == []
    shutil.rmtree(plant.place / "stick" / "blobs" / "sha256")
    shutil.rmtree(plant.place / "staging")
    ran = plant.fetch()
    assert (ran.status, between.passed) == (4, [])


def test_a_root_that_is_fetched_by_its_digest(
    plant: Registered, registry: DockerRegistry
) -> None:
    """What the owner wrote down before counts: mirrors, and plain http."""
    released(plant)
    plant.push()
    digest = Descriptor.of((plant.place / "1.root.json").read_bytes(), "a/b").digest.hex
    append(plant, table(VENDOR, f"oci://{registry.host}/acme"))
    given = ["--publisher", "acme", "--state", "device", "--source", f"{VENDOR}/trust"]
    ran = run("device", "init", "--root-sha256", digest, *given)
    assert (ran.status, ran.err) == (0, "")
    assert plant.run("refresh").status == 0


def test_a_registry_of_its_own_authority(
    place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The certificates stand in device.toml, relative to it."""
    with docker_registry(tmp_path_factory.mktemp("tls"), tls="mutual") as registry:
        plant = Registered(place, f"oci://{registry.host}/acme")
        what = released(plant)
        network = registry.network()
        files = plant.world.publish()
        for name, content in (("trust", None), ("trust", what)):
            sink = open_sink(f"{plant.where}/{name}", network=network)
            if content is not None:
                plant._push_content(sink, content)
                continue
            for (path, _), data in files.targets.items():
                sink.put_target(path, Descriptor.of(data, "a/b"), io.BytesIO(data))  # type: ignore[arg-type]  # as above
            for file, data in sorted(files.metadata.items()):
                sink.put_metadata(file, data)
        (place / "1.root.json").write_bytes(files.metadata["1.root.json"])
        assert plant.trust_it(f"{plant.where}/trust").status == 0
        ran = plant.verify()
        assert ran.status == 4
        access = network.registries[registry.host]
        assert access.ca_file
        assert access.certificate
        assert access.private_key
        shutil.copy(access.ca_file, plant.state / "ca.pem")
        shutil.copy(access.private_key, plant.state / "device.key")
        key = plant.state / "device.key"
        key.chmod(0o600)
        append(
            plant,
            f'\n[registry."{registry.host}"]\nca_file = "ca.pem"\n'
            f'certificate = "{access.certificate}"\nprivate_key = "device.key"\n',
        )
        ran = plant.fetch()
        assert (ran.status, ran.err) == (0, "")
        key.chmod(0o640)
        for ran in (plant.fetch(), plant.run("refresh")):
            assert ran.status == 0
            assert ran.err == (
                "note: device/device.key is a private key that others may read: chmod "
                "600 device/device.key\n"
            )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('\n[mirrors]\n"https://a.example" = ["b"]\n', "is no prefix of a location"),
        ('\n[registry."a.example"]\npassword = "x"\n', "unknown key 'password'"),
        ("\n[registries]\n", "unknown table 'registries'"),
    ],
)
def test_a_table_that_is_none(place: Path, text: str, said: str) -> None:
    plant = Plant(place)
    plant.publish("1.0.0")
    assert plant.init().status == 0
    append(plant, text)
    ran = plant.verify()
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err
    assert "device.toml: " in ran.err


FILES = {
    "ca_file": "certificate",
    "certificate": "certificate",
    "private_key": "private key",
}


@pytest.mark.parametrize("key", FILES)
def test_a_file_that_is_named_and_no_good(place: Path, key: str) -> None:
    """Nothing to decide on copies for: the owner's file is wrong, not the network."""
    plant = Plant(place)
    plant.publish("1.0.0")
    assert plant.init().status == 0
    assert plant.fetch().status == 0
    pem = "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n"
    table = '\n[registry."a.example"]\n'
    for each in FILES:
        (plant.state / each).write_text(pem)
        (plant.state / each).chmod(0o600)
        table += f'{each} = "{each}"\n'
    append(plant, table)
    path = plant.state / key
    acts: tuple[Callable[[], Ran], ...] = (
        plant.verify,
        plant.fetch,
        lambda: plant.run("refresh"),
    )
    assert [act().status for act in acts] == [0, 0, 0]
    asked = f"registry.'a.example'.{key}: device/{key} "
    path.write_text("no PEM")
    for act in acts:
        ran = act()
        assert (ran.status, ran.out) == (2, "")
        assert f"{asked}holds no {FILES[key]} in PEM" in ran.err
    path.unlink()
    assert f"{asked}does not exist" in plant.verify().err
    path.mkdir()
    assert f"{asked}can't be read: " in plant.verify().err
    # What asks nobody goes on.
    assert plant.run("status").status == 0
    assert plant.run("confirm", APPLICATION).status == 0


# --- mirrors that do not answer ------------------------------------------------------


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A host that accepts connections and says nothing."""
    monkeypatch.setattr(patience, "PATIENCE", 0.4)
    monkeypatch.setattr(device_watch, "PATIENCE", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_mirror_that_never_answers(
    plant: Registered, between: Between, silent: str
) -> None:
    """It costs two short tries for the whole call, however much lies there."""
    archive = build_compose_archive({"compose.yaml": b"services: {}"}, top="web")
    component = plant.component("web", "compose", archive)
    where = (f"{VENDOR}/pump-monitor:1.2.0",)
    what = released(plant, components=(component,), locations=where)
    plant.push(("pump-monitor", what), ("components/web", component.content))
    assert plant.trust_it(f"{VENDOR}/trust").status == 0
    append(
        plant,
        table(VENDOR, f"oci://{silent}/acme", f"oci://{between.host}/acme")
        + f'"oci://registry.example/acme" = ["oci://{silent}/acme/components", '
        f'"oci://{between.host}/acme/components"]\n',
    )
    began = time.monotonic()
    asked = ("device", "fetch", APPLICATION, "--pin", "^1.0", "--to", "staging")
    ran = run("-v", *asked, "--state", "device")
    assert ran.status == 0
    assert time.monotonic() - began < 8
    notes = ran.err.splitlines()
    assert f"note: no answer from oci://{silent}/acme/trust yet" in notes
    gone = [one for one in notes if "did not answer within" in one]
    assert len(gone) == 1
    assert f"note: content came from oci://{between.host}/acme/pump-monitor" in notes
    shutil.rmtree(plant.place / "staging")
    ran = plant.fetch("^1.0", "--explain")
    assert f"source oci://{between.host}/acme/trust, reached yes" in ran.out
    assert f"from oci://{between.host}/acme/components/web" in ran.out
    lines = plant.run("status").out.splitlines()
    assert lines[3] == f"    source     {VENDOR}/trust"
    both = f"oci://{silent}/acme/trust, oci://{between.host}/acme/trust"
    assert lines[4] == f"    asked at   {both}"
    document = plant.run("status", json=True).json
    validate(document, "device-status")
    (store,) = document["result"]["stores"]
    assert store["mirrors"] == both.split(", ")


def test_a_mirror_that_refuses_is_asked_once(
    plant: Registered, between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = released(plant, locations=(f"{VENDOR}/pump-monitor",))
    plant.push(("pump-monitor", what))
    assert plant.trust_it(f"{VENDOR}/trust").status == 0
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"127.0.0.1:{server.getsockname()[1]}"
    append(plant, table(VENDOR, f"oci://{closed}/acme", f"oci://{between.host}/acme"))
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=slept.append)
    monkeypatch.setattr(attempts, "time", clock)
    ran = plant.fetch()
    assert (ran.status, ran.err) == (0, "")
    assert len(slept) == 1
