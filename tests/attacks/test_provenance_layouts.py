"""Layouts and demands: taken away, weakened, replaced, expired, or without meaning.

Only the publisher's offline key says which layout serves which release. Mallory holds
the application's online key, and with it writes the record.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import (
    DigestMismatchError,
    FetchError,
    PolicyError,
    RollbackError,
    TooLargeError,
    UnknownTargetError,
)
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import LayoutRule, PublisherPolicy
from tests.attacks.proven import NAME, PROVEN, PUMP, Plant, current, running
from tests.attacks.test_provenance_steps import component
from tests.world import World
from tests.world.provenance import (
    CLOSED,
    MANIFEST,
    envelope,
    keyid,
    layout,
    linked,
    step,
    steps,
)
from tests.world.repository import key

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.formats.digests import Digest
    from tests.world.provenance import Json

# All that Mallory wants a release to have gone through.
WEAK = [
    step(
        "package",
        "packager",
        materials=[("ALLOW", "*")],
        products=[("REQUIRE", MANIFEST), ("ALLOW", "*")],
    )
]


def packaged(plant: Plant, version: str, *signers: str) -> Any:
    """Return a run of which only the last step is there."""
    run = plant.run(version)
    for name in ("build", "test"):
        del run.links[name]
    run.links["package"]["materials"] = {}
    if signers:
        run.signers["package"] = signers
    return run


# --- T-230: a layout of Mallory's own ------------------------------------------------


def test_layout_listed_by_the_online_key(tmp_path: Path) -> None:
    """The application's role lists a layout of its own, signed by its own key, and a
    record that names it: neither that path nor that number is the role's to give."""
    plant = running(tmp_path)
    weak = envelope(layout(WEAK), PUMP.role)
    plant.world.add_target(PUMP.role, PUMP.layout_path(2), weak)
    plant.publish(packaged(plant, "1.1.0"), number=2)
    plant.refused("layout-unknown", "2")


def test_layout_listed_by_the_online_key_over_the_true_one(tmp_path: Path) -> None:
    """The same under the number of the true layout: the offline role's is read."""
    plant = running(tmp_path)
    weak = envelope(layout(WEAK), PUMP.role)
    plant.world.add_target(PUMP.role, PUMP.layout_path(1), weak)
    plant.publish(packaged(plant, "1.1.0"))
    plant.refused("missing-step", "build")


def test_layout_replaced_on_a_mirror(tmp_path: Path) -> None:
    """A mirror serves a weak layout, signed by whomever, in place of the true one."""
    plant = running(tmp_path)
    plant.publish(plant.run("1.1.0"))
    plant.verified("1.1.0")
    path = PUMP.layout_path(1)
    true = plant.world.roles["acme"].targets[path]
    weak = envelope(layout(WEAK), "acme")
    plant.forget_copies()
    plant.device.source.files.targets[path, true.hashes["sha256"]] = weak.ljust(
        true.length
    )[: true.length]
    plant.refused_by(DigestMismatchError, path, newer=False)


def test_layout_missing_on_a_mirror(tmp_path: Path) -> None:
    """Without its layout nothing is known of a release; that is no no, and no yes."""
    plant = running(tmp_path)
    plant.publish(plant.run("1.1.0"))
    files, path = plant.device.source.files, PUMP.layout_path(1)
    (lost,) = [one for one in files.targets if one[0] == path]
    kept = files.targets.pop(lost)
    plant.forget_copies()
    plant.refused_by(FetchError, path)
    files.targets[lost] = kept
    plant.verified("1.1.0")


def test_layout_above_the_limit(tmp_path: Path) -> None:
    """A layout that is signed for, and too large, is not fetched."""
    plant = running(tmp_path)
    plant.use_layout(layout(readme="x" * (2 << 20)))
    plant.publish(plant.run("1.1.0"))
    path = PUMP.layout_path(1)
    plant.device.source.asked.clear()
    plant.refused_by(TooLargeError, path)
    assert path not in plant.device.source.asked


