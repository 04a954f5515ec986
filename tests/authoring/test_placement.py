"""Where content goes in a copy, where it is looked for, and what devices are told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from margo_supplychain.authoring.placement import Placement
from margo_supplychain.errors import OciFormatError
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.oci import MANIFEST
from margo_supplychain.formats.record import Component, ReleaseRecord
from margo_supplychain.formats.registry_form import content_tag
from margo_supplychain.formats.versions import Version
from margo_supplychain.transport.mirrors import MirrorMap

ORIGIN = "oci://registry.example/acme/trust"
PLANT = "oci://mirror.plant:5000/copies/acme/trust"
PUMP = "oci://registry.example/acme/pump-monitor"
PROXY = "oci://tools.example:5000/proxies/nginx"


def record(
    *locations: str, components: tuple[str, ...] = (), name: str = "acme/pump-monitor"
) -> ReleaseRecord:
    return ReleaseRecord(
        name=ReleaseName.parse(name),
        version=Version.parse("1.2.0+a"),
        application_version=None,
        created=datetime(2026, 11, 21, tzinfo=UTC),
        artifact=Descriptor.of(b"package", MANIFEST),
        artifact_type=None,
        locations=locations,
        components=tuple(
            Component(
                name=f"part-{number}",
                profile="main",
                profile_type="compose",
                repository=one,
                revision="2.0.0",
                content=Descriptor.of(one.encode(), MANIFEST),
            )
            for number, one in enumerate(components)
        ),
        images=(),
        closure="complete",
    )


def places(placement: Placement, found: ReleaseRecord) -> list[str]:
    return [f"{one.repository}:{one.tag}" for one in placement.spots(found)]


def test_from_a_registry_to_another() -> None:
    placement = Placement(ORIGIN, PLANT)
    found = record(PUMP, components=("oci://registry.example/acme/charts/web", PROXY))
    assert places(placement, found) == [
        "oci://mirror.plant:5000/copies/acme/pump-monitor:1.2.0_a",
        "oci://mirror.plant:5000/copies/acme/charts/web:2.0.0",
        ("oci://mirror.plant:5000/copies/acme/tools.example-5000/proxies/nginx:2.0.0"),
    ]
    assert placement.mirrors == {
        "oci://registry.example/acme": ("oci://mirror.plant:5000/copies/acme",),
        PROXY: (
            "oci://mirror.plant:5000/copies/acme/tools.example-5000/proxies/nginx",
        ),
    }


def test_where_it_lies_is_asked_first_in_a_copy() -> None:
    placement = Placement(PLANT, "/media/stick")
    placement.infer_vendor()
    found = record(PUMP, components=(PROXY,))
    artifact, component = placement.spots(found)
    assert artifact.locations == (
        "oci://mirror.plant:5000/copies/acme/pump-monitor",
        PUMP,
    )
    assert component.locations[:2] == (
        "oci://mirror.plant:5000/copies/acme/tools.example-5000/proxies/nginx",
        PROXY,
    )
    assert (artifact.repository, artifact.tag) == (None, "acme/pump-monitor:1.2.0_a")
    assert component.tag == "tools.example:5000/proxies/nginx:2.0.0"
    assert placement.mirrors == {
        "oci://mirror.plant:5000/copies/acme": ("/media/stick",),
        "oci://registry.example/acme": ("/media/stick",),
        PROXY: ("/media/stick",),
    }


def test_from_a_stick_the_vendors_parent_is_inferred() -> None:
    found = record(PUMP, components=("oci://registry.example/acme/web",))
    placement = Placement("oci-archive:stick.tar", PLANT)
    assert places(placement, found)[0].startswith(
        "oci://mirror.plant:5000/copies/acme/registry.example/acme/pump-monitor:"
    )
    placement = Placement("oci-archive:stick.tar", PLANT)
    placement.infer_vendor()
    assert places(placement, found) == [
        "oci://mirror.plant:5000/copies/acme/pump-monitor:1.2.0_a",
        "oci://mirror.plant:5000/copies/acme/web:2.0.0",
    ]
    assert placement.mirrors == {
        "oci://registry.example/acme": ("oci://mirror.plant:5000/copies/acme",)
    }


@pytest.mark.parametrize(
    ("own", "place"),
    [
        ("oci://registry.example/acme/web", "web"),
        ("oci://registry.example/vendors/acme/pump/web", "pump/web"),
        ("oci://acme/web", "acme/web"),
        ("oci://registry.example/acme-tools/web", "registry.example/acme-tools/web"),
        ("oci://registry.example/acme", "registry.example/acme"),
    ],
)
def test_a_step_of_a_components_name_may_be_the_publishers(
    own: str, place: str
) -> None:
    placement = Placement("trust", PLANT)
    placement.infer_vendor()
    assert places(placement, record(components=(own,)))[1] == (
        f"oci://mirror.plant:5000/copies/acme/{place}:2.0.0"
    )


def test_while_nobody_knows_the_vendors_parent() -> None:
    """A repository of several publishers: a mirror is looked through for each."""
    placement = Placement(PLANT, PLANT)
    found = record("oci://registry.example/vendors/acme/pump-monitor")
    (artifact,) = placement.spots(found)
    copies = "oci://mirror.plant:5000/copies/acme"
    assert placement.looked_for(found, artifact) == (
        f"{copies}/registry.example/vendors/acme/pump-monitor",
        f"{copies}/acme/pump-monitor",
        f"{copies}/pump-monitor",
        PLANT,
    )
    # Whoever knows another copy knows more.
    placement = Placement(PLANT, PLANT)
    placement.knows("oci://registry.example/vendors/acme/trust")
    placement.knows("/media/stick")
    assert places(placement, found) == [f"{copies}/pump-monitor:1.2.0_a"]


def test_what_the_owner_maps_keeps_its_place() -> None:
    mirrors = MirrorMap(
        {"oci://registry.example/acme": ["oci://mirror.plant:5000/copies/acme"]}
    )
    placement = Placement("trust", PLANT, mirrored=mirrors.places)
    assert places(placement, record(PUMP)) == [
        "oci://mirror.plant:5000/copies/acme/pump-monitor:1.2.0_a"
    ]


def test_to_where_it_says_that_it_lies() -> None:
    placement = Placement("trust", ORIGIN)
    assert places(placement, record(PUMP)) == [f"{PUMP}:1.2.0_a"]
    assert placement.mirrors == {}


BY_DIGEST = content_tag(Digest.of(b"package"))


def test_a_release_that_names_no_location() -> None:
    """Its package lies with the metadata; a component in the place that it has."""
    placement = Placement("trust", PLANT)
    found = record(components=(PROXY, "https://charts.example/web"))
    assert places(placement, found) == [
        f"None:{BY_DIGEST}",
        "oci://mirror.plant:5000/copies/acme/tools.example-5000/proxies/nginx:2.0.0",
        f"None:{content_tag(Digest.of(b'https://charts.example/web'))}",
    ]
    assert list(placement.mirrors) == [PROXY]
    # Then from there, whoever asks.
    artifact, proxy, chart = Placement(PLANT, "/media/stick").spots(found)
    assert (artifact.tag, artifact.locations) == ("acme/pump-monitor:1.2.0_a", ())
    assert proxy.locations[-1] == PROXY
    assert chart == chart.beside()
    assert places(Placement(PLANT, ORIGIN), found)[0] == f"None:{BY_DIGEST}"
    # A name that no registry takes is no matter.
    odd = record(name="acme/-pump")
    assert places(placement, odd) == [f"None:{BY_DIGEST}"]


@pytest.mark.parametrize(
    "own",
    [
        f"oci://tools.example/{'x' * 240}",  # too long below the mirror's parent
        f"oci://registry.example/acme/{'x' * 250}",
        "oci://registry.example/acme/trust",  # is where the metadata lies
        "oci://registry.example/Acme/web",
        "ghcr.example/web",
    ],
)
def test_names_that_the_copy_can_not_have(own: str) -> None:
    placement = Placement(ORIGIN, PLANT)
    found = record(PUMP, components=(own,))
    artifact, component = placement.spots(found)
    assert artifact.tag == "1.2.0_a"
    assert component.repository is None
    assert component == component.beside()
    assert placement.mirrors == {
        "oci://registry.example/acme": ("oci://mirror.plant:5000/copies/acme",)
    }


def test_a_revision_that_is_no_tag() -> None:
    found = record(PUMP, components=("oci://registry.example/acme/web",))
    odd = replace(found.components[0], revision="2.0.0+b")
    _, component = Placement(ORIGIN, PLANT).spots(replace(found, components=(odd,)))
    assert component.repository is None
    assert component == component.beside()


def test_other_hosts() -> None:
    placement = Placement("trust", PLANT)
    found = record("https://files.example/pump", "oci://[::1]:5000/a/pump-monitor")
    assert places(placement, found) == [
        "oci://mirror.plant:5000/copies/acme/1-5000/a/pump-monitor:1.2.0_a"
    ]


def test_where_a_check_looks() -> None:
    found = record(PUMP, components=("oci://registry.example/acme/web", PROXY))
    origin = Placement(ORIGIN, ORIGIN)
    artifact, web, proxy = origin.spots(found)
    assert not origin.is_mirror(found)
    assert origin.looked_for(found, artifact) == (PUMP, ORIGIN)
    own = "oci://registry.example/acme/web"
    assert origin.looked_for(found, web) == (own, PUMP, ORIGIN)
    assert PROXY in origin.looked_for(found, proxy)
    assert [origin.is_foreign(found, one) for one in (artifact, web, proxy)] == [
        False,
        False,
        True,
    ]
    plant = Placement(PLANT, PLANT)
    plant.infer_vendor()
    artifact, web, proxy = plant.spots(found)
    assert plant.is_mirror(found)
    assert plant.looked_for(found, artifact) == (
        "oci://mirror.plant:5000/copies/acme/pump-monitor",
        PLANT,
    )
    # A mirror has what it copied, whoever had it before.
    assert PROXY not in plant.looked_for(found, proxy)
    assert not plant.is_foreign(found, proxy)
    # What says nothing lies with the metadata, and so does what has no name there.
    artifact, chart = plant.spots(record(components=("https://charts.example/web",)))
    assert plant.looked_for(found, artifact) == (PLANT,)
    assert plant.looked_for(found, chart) == (PLANT,)
    beside = Placement("trust", "trust")
    assert not beside.is_foreign(found, next(beside.spots(found)))


def test_a_trust_repository_needs_a_parent() -> None:
    with pytest.raises(OciFormatError):
        Placement("trust", "oci://registry.example/trust")
