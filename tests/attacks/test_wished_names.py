"""Mallory has the key of one application and may sign any record: she names components,
locations and revisions so that the tools of honest people harm everybody else.

No push right is hers, but to a registry of her own. What an author or a mirror's owner
runs every day must carry her release no further than her application.
"""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from margo_supplychain.authoring.candidates import (
    ResolvedComponent,
    find_candidates,
)
from margo_supplychain.authoring.content_targets import ContentTargets
from margo_supplychain.authoring.copying import LONG, Copied, copy_releases
from margo_supplychain.authoring.place import Stored
from margo_supplychain.authoring.repairing import Repaired, repair
from margo_supplychain.authoring.shelves import open_shelf
from margo_supplychain.errors import (
    BudgetError,
    FetchError,
    RefusedError,
    StorageError,
    SupplyChainError,
    ThresholdError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.oci import (
    MANIFEST,
    MARGO_APPLICATION,
    MARGO_DESCRIPTION,
    Layer,
    manifest_bytes,
)
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.record import Component
from margo_supplychain.formats.registry_form import content_tag, target_tag
from margo_supplychain.formats.versions import Version
from margo_supplychain.transport.archive_sink import ArchiveSink
from margo_supplychain.transport.mirrors import MirrorMap
from margo_supplychain.transport.tagged import TaggedSource
from margo_supplychain.transport.tagged_sink import TaggedSink
from margo_supplychain.verify.limits import Control
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.authoring.tagged import (
    HOST,
    TRUST,
    EveryRepository,
    MemoryRepository,
    TaggedVendor,
)
from tests.authoring.trust import DEVICE_POLICY, OPEN, PUMP, VALVE, key
from tests.fixtures import PACKAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from margo_supplychain.authoring.release import Release
    from margo_supplychain.formats.references import RegistryReference
    from margo_supplychain.transport.protocols import Shelf, Source

PLANT = "oci://mirror.plant:5000"
MIRROR = f"{PLANT}/acme/trust"
THIEF = "oci://evil.example/x/y"
EVIL = Version.parse("6.6.6")
POLICY = replace(OPEN, epoch=2)
PATH = f"acme/releases/pump-monitor/{EVIL}"


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaggedVendor:
    return TaggedVendor.moved(tmp_path, monkeypatch, others=[VALVE], release="1.0.0")


def forge(
    vendor: TaggedVendor,
    *wishes: tuple[str, str],
    location: str = THIEF,
    at: Sequence[str] = (THIEF,),
) -> Release:
    """Sign a release that wishes for repositories and tags, and push it elsewhere."""
    made = vendor.release(str(EVIL), content=b"evil")
    made = replace(
        made,
        locations=(location,),
        components=tuple(
            Component(
                name=f"c{number}",
                profile="p",
                profile_type="compose",
                repository=repository,
                revision=revision,
                content=made.artifact,
            )
            for number, (repository, revision) in enumerate(wishes)
        ),
    )
    with pytest.MonkeyPatch.context() as patched:
        # She does not use our checks.
        patched.setattr(ContentTargets, "put", lambda _self, _work: Stored(0, 0))
        vendor.publish_there(made)
    for url in at:
        sink = TaggedSink(vendor.registry.repository(url))
        for part in made.parts():
            with made.open(part.descriptor) as stream:
                sink.put_blob(part.descriptor, stream)
    return made


def trust(vendor: TaggedVendor) -> TrustStore:
    return TrustStore.unsafe_without_memory(root=vendor.root, publishers=None)


def sink(vendor: TaggedVendor, url: str) -> TaggedSink:
    return TaggedSink(vendor.registry.repository(url))


def copy(vendor: TaggedVendor, shelf: Shelf | None = None) -> Copied:
    return copy_releases(
        vendor.registry.source(),
        shelf or sink(vendor, MIRROR),
        trust=trust(vendor),
        content=EveryRepository(vendor.registry),
        open_repository=lambda url: sink(vendor, url),
        clock=vendor.clock,
    )


def mend(
    vendor: TaggedVendor,
    url: str,
    others: Sequence[Source] = (),
    control: Control = LONG,
) -> Repaired:
    return repair(
        sink(vendor, url),
        others,
        trust=trust(vendor),
        content=EveryRepository(vendor.registry),
        open_repository=lambda one: sink(vendor, one),
        clock=vendor.clock,
        control=control,
    )


def install(
    vendor: TaggedVendor, name: ReleaseName, version: str, url: str = MIRROR
) -> None:
    """Do what a device does that asks the mirror alone."""
    verifier = Verifier(
        store=trust(vendor),
        source=vendor.registry.source(url),
        content=_Below(vendor, url),
        policy=DEVICE_POLICY,
        clock=vendor.clock,
    )
    release = verifier.verify(name, Pin.exact(Version.parse(version)))
    verifier.fetch(release, vendor.directory / f"installed-{name.name}-{version}")


class _Below:
    """What `[mirrors]` make of locations: the same path beside the trust metadata."""

    def __init__(self, vendor: TaggedVendor, url: str) -> None:
        self._registry = vendor.registry
        self._url = url

    def sources(self, locations: Sequence[str]) -> Sequence[Source]:
        above = self._url.rpartition("/")[0]
        urls = [one.replace(f"{HOST}/acme", above) for one in locations]
        return [self._registry.source(one) for one in (*urls, self._url)]


def tags(vendor: TaggedVendor, url: str) -> dict[str, str]:
    return vendor.registry.at(url).tags


def future(vendor: TaggedVendor, ahead: int) -> str:
    newest = max(
        int(tag.partition(".")[0])
        for tag in tags(vendor, TRUST)
        if tag.endswith(".snapshot")
    )
    return f"{newest + ahead}.snapshot"


# --- T-90: names of trust metadata ---------------------------------------------------


@pytest.mark.parametrize("revision", ["2.root", "timestamp", "9.acme.valve"])
@pytest.mark.parametrize("own", [TRUST, MIRROR])
def test_component_that_wishes_to_be_metadata_of_a_mirror(
    vendor: TaggedVendor, own: str, revision: str
) -> None:
    """Its home is the trust repository and its revision the next root: the mirror tags
    it by digest alone, and devices go on."""
    copy(vendor)
    before = set(tags(vendor, MIRROR))
    evil = forge(vendor, (own, revision), at=(THIEF, TRUST))
    copy(vendor)
    added = set(tags(vendor, MIRROR)) - before
    assert content_tag(evil.artifact.digest) in added
    assert tags(vendor, MIRROR).get(revision) != str(evil.artifact.digest)
    install(vendor, PUMP, "1.0.0")
    vendor.publish_there(vendor.release("1.1.0", name=VALVE))
    assert copy(vendor).incomplete == ()
    install(vendor, VALVE, "1.1.0")


def test_repair_that_is_led_to_tag_the_next_root(vendor: TaggedVendor) -> None:
    """The author looks whether his own repository is whole, with every right to push:
    not even then does a record give a name between the metadata."""
    evil = forge(vendor, (TRUST, "2.root"))
    vendor.registry.at(TRUST).manifests.pop(str(evil.artifact.digest), None)
    mend(vendor, TRUST)
    assert "2.root" not in tags(vendor, TRUST)
    install(vendor, PUMP, "1.0.0", TRUST)
    vendor.publish_there(vendor.release("1.1.0", name=VALVE))
    install(vendor, VALVE, "1.1.0", TRUST)


def test_component_that_wishes_to_be_metadata_of_a_neighbour(
    vendor: TaggedVendor,
) -> None:
    """Another vendor's trust repository lies below the mirror's parent as well."""
    other = f"{PLANT}/acme/bolt/trust"
    sink(vendor, other).put_metadata("1.root.json", b"{}")
    forge(vendor, (f"{HOST}/acme/bolt/trust", "2.root"))
    done = copy(vendor)
    assert set(tags(vendor, other)) == {"1.root"}
    assert any(f"{PATH} can't have its name" in one for one in done.warnings)
    install(vendor, PUMP, "1.0.0")


@pytest.mark.parametrize(
    "tag",
    [
        "timestamp",
        "2.root",
        "7.snapshot",
        "1.3m.pump",
        f"1._{'a' * 64}",
        target_tag(Digest.of(b"x")),
        content_tag(Digest.of(b"x")),
        "a." + "0" * 64,
    ],
)
def test_content_under_a_tag_of_metadata(vendor: TaggedVendor, tag: str) -> None:
    """The last line: whatever led there, a sink with trust metadata refuses it."""
    made = vendor.release("2.0.0")
    (what, data) = _manifest(made)
    place = sink(vendor, TRUST)
    before = dict(tags(vendor, TRUST))
    if tag in before:
        del vendor.registry.at(TRUST).tags[tag]
    with pytest.raises(RefusedError, match="holds trust metadata"):
        place.put_manifest(what, data, tag=tag)
    assert tag not in tags(vendor, TRUST)
    place.put_manifest(what, data, tag=content_tag(what.digest))
    # What is no trust repository may have such names: 1.2.0 is one.
    sink(vendor, THIEF).put_manifest(what, data, tag=tag)


def test_mirror_that_was_vandalised_heals(vendor: TaggedVendor) -> None:
    """Names of the next root, of a snapshot to come and of the current role were given
    to a thief's manifest: the next copy, or a repair, makes the mirror whole."""
    copy(vendor)
    made = vendor.release("6.6.6", content=b"evil")
    what, data = _manifest(made)

    def vandalise() -> None:
        place = vendor.registry.repository(MIRROR)
        for tag in ("2.root", future(vendor, 1), future(vendor, 0), "1.targets"):
            place.put_manifest(data, what.media_type, tag=tag)

    vandalise()
    with pytest.raises(FetchError):
        install(vendor, PUMP, "1.0.0")
    vendor.publish_there(vendor.release("1.1.0", name=VALVE))
    assert copy(vendor).warnings == ()
    install(vendor, VALVE, "1.1.0")
    vandalise()
    done = mend(vendor, MIRROR, [vendor.registry.source()])
    assert done.warnings == ()
    assert "2.root" not in tags(vendor, MIRROR)
    install(vendor, PUMP, "1.0.0")


def test_root_that_can_not_be_removed(
    vendor: TaggedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that deletes nothing: the rest is copied, and somebody is told."""
    copy(vendor)
    what, data = _manifest(vendor.release("6.6.6", content=b"evil"))
    vendor.registry.repository(MIRROR).put_manifest(data, "", tag="2.root")

    def refuse(_self: object, _digest: Digest) -> None:
        raise RefusedError("deleting is switched off")

    monkeypatch.setattr(
        "tests.authoring.tagged.MemoryRepository.delete_manifest", refuse
    )
    vendor.publish_there(vendor.release("1.1.0", name=VALVE))
    for done in (copy(vendor), mend(vendor, MIRROR)):
        assert any("deleting is switched off" in one for one in done.warnings)
    assert tags(vendor, MIRROR)["2.root"] == str(what.digest)


def test_own_margo_yaml_that_wishes_for_the_trust_repository(
    vendor: TaggedVendor,
) -> None:
    """It need not be malice: an author is told before anything is pushed."""
    made = vendor.release("2.0.0")
    wish = Component(
        name="c",
        profile="p",
        profile_type="compose",
        repository=TRUST,
        revision="2.root",
        content=made.artifact,
    )
    before = vendor.registry.copy()
    targets = ContentTargets(sink(vendor, TRUST))
    with pytest.raises(RefusedError, match="between the trust metadata"):
        list(targets.homes(targets.located(replace(made, components=(wish,)))))
    called = replace(made, name=ReleaseName("acme", "trust"))
    for evil in (replace(made, locations=(TRUST,)), called):
        with pytest.raises(RefusedError, match="between the trust metadata"):
            targets.located(evil)
    assert vendor.registry == before
    vendor.publish_there(made)
    assert vendor.newest_there() == "2.0.0"


# --- T-91: one key that stops every copy ---------------------------------------------


def _nowhere(vendor: TaggedVendor) -> None:
    forge(vendor, at=())


def _part_of_it_nowhere(vendor: TaggedVendor) -> None:
    forge(vendor, ("oci://gone.example/a", "1"), at=())


def _no_manifest(vendor: TaggedVendor) -> None:
    evil = forge(vendor)
    for held in (vendor.registry.at(THIEF).manifests,):
        held[str(evil.artifact.digest)] = b"{}" * (evil.artifact.size // 2)


def _record_nowhere(vendor: TaggedVendor) -> None:
    before = set(tags(vendor, TRUST))
    forge(vendor)
    trusted = vendor.registry.at(TRUST)
    for tag in set(tags(vendor, TRUST)) - before:
        if tag.startswith("t."):
            trusted.blobs.pop(f"sha256:{tag[2:]}")


@pytest.mark.parametrize(
    "attack", [_nowhere, _part_of_it_nowhere, _no_manifest, _record_nowhere]
)
def test_release_that_can_not_be_copied(
    vendor: TaggedVendor, attack: Callable[[TaggedVendor], None]
) -> None:
    """What is wrong with one release is counted and said; everybody else's arrive."""
    copy(vendor)
    attack(vendor)
    vendor.publish_there(vendor.release("1.1.0", name=VALVE))
    done = copy(vendor)
    assert done.incomplete == (PATH,)
    assert sum(PATH in one for one in done.warnings) == 1
    install(vendor, VALVE, "1.1.0")
    with pytest.raises(SupplyChainError):
        install(vendor, PUMP, str(EVIL))
    with vendor.at_registry().edit([key("ci")], clock=vendor.clock) as edit:
        edit.withdraw(PUMP, EVIL, reason="stolen key")
    assert copy(vendor).incomplete == ()
    install(vendor, PUMP, "1.0.0")


def test_policy_that_is_nowhere(vendor: TaggedVendor) -> None:
    """Nobody but its own publisher's applications miss it."""
    with vendor.at_registry().edit(vendor.keys, clock=vendor.clock) as edit:
        edit.add_application(
            ReleaseName("acme", "lost"), [key("ci").public_key], policy=POLICY
        )
    vendor.publish_there(vendor.release("1.0.0", name=ReleaseName("acme", "lost")))
    trusted = vendor.registry.at(TRUST)
    (tag,) = [
        tag
        for tag in trusted.tags
        if tag.startswith("t.")
        and trusted.blobs[f"sha256:{tag[2:]}"] == POLICY.to_bytes()
    ]
    held = trusted.blobs.pop(f"sha256:{tag[2:]}")
    done = copy(vendor)
    assert done.incomplete == ("acme/lost",)
    install(vendor, VALVE, "1.0.0")
    trusted.blobs[f"sha256:{tag[2:]}"] = held
    assert copy(vendor).incomplete == ()


@pytest.mark.parametrize("is_package", [True, False])
def test_tag_of_another_applications_next_release(
    vendor: TaggedVendor, *, is_package: bool
) -> None:
    """She takes valve's next version in the mirror, and at the origin by a repair."""
    home = f"{HOST}/acme/valve"
    if is_package:
        evil = forge(vendor, location=home, at=(home,))
    else:
        evil = forge(vendor, (home, "1.1.0"))
    for done in (copy(vendor), mend(vendor, TRUST)):
        assert done.warnings == ()
    at = f"{PLANT}/acme/valve"
    assert set(tags(vendor, at)) == set(tags(vendor, home)) == {"1.0.0"}
    assert content_tag(evil.artifact.digest) in tags(vendor, MIRROR)
    vendor.publish_there(vendor.release("1.1.0", name=VALVE))
    assert copy(vendor).incomplete == ()
    assert set(tags(vendor, at)) == {"1.0.0", "1.1.0"}
    install(vendor, VALVE, "1.1.0")


def test_tag_that_somebody_took_in_the_mirror(vendor: TaggedVendor) -> None:
    """The release lies beside the trust metadata instead, where devices look."""
    what, data = _manifest(vendor.release("6.6.6", content=b"evil"))
    at = vendor.registry.repository(f"{PLANT}/acme/valve")
    at.put_manifest(data, what.media_type, tag="1.0.0")
    done = copy(vendor)
    path = "acme/releases/valve/1.0.0"
    assert (done.incomplete, len(done.warnings)) == ((), 1)
    assert done.warnings[0].startswith(f"{path} can't have its name")
    assert tags(vendor, f"{PLANT}/acme/valve")["1.0.0"] == str(what.digest)
    install(vendor, VALVE, "1.0.0")


def test_hosts_that_never_answer(vendor: TaggedVendor) -> None:
    """Each record names another host; nobody waits for all of them, nor twice."""
    asked: list[str] = []

    class Silent(EveryRepository):
        def sources(self, locations: Sequence[str]) -> Sequence[Source]:
            return [self._source(one) for one in locations]

        def _source(self, url: str) -> Source:
            def before(_what: str) -> None:
                if "//evil" in url:
                    asked.append(url.split("/")[2])
                    raise FetchError("no answer", url=url, unreachable=True)

            return TaggedSource(vendor.registry.repository(url, before))

    for number in range(20):
        made = replace(
            vendor.release(f"6.6.{number}", content=b"%d" % number),
            locations=(f"oci://evil{number % 15}.example/x", f"oci://evil{number}.x/y"),
        )
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(ContentTargets, "put", lambda _self, _work: Stored(0, 0))
            vendor.publish_there(made)
    done = copy_releases(
        vendor.registry.source(),
        sink(vendor, MIRROR),
        trust=trust(vendor),
        content=Silent(vendor.registry),
        open_repository=lambda url: sink(vendor, url),
        clock=vendor.clock,
    )
    assert (done.releases, len(done.incomplete)) == (2, 20)
    assert len(asked) == len(set(asked)) == 10
    assert any("do not answer" in one for one in done.warnings)
    install(vendor, VALVE, "1.0.0")


# --- T-92: a repair without end ------------------------------------------------------


class _Liar:
    """Offers one more root each time; implements `Source`."""

    url = "oci://liar.example/acme/trust"

    def __init__(self) -> None:
        self.asked = 0
        self._highest = 0

    def metadata(self, filename: str, *, limit: int, tick: object = None) -> bytes:
        del limit, tick
        self.asked += 1
        version = int(filename.partition(".")[0])
        if version > self._highest and self.asked < 1000:
            self._highest = version
            return b"{}"
        raise FetchError("no", url=self.url, missing=True)

    def blob(self, *_: object, **__: object) -> NoReturn:
        raise FetchError("no", url=self.url, missing=True)

    target = blob


def test_helper_that_always_has_one_more_root(vendor: TaggedVendor) -> None:
    """The place's timestamp does not verify, and a liar offers root after root."""
    place = sink(vendor, TRUST)
    good = place.metadata("timestamp.json", limit=1 << 16)
    place.put_metadata("timestamp.json", good.replace(b'"sig":"', b'"sig":"00'))
    liar = _Liar()
    with pytest.raises(ThresholdError):
        mend(vendor, TRUST, [liar])
    assert liar.asked < 20
    place.put_metadata("timestamp.json", good)
    assert mend(vendor, TRUST, [liar]).warnings == ()


def test_repair_that_takes_too_long(vendor: TaggedVendor) -> None:
    control = Control(deadline=timedelta(0))
    with pytest.raises(BudgetError):
        mend(vendor, TRUST, control=control)


# --- T-93: hosts that only a margo.yaml names ----------------------------------------


class _Line:
    """Opens repositories as `find_candidates` does, and notes each host."""

    def __init__(self, vendor: TaggedVendor, *, silent: Sequence[str] = ()) -> None:
        self.asked: list[str] = []
        self._vendor = vendor
        self._silent = silent

    def __call__(
        self, reference: RegistryReference, *, network: object
    ) -> MemoryRepository:
        del network

        def before(what: str) -> None:
            self.asked.append(f"{reference.host} {what}")
            if reference.host in self._silent:
                raise FetchError("no answer", url=f"{url}/v2/", unreachable=True)

        url = f"https://{reference.host}"
        return self._vendor.registry.repository(reference.repository, before)


def put_package(vendor: TaggedVendor, *hosts: str) -> None:
    """Push packages whose descriptions name components at these hosts."""
    described = (PACKAGES / "pump-monitor" / "margo.yaml").read_text()
    place = sink(vendor, f"{HOST}/acme/thing")
    for number, host in enumerate(hosts, len(tags(vendor, place.url))):
        text = described.replace("//registry.example/", f"//{host}/").encode()
        what = Descriptor.of(text, MARGO_DESCRIPTION)
        place.put_blob(what, io.BytesIO(text))
        data = manifest_bytes(
            artifact_type=MARGO_APPLICATION, layers=[Layer(what, "margo.yaml")]
        )
        place.put_manifest(Descriptor.of(data, MANIFEST), data, tag=f"1.{number}.0")


def look(
    monkeypatch: pytest.MonkeyPatch, line: _Line, **options: Any
) -> list[ResolvedComponent]:
    monkeypatch.setattr(
        "margo_supplychain.authoring.candidates.RegistryRepository", line
    )
    found = find_candidates(f"{HOST}/acme/thing", network=None, most=50, **options)
    return [part for one in found.candidates for part in one.components]


def test_component_that_only_margo_yaml_places(
    vendor: TaggedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever pushes a package chooses no host that an author's machine speaks to."""
    put_package(vendor, "evil.example", "127.0.0.1:8500", "registry.example")
    line = _Line(vendor)
    found = look(monkeypatch, line)
    assert {one.partition(" ")[0] for one in line.asked} == {"registry.example"}
    told = [one.problem for one in found]
    assert sum("only its margo.yaml names" in one for one in told) == 4
    # Unless the author says where it is.
    put_package(vendor, "partner.example")
    mirrors = MirrorMap({"oci://partner.example": [f"{PLANT}/partner"]})
    look(monkeypatch, line, mirrored=mirrors.places)
    assert {one.partition(" ")[0] for one in line.asked} == {
        "registry.example",
        "mirror.plant:5000",
    }


def test_registry_of_components_that_is_silent(
    vendor: TaggedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for once, however many tags and components name it."""
    put_package(vendor, *["partner.example"] * 10)
    mirrors = MirrorMap({"oci://partner.example": ["oci://silent.example"]})
    line = _Line(vendor, silent=["silent.example"])
    found = look(monkeypatch, line, mirrored=mirrors.places)
    assert sum(one.startswith("silent.example") for one in line.asked) == 1
    assert sum("did not answer before" in one.problem for one in found) == 19


def test_looking_at_tags_ends(
    vendor: TaggedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_package(vendor, "registry.example")
    with pytest.raises(FetchError, match="too long in all"):
        look(monkeypatch, _Line(vendor), deadline=1e-9)
    hours = iter(range(0, 10**9, 200))
    monkeypatch.setattr(
        "margo_supplychain.authoring.candidates.time",
        SimpleNamespace(monotonic=lambda: next(hours)),
    )
    put_package(vendor, *["registry.example"] * 5)
    line = _Line(vendor)
    with pytest.raises(FetchError, match="too long in all"):
        look(monkeypatch, line)
    assert len(line.asked) < 5


# --- T-94: links beside what is written ----------------------------------------------


def _part(stick: Path, outside: Path) -> str:
    (stick / ".s.tar.part").symlink_to(outside)
    return f"oci-archive:{stick / 's.tar'}"


def _metadata(stick: Path, outside: Path) -> str:
    (stick / "metadata").symlink_to(outside)
    return str(stick)


def _deep(stick: Path, outside: Path) -> str:
    (stick / "metadata").mkdir()
    (stick / "targets").mkdir()
    (stick / "targets" / "acme").symlink_to(outside)
    return str(stick)


def _blobs(stick: Path, outside: Path) -> str:
    (stick / "blobs").mkdir()
    (stick / "blobs/sha256").symlink_to(outside)
    return f"oci-layout:{stick}"


def _lock(stick: Path, outside: Path) -> str:
    (stick / ".lock").symlink_to(outside / "lock")
    return str(stick)


@pytest.mark.parametrize("attack", [_part, _metadata, _deep, _blobs, _lock])
def test_links_on_a_stick(
    vendor: TaggedVendor, attack: Callable[[Path, Path], str]
) -> None:
    """Somebody prepared the stick that a mirror is written to."""
    stick, outside = vendor.directory / "stick", vendor.directory / "outside"
    for one in (stick, outside):
        one.mkdir()
    (outside / "note").write_text("precious")
    (outside / ".tmp-mine").write_text("precious")
    before = files(outside)
    url = attack(stick, outside)
    with pytest.raises(RefusedError, match="symbolic link"), open_shelf(url):
        pass
    assert files(outside) == before
    for path in [*stick.rglob("*")]:
        if path.is_symlink():
            path.unlink()
    with open_shelf(url) as shelf:
        assert copy(vendor, shelf).incomplete == ()


def test_link_beside_an_archive_that_is_opened_alone(vendor: TaggedVendor) -> None:
    outside = vendor.directory / "outside"
    outside.mkdir()
    (vendor.directory / ".s.tar.part").symlink_to(outside)
    archive = ArchiveSink(vendor.directory / "s.tar")
    with pytest.raises(StorageError, match="symbolic link"):
        archive.put_metadata("1.root.json", b"{}")
    assert not list(outside.iterdir())


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def _manifest(made: Release) -> tuple[Descriptor, bytes]:
    with made.open(made.artifact) as stream:
        return made.artifact, stream.read()