def test_layout_whose_bytes_are_not_those_of_the_policy(tmp_path: Path) -> None:
    """The offline role lists two files that don't belong together: neither counts."""
    plant = running(tmp_path)
    plant.add_layout(1, envelope(layout(readme="other"), "acme"))
    plant.publish(plant.run("1.1.0"))
    plant.refused("layout-digest", "a layout's bytes never change")


def test_layout_that_the_policy_names_and_nobody_lists(tmp_path: Path) -> None:
    """A number without a file is no layout."""
    plant = running(tmp_path)
    del plant.world.roles["acme"].targets[PUMP.layout_path(1)]
    plant.world.touch("acme")
    plant.publish(plant.run("1.1.0"))
    plant.refused("layout-unknown", "layout")


def test_signature_of_a_layout_does_not_decide(tmp_path: Path) -> None:
    """A layout's own signature is for other tools: publishers rotate their keys, and
    what was released stays verifiable. The listing is the authority."""
    plant = running(tmp_path)
    plant.use_layout(envelope(layout(readme="mine"), "a-key-that-left"))
    plant.publish(plant.run("1.1.0"))
    plant.verified("1.1.0")


# --- T-231: the demand itself is taken away or weakened ------------------------------


def test_policy_without_demand_by_the_online_key(tmp_path: Path) -> None:
    """The application's role lists a policy that demands nothing."""
    plant = running(tmp_path)
    none = PublisherPolicy(epoch=9, provenance="none")
    plant.world.add_target(PUMP.role, PUMP.policy_path(1), none.to_bytes())
    plant.publish(plant.run("1.1.0"), (), number=None)
    plant.refused("no-layout", "layout")


def test_policy_of_before_by_stolen_online_keys(tmp_path: Path) -> None:
    """All online keys list the publisher's role from before it demanded anything."""
    world = World()
    world.add_application(NAME)
    plant = Plant(world, world.device(tmp_path))
    plant.publish(plant.run("1.0.0"), (), number=None)
    plant.verified("1.0.0", "none")
    lax = world.files.metadata["2.acme.json"]
    plant.use_layout(layout())
    plant.policy(provenance="required")
    plant.publish(plant.run("1.1.0"))
    plant.verified("1.1.0")

    plant.world.write("acme", lax)
    meta = plant.world.roles["snapshot"].meta["acme.json"]
    assert meta.version == plant.world.roles["acme"].version
    meta.version = 2
    world.files.metadata["2.acme.json"] = lax
    world.publish_online()
    plant.device.source.files = world.files.copy()
    plant.refused_by(RollbackError, "acme")


def test_device_demands_what_the_publisher_does_not(tmp_path: Path) -> None:
    """A device's owner wants provenance: a publisher that demands none is refused."""
    world = World()
    world.release("1.0.0")
    world.publish()
    plant = Plant(world, world.device(tmp_path))
    plant.verified("1.0.0", "none")
    plant.device.policy = PROVEN
    plant.refused("no-layout", "which its device demands", newer=False)


def test_publisher_demands_nothing_any_more(tmp_path: Path) -> None:
    """The publisher's own demand is gone; the device's owner still has his."""
    plant = running(tmp_path)
    plant.device.policy = PROVEN
    plant.policy(provenance="none", layouts=())
    plant.publish(plant.run("1.1.0"), (), number=None)
    plant.refused("no-layout", "which its device demands")


def test_new_application_by_the_online_key(tmp_path: Path) -> None:
    """A name that nobody made demands for is listed by the pump's stolen key."""
    plant = running(tmp_path)
    valve = ReleaseName.parse("acme/valve")
    record = plant.world.record(valve, "1.0.0", plant.world.artifact(b"valve"))
    plant.world.list_record(PUMP.role, record)
    plant.serve()
    plant.refused_by(
        UnknownTargetError,
        "acme/valve",
        call=lambda: plant.device.verify("acme/valve"),
    )


