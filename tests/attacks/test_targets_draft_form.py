"""T-179 to T-181: a draft of targets that looks like the honest one, or stops it.

Its holders sit apart, and Mallory carries the stick; she may have the online key, too,
and then needs nobody's `root finalize` to publish what was signed.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.draft_form import field_rows
from margo_supplychain.authoring.targets_draft import TargetsDraft
from margo_supplychain.errors import RefusedError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.tuf_metadata import parse_targets
from tests.attacks.test_targets_apart import ANY, NEW, Scene, edited, proposed, signed
from tests.authoring import thief
from tests.authoring.ceremony import keys_of
from tests.authoring.trust import PUMP, key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tuf.api.metadata import Targets

    from margo_supplychain.formats.tuf_metadata import RoleFile


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene.set_up(tmp_path)


def _roles(said: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = said["delegations"]["roles"][0]
    return found


def another_key(said: dict[str, Any]) -> None:
    """Put Mallory's key under the id of acme's."""
    keys, mallory = said["delegations"]["keys"], key("mallory").public_key.to_dict()
    mallory.pop("keyid", None)
    for keyid in keys:
        keys[keyid] = mallory


def free_field(said: dict[str, Any]) -> None:
    for one in said["delegations"]["keys"].values():
        one["x-note"] = "1"


def key_of_no_role(said: dict[str, Any]) -> None:
    mallory = key("mallory").public_key
    said["delegations"]["keys"][mallory.keyid] = mallory.to_dict()


def listed(said: dict[str, Any]) -> None:
    entry = {"length": 1, "hashes": {"sha256": "0" * 64}}
    said["targets"] = {"acme/releases/pump/1.0.0": entry}


# --- T-179: rows that the honest draft has as well ------------------------------------


@pytest.mark.parametrize(
    ("change", "signing", "finalizing"),
    [
        (another_key, "is not computed from its key", "publisher acme"),
        (free_field, "in another form than this package", "publisher acme"),
        (key_of_no_role, "which no role has", "delegations"),
        (lambda said: _roles(said).update(paths=["*"]), "other paths", "acme"),
        (
            lambda said: _roles(said)["paths"].append("bolt/*/*/*"),
            "other paths",
            "publisher acme",
        ),
        (
            lambda said: _roles(said).update(terminating=False),
            "does not end there",
            "publisher acme",
        ),
        (
            lambda said: _roles(said).update(terminating=1),
            "in another form than this package|not a boolean|terminating",
            "publisher acme|terminating",
        ),
        (
            lambda said: _roles(said).update({"x-note": 1}),
            "in another form than this package",
            "publisher acme",
        ),
        (listed, "lists acme/releases/pump/1.0.0 itself", "stands: targets"),
        (
            lambda said: said.update({"x-note": {"a": 1}}),
            "has the field x-note, which nobody is shown",
            "stands: x-note",
        ),
        (lambda said: said.update(custom={}), "'custom', which no rule", "custom"),
        (
            lambda said: said.update(version=2**53 - 1),
            "beyond any version that is counted to",
            "does not follow targets v1",
        ),
    ],
)
def test_draft_that_reads_like_the_honest_one(
    scene: Scene,
    change: Callable[[dict[str, Any]], object],
    signing: str,
    finalizing: str,
) -> None:
    """Rows name publishers by their key ids; what no row is about, Mallory changes."""
    honest = scene.draft()
    carried = edited(honest.data, change)
    shown = scene.parse(carried)
    for name in ("tina", "tove"):
        with pytest.raises(RefusedError, match=signing):
            shown.sign(key(name))
        # Nor beside what stands.
        with pytest.raises(RefusedError, match=finalizing):
            shown.sign(key(name), standing=_standing(scene))
    scene.refuses(signed(carried, "tina", "tove"), RefusedError, finalizing)
    assert honest.sign(key("tina"), standing=_standing(scene)).new.signers
    scene.goes_through()


def test_key_that_is_made_to_have_left(scene: Scene) -> None:
    """Noted as one that left, acme's key could never stay or return; who signs apart
    is shown what the draft says of such keys."""
    honest = scene.draft()
    carried = edited(
        honest.data, lambda said: said.update({"x-left": {"acme": ["ab" * 32]}})
    )
    shown = scene.parse(carried)
    more = set(field_rows(shown.file)) - set(field_rows(honest.file))
    assert more == {("left", f'acme  ["{"ab" * 32}"]')}
    scene.refuses(signed(carried, "tina", "tove"), RefusedError, "stands: x-left")
    scene.goes_through()


# --- T-180: the hand-over is stopped, or ends at once ---------------------------------


def junk(signatures: list[dict[str, str]]) -> None:
    signatures.append({"keyid": "ab" * 32, "sig": "00"})


def without_the_old_key(signatures: list[dict[str, str]]) -> None:
    old = key("offline").public_key.keyid
    signatures[:] = [one for one in signatures if one["keyid"] != old]


def in_upper_case(signatures: list[dict[str, str]]) -> None:
    for one in signatures:
        one["sig"] = one["sig"].upper()


def thousands(signatures: list[dict[str, str]]) -> None:
    signatures += [{"keyid": f"{one:064x}", "sig": "00"} for one in range(1000)]


@pytest.mark.parametrize(
    "change", [junk, without_the_old_key, in_upper_case, thousands]
)
def test_copy_that_has_its_name_already(
    scene: Scene, change: Callable[[list[dict[str, str]]], None]
) -> None:
    """Mallory may write where devices read. She puts the signed draft there before
    `root finalize` does, with a signature more or one less."""
    honest = scene.draft("tina", "tove", "offline")
    value = json.loads(honest.data)
    change(value["signatures"])
    there = scene.vendor.trust / "metadata/2.targets.json"
    there.write_bytes(strict_json.canonical(value))
    scene.vendor.device(scene.device).refresh()
    scene.finalize(honest.data)
    # Whole again, so that no device met a gap.
    assert there.read_bytes() == honest.data
    report = scene.vendor.repository.check(clock=scene.vendor.clock)
    assert report.violations == ()
    assert str(scene.vendor.device(scene.device).verify(PUMP, ANY).version) == ("1.0.0")


def test_draft_that_is_almost_over(scene: Scene) -> None:
    """Mallory drafts it for ten minutes: adopted in the ninth, it takes every device
    with it in the tenth."""
    soon = scene.vendor.clock.now() + timedelta(minutes=10)
    carried = edited(
        scene.draft().data, lambda said: said.update(expires=format_time(soon))
    )
    scene.refuses(
        signed(carried, "tina", "tove", "offline"),
        RefusedError,
        "and no longer: devices would refuse it soon",
    )
    scene.goes_through()


# --- T-181: keys that left come back with a draft -------------------------------------


def test_draft_from_a_place_that_was_rolled_back(scene: Scene) -> None:
    """acme's key was stolen and rotated. The thief has the online key as well, and
    shows the list from before; what is drafted there has acme's old key."""
    vendor = scene.vendor
    before = vendor.signed(f"{vendor.version('snapshot')}.snapshot.json")
    old = _standing(scene)
    signers = [key("offline"), key("ci"), key("acme-2")]
    with vendor.repository.edit(signers, clock=vendor.clock) as edit:
        edit.rotate_keys("acme", [key("acme-2").public_key], threshold=1)
    assert vendor.version("targets") == 2
    online = keys_of("ci-2")
    proposal = proposed(vendor, targets=NEW, snapshot=online, timestamp=online)
    number = vendor.version("snapshot") + 1
    snapshot = vendor.signed(f"{number - 1}.snapshot.json")
    snapshot |= {"version": number, "meta": before["meta"]}
    data = thief.signed_as("snapshot", snapshot, "ci")
    timestamp = vendor.signed("timestamp.json")
    timestamp["version"] += 1
    timestamp["meta"]["snapshot.json"] = thief.entry(number, data)
    thief.write(
        vendor,
        {
            f"{number}.snapshot.json": data,
            "timestamp.json": thief.signed_as("timestamp", timestamp, "ci"),
        },
    )
    assert proposal.trusted is not None
    drafted = TargetsDraft.following(
        old,
        version=3,
        trusted=proposal.trusted,
        proposed=proposal.root,
        now=vendor.clock.now(),
    )
    for name in ("tina", "tove"):
        drafted = drafted.sign(key(name))
    files = vendor.files()
    with pytest.raises(RefusedError, match=r"say the same as targets v2.*acme"):
        vendor.repository.adopt_root(
            proposal.finalize(),
            [key("ci-2")],
            targets=drafted.data,
            clock=vendor.clock,
        )
    assert vendor.files() == files
    vendor.repository.adopt_root(
        proposal.finalize(),
        [key(name) for name in ("ci-2", "tina", "tove")],
        clock=vendor.clock,
    )
    (acme,) = TargetsDraft.parse(
        (vendor.trust / "metadata/3.targets.json").read_bytes(),
        trusted=proposal.trusted,
        proposed=proposal.root,
    ).publishers()
    assert list(acme.keys) == [key("acme-2").public_key.keyid]


def _standing(scene: Scene) -> RoleFile[Targets]:
    return _file(scene.vendor.trust / "metadata/1.targets.json")


def _file(path: Path) -> RoleFile[Targets]:
    data = path.read_bytes()
    return parse_targets(data, role="targets", limit=len(data))