def test_new_application_without_a_policy(tmp_path: Path) -> None:
    """No policy is not a policy that demands nothing."""
    plant = running(tmp_path)
    plant.world.release("1.0.0", "acme/valve")
    del plant.world.roles["acme"].targets["acme/policies/valve/1.json"]
    plant.serve()
    plant.refused_by(
        PolicyError,
        "no policy acme/policies/valve",
        call=lambda: plant.device.verify("acme/valve"),
    )


def test_layout_of_another_application(tmp_path: Path) -> None:
    """A layout serves one application: the valve's is none of the pump's."""
    plant = running(tmp_path)
    weak = envelope(layout(WEAK), "acme")
    plant.world.add_target("acme", "acme/layouts/valve/2.json", weak)
    plant.publish(packaged(plant, "1.1.0"), number=2)
    plant.refused("layout-unknown", "2")


# --- T-232: a layout that once was good enough ---------------------------------------


def superseded(plant: Plant, *releases: Digest) -> None:
    """Let the vendor go on from layout 1, a weak one, to layout 2."""
    weak = plant.add_layout(1, envelope(layout(WEAK), "acme"))
    strict = plant.add_layout(2, envelope(layout(), "acme"))
    rules = [current(2, strict)]
    if releases:
        rules.append(LayoutRule(number=1, digest=weak.digest, releases=releases))
    plant.policy(layouts=tuple(rules))


def test_record_names_an_older_weaker_layout(tmp_path: Path) -> None:
    """Layout 1 is superseded, and good for what was released by it: not for more."""
    plant = running(tmp_path)
    old = packaged(plant, "1.0.9")
    superseded(plant, old.release)
    plant.publish(old)
    plant.verified("1.0.9")

    plant.publish(packaged(plant, "1.1.0"))
    plant.refused("layout-not-for-release", "layout 1")

    plant.publish(plant.run("1.2.0"), number=2)
    plant.verified("1.2.0")


def test_record_names_a_layout_that_serves_nothing_any_more(tmp_path: Path) -> None:
    """A layout that left the policy is unknown, though its file is listed still."""
    plant = running(tmp_path)
    superseded(plant)
    plant.publish(packaged(plant, "1.1.0"))
    plant.refused("layout-unknown", "layout 1")


def test_record_names_the_layout_of_another_range(tmp_path: Path) -> None:
    """Two current layouts serve versions apart; the weak one is for 1.x alone."""
    plant = running(tmp_path)
    weak = plant.add_layout(1, envelope(layout(WEAK), "acme"))
    strict = plant.add_layout(2, envelope(layout(), "acme"))
    ranges = [Pin.range(text, grammar="npm") for text in ("<2.0.0", ">=2.0.0")]
    plant.policy(
        layouts=(
            current(1, weak, range=ranges[0]),
            current(2, strict, range=ranges[1]),
        )
    )
    plant.publish(packaged(plant, "1.1.0"))
    plant.verified("1.1.0")
    plant.publish(packaged(plant, "2.0.0"))
    plant.refused("layout-not-for-release", "layout 1")
    plant.publish(plant.run("2.1.0"), number=2)
    plant.verified("2.1.0")


def test_superseded_layout_and_the_bytes_of_before(tmp_path: Path) -> None:
    """Exactly the old release is nothing new: what has its artifact, under another
    version or with other components, is, whoever of the old layout signs it."""
    plant = running(tmp_path)
    old = packaged(plant, "1.0.9")
    superseded(plant, old.release)
    again = packaged(plant, "1.1.0")
    again.artifact = old.artifact
    again.links = old.links
    plant.publish(again)
    plant.refused("layout-not-for-release", "layout 1")
    again.releases()
    plant.publish(again)
    plant.refused("layout-not-for-release", "layout 1")
    plant.use_layout(envelope(layout(WEAK), "acme"))
    plant.serve()
    plant.verified("1.1.0")


def test_superseded_layout_and_another_component(tmp_path: Path) -> None:
    """A package's manifest names no component: a functionary whom the vendor replaced
    signs another one, and the same version, with the artifact of before."""
    plant = running(tmp_path)
    good, evil = (
        component("web", plant.world.artifact(what)) for what in (b"web", b"evil")
    )
    old = plant.run("1.1.0")
    old.releases(components=[good])
    (rule,) = plant.world.policies[PUMP].layouts
    what = plant.add_layout(2, envelope(layout(readme="another packager"), "acme"))
    before = replace(rule, range=None, releases=(old.release,))
    plant.policy(layouts=(before, current(2, what)))
    plant.publish(old, components=(good,))
    plant.verified("1.1.0")

    thief = plant.run("1.1.0")
    thief.releases(components=[evil])
    plant.publish(thief, components=(evil,))
    plant.refused("layout-not-for-release", "layout 1")


# --- T-233: a layout that has expired ------------------------------------------------


def later(plant: Plant, **amount: float) -> None:
    """Let time pass for the vendor and the device, all metadata signed anew."""
    plant.world.clock.advance(**amount)
    plant.device.clock.advance(**amount)
    plant.world.touch("targets", "acme", PUMP.role)
    plant.serve()


def test_expired_layout(tmp_path: Path) -> None:
    """Nobody looked at the pipeline for as long as the vendor had said."""
    plant = running(tmp_path)
    plant.use_layout(layout(expires="2026-12-01T00:00:00Z"))
    plant.publish(plant.run("1.1.0"))
    plant.verified("1.1.0")
    later(plant, days=30)
    plant.refused("layout-expired", "2026-12-01")


def test_layout_extended_by_the_policy(tmp_path: Path) -> None:
    """The offline key extends a layout by the policy's entry: its bytes never change,
    and old releases stay verifiable. The online key can't."""
    plant = running(tmp_path)
    said = layout(expires="2026-12-01T00:00:00Z")
    plant.use_layout(said)
    plant.publish(plant.run("1.1.0"))
    later(plant, days=30)
    plant.refused("layout-expired", "2026-12-01")
    plant.use_layout(said, expires=plant.world.clock.when + timedelta(days=30))
    plant.serve()
    plant.verified("1.1.0")
    later(plant, days=40)
    plant.refused("layout-expired", "2027-01-20")


def test_layout_cut_short_by_the_policy(tmp_path: Path) -> None:
    """The offline key ends a layout before its file does: nobody stands for it now."""
    plant = running(tmp_path)
    plant.publish(plant.run("1.1.0"))
    plant.verified("1.1.0")
    (rule,) = plant.world.policies[PUMP].layouts
    ended = plant.world.clock.when - timedelta(days=1)
    plant.policy(layouts=(replace(rule, expires=ended),))
    plant.serve()
    plant.refused("layout-expired", "2026-11-20")


def test_expired_layout_and_a_clock_set_back(tmp_path: Path) -> None:
    """The signed time is a lower bound: a clock of last year helps nobody."""
    plant = running(tmp_path)
    plant.use_layout(layout(expires="2026-12-01T00:00:00Z"))
    plant.publish(plant.run("1.1.0"))
    later(plant, days=30)
    plant.refused("layout-expired", "2026-12-01")
    plant.device.clock.advance(days=-3000)
    plant.refused("layout-expired", "2026-12-01", newer=False)


# --- T-234: layouts that would run commands ------------------------------------------


def commands(marker: Path) -> list[Json]:
    """Return an inspection that leaves a mark when it is run."""
    return [
        {
            "_type": "inspection",
            "name": "look",
            "run": ["touch", str(marker)],
            "expected_materials": [],
            "expected_products": [],
        }
    ]


def test_inspection_is_not_run(tmp_path: Path) -> None:
    """A layout with an inspection is refused whole, and its command never runs."""
    plant = running(tmp_path)
    marker = tmp_path / "marker"
    plant.use_layout(layout(inspect=commands(marker)))
    plant.publish(plant.run("1.1.0"))
    plant.refused("inspection", "inspections")
    assert not marker.exists()


def test_sublayout_in_place_of_a_link(tmp_path: Path) -> None:
    """With the tester's key, Mallory returns a layout of her own for the link: it would
    bring its own functionaries, and commands for the verifier."""
    plant = running(tmp_path)
    marker = tmp_path / "marker"
    sublayout = layout(
        [step("nothing", "mallory", materials=[], products=[])],
        functionaries=["mallory"],
        inspect=commands(marker),
    )
    run = plant.run("1.1.0")
    documents = run.documents()
    documents["test"] = linked("test", sublayout, "tester")
    plant.publish(run, documents.values())
    error = plant.refused("sublayout", "test")
    assert error.step == "test"
    assert not marker.exists()


def test_expected_command_is_run_by_nobody(tmp_path: Path) -> None:
    """Neither what a layout expects to be run nor what a link says was run is."""
    plant = running(tmp_path)
    marker = tmp_path / "marker"
    found = steps()
    for one in found:
        one["expected_command"] = ["touch", str(marker)]
    plant.use_layout(layout(found))
    run = plant.run("1.1.0")
    for said in run.links.values():
        said["command"] = ["touch", str(marker)]
    plant.publish(run)
    plant.verified("1.1.0")
    assert not marker.exists()


# --- T-249: layouts that take for ever -----------------------------------------------


def slow(rules: int) -> Json:
    """Return the pipeline's layout with rules that look at each source in vain."""
    found = steps()
    many = [["ALLOW", f"*{'?' * 30}\u00e9*{number}"] for number in range(rules)]
    found[0]["expected_materials"][:0] = many
    return layout(found)


@pytest.mark.parametrize("text", ["*{}b*", "*[a-b]*{}b*?", "{}*x"])
def test_text_that_nearly_matches_everywhere(tmp_path: Path, text: str) -> None:
    """Rules whose patterns begin at each place of a long name: each character of it is
    looked at a few times, and the release is judged at once."""
    plant = running(tmp_path)
    found = steps()
    pattern = text.format("a" * 230)
    many = [["ALLOW", f"{pattern}{number}"] for number in range(400)]
    found[0]["expected_materials"][:0] = many
    plant.use_layout(layout(found))
    run = plant.run("1.1.0")
    sources = {f"src/{'a/' + 'a' * 240}/{n}.c": {"sha256": "0" * 64} for n in range(40)}
    run.links["build"]["materials"].update(sources)
    plant.publish(run)
    begun = time.process_time()
    plant.verified("1.1.0")
    assert time.process_time() - begun < 10


def test_rules_and_artifacts_that_take_hours(tmp_path: Path) -> None:
    """A layout of a thousand rules, and links of a thousand long names: either is fine
    with less of the other. The device counts what it looks at, and stops."""
    plant = running(tmp_path)

    def source(number: int) -> str:
        return f"src/{'a' * 200}/{'b' * 200}/{number}.c"

    plant.use_layout(slow(900))
    plant.publish(plant.run("1.1.0"))
    plant.verified("1.1.0")
    run = plant.run("1.2.0")
    sources = {source(number): {"sha256": "0" * 64} for number in range(2000)}
    run.links["build"]["materials"].update(sources)
    plant.publish(run)
    begun = time.process_time()
    error = plant.refused("rule", "more work than a release is worth")
    assert time.process_time() - begun < 60
    assert error.trace is not None
    assert len(error.trace["findings"]) == 1
    plant.use_layout(slow(9))
    plant.serve()
    plant.verified("1.2.0")


# --- T-235: layouts that demand nothing ----------------------------------------------


def bare(change: str) -> Json:
    """Return a layout that the offline key signed by mistake."""
    found = steps()
    said = layout(found)
    build = found[0]
    if change == "no steps":
        said["steps"] = []
    elif change == "no functionaries":
        build["pubkeys"] = []
    elif change == "threshold zero":
        build["threshold"] = 0
    elif change == "threshold below zero":
        build["threshold"] = -1
    elif change == "threshold above its keys":
        build["threshold"] = 2
    elif change == "threshold that is a truth":
        build["threshold"] = True
    elif change == "one functionary twice":
        twin = "ab" * 32
        said["keys"][twin] = {**said["keys"][keyid("builder")], "keyid": twin}
        build["pubkeys"].append(twin)
    elif change == "unknown functionary":
        build["pubkeys"] = ["ab" * 32]
    elif change == "no release step":
        found[2]["expected_products"] = [["CREATE", "release/*"], list(CLOSED)]
    elif change == "two release steps":
        found[0]["expected_products"].insert(0, ["REQUIRE", MANIFEST])
    elif change == "match from nowhere":
        found[2]["expected_materials"][0][-1] = "biuld"
    elif change == "one name twice":
        said["steps"].insert(1, {**build, "expected_products": [["ALLOW", "*"]]})
    elif change == "unknown rule":
        found[0]["expected_products"] = [["PERMIT", "*"]]
    elif change == "unknown field":
        said["rootcas"] = {"x": {}}
    elif change == "step outside":
        found[1]["name"] = found[2]["expected_materials"][1][-1] = "../test"
    elif change == "no expiry":
        del said["expires"]
    elif change == "no layout":
        said["_type"] = "link"
    return said


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("no steps", "layout-empty"),
        ("no functionaries", "layout-threshold"),
        ("threshold zero", "layout-threshold"),
        ("threshold below zero", "layout-threshold"),
        ("threshold above its keys", "layout-threshold"),
        ("threshold that is a truth", "layout-malformed"),
        ("one functionary twice", "layout-threshold"),
        ("unknown functionary", "layout-malformed"),
        ("no release step", "layout-malformed"),
        ("two release steps", "layout-malformed"),
        ("match from nowhere", "layout-malformed"),
        ("one name twice", "layout-malformed"),
        ("unknown rule", "layout-malformed"),
        ("unknown field", "layout-malformed"),
        ("step outside", "layout-malformed"),
        ("no expiry", "layout-malformed"),
        ("no layout", "layout-malformed"),
    ],
)
def test_layout_that_proves_nothing(tmp_path: Path, change: str, reason: str) -> None:
    """What the offline key signed by mistake is refused, and is no free pass."""
    plant = running(tmp_path)
    plant.use_layout(bare(change))
    plant.publish(plant.run("1.1.0"))
    plant.refused(reason, "layout 1|step build")


def test_payload_of_another_type_that_is_a_layout(tmp_path: Path) -> None:
    """The offline key signed these words as something else than in-toto's."""
    plant = running(tmp_path)
    plant.use_layout(envelope(layout(), "acme", payload_type="application/json"))
    plant.publish(plant.run("1.1.0"))
    plant.refused("payload-type", "application/json")


# --- T-236: keys that are not apart --------------------------------------------------


@pytest.mark.parametrize("shared", [PUMP.role, "snapshot", "timestamp"])
@pytest.mark.parametrize("offline", ["acme", "targets", "root"])
def test_offline_key_that_lies_online(
    tmp_path: Path, shared: str, offline: str
) -> None:
    """A vendor keeps one key for what is demanded and for what is listed: who steals
    it says both, and nothing is proven."""
    world = World()
    plant = Plant(world, world.device(tmp_path))
    if offline != "acme":
        world.rotate(offline, shared, keep_old=offline == "root")
        world.touch(offline)
    else:
        world.delegate(
            "targets",
            "acme",
            ("acme/releases/*/*", "acme/layouts/*/*", "acme/policies/*/*"),
            signer=key(shared),
        )
    world.add_application(NAME)
    plant.publish(plant.run("1.0.0"), (), number=None)
    plant.verified("1.0.0", "none")
    plant.use_layout(layout())
    plant.policy(provenance="required")
    plant.publish(plant.run("1.1.0"))
    plant.refused("keys-not-disjoint", "key")
