"""What is submitted to an operator in the name of a release that must prove how it was
made. Mallory has the key of acme's machine, or acme's offline key, and that of no
functionary; the operator refuses each before anything of it is kept."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import ProvenanceError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import (
    LayoutRule,
    Reinstatement,
    RevokedFunctionary,
)
from margo_supplychain.formats.versions import Version
from margo_supplychain.signing.envelopes import sign_envelope
from margo_supplychain.storage.content_store import blob_path
from tests.attacks.forging import (
    all_of,
    entry,
    hand_in,
    refused,
    role,
    set_policy,
)
from tests.authoring.market import FAN, LAMP, PUMP, Market
from tests.authoring.proving import (
    ANY,
    demand,
    device_of,
    links_of,
    listed_by_hand,
    run_of,
    signed_layout,
)
from tests.authoring.trust import OPEN, key
from tests.world.provenance import PAYLOAD, encode, keyid, layout, reopened, steps
from tests.world.repository import key as world_key

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.authoring.release import Release
    from margo_supplychain.formats.publisher_policy import PublisherPolicy


@pytest.fixture
def market(tmp_path: Path) -> Market:
    """Return a market where acme demands provenance of its pump, which has 1.0.0."""
    found = Market(tmp_path)
    found.create()
    found.inbox.directory.mkdir()
    keys = [*found.keys, *map(key, ("acme", "acme-ci", "globex", "globex-ci"))]
    with found.repository.edit(keys, clock=found.clock) as edit:
        for vendor in ("acme", "globex"):
            edit.add_publisher(vendor, [key(vendor).public_key], threshold=1)
        for name in (PUMP, FAN, LAMP):
            ci = key(f"{name.publisher}-ci").public_key
            edit.add_application(name, [ci], policy=OPEN)
        demand(edit, PUMP, offline="acme")
        made = found.release("1.0.0", name=PUMP)
        edit.add_release(made, attestations=links_of(made))
        edit.add_release(found.release("1.0.0", name=LAMP))
    assert str(device_of(found).verify(PUMP, ANY).version) == "1.0.0"
    return found


def policy_of(market: Market) -> PublisherPolicy:
    with market.repository.edit((), clock=market.clock) as edit:
        policy = edit.policy(PUMP)
    assert policy is not None
    return policy


def forge(market: Market, made: Release, **options: Any) -> str:
    """Hand in a release of acme/pump by hand, with its record, links and content."""
    change, targets, blobs = listed_by_hand(market, made, **options)
    file = role(market, PUMP.role, change)
    return hand_in(market, file, targets=targets, blobs=blobs)


def test_what_is_forged_honestly_is_taken(market: Market) -> None:
    """So whatever is refused below is refused for its own reason."""
    forge(market, market.release("1.1.0", name=PUMP))
    assert market.accept().refused == ()
    assert str(device_of(market).verify(PUMP, ANY).version) == "1.1.0"


# --- T-216: layouts ------------------------------------------------------------------


def weaker(offline: str = "acme") -> bytes:
    """Return a layout that leaves the test out, signed by acme's offline key."""
    rest = [one for one in steps() if one["name"] != "test"]
    rest[-1]["expected_materials"] = [["ALLOW", "*"]]
    return signed_layout(offline, with_steps=rest)


def test_layout_that_the_policy_does_not_name(market: Market) -> None:
    """A weaker layout, well signed, lies beside the one that is named."""
    data = weaker()
    path = PUMP.layout_path(2)

    def add(signed: dict[str, Any]) -> None:
        signed["targets"][path] = entry(data)

    name = hand_in(market, role(market, "acme", add), targets={path: data})
    refused(market, name, "layout 2 of acme/pump, which its policy does not name")


def test_other_layout_under_a_number_that_is_taken(market: Market) -> None:
    """The bytes of layout 1 are replaced, with a policy that says so or without."""
    data = weaker()
    path = PUMP.layout_path(1)

    def swap(signed: dict[str, Any]) -> None:
        signed["targets"][path] = entry(data)

    name = hand_in(market, role(market, "acme", swap), targets={path: data})
    refused(market, name, "which its policy does not name with that digest")
    market.inbox.remove(name)
    rule = LayoutRule(number=1, digest=Digest.of(data), range=ANY)
    change, targets = set_policy(PUMP, replace(policy_of(market), layouts=(rule,)))
    name = hand_in(
        market,
        role(market, "acme", all_of(change, swap)),
        targets={**targets, path: data},
    )
    refused(market, name, "a layout never changes")


def test_record_by_a_layout_that_nobody_lists(market: Market) -> None:
    """The release key alone names a layout of its own, which it can't list."""
    made = market.release("1.1.0", name=PUMP)
    name = forge(market, made, layout=7)
    refused(market, name, "names layout 7, which its publisher policy does not name")


def test_layout_in_a_role_that_may_not_list_it(market: Market) -> None:
    """The release key lists the layout itself, in its own role."""
    data = weaker()
    path = PUMP.layout_path(2)
    made = market.release("1.1.0", name=PUMP)
    change, targets, blobs = listed_by_hand(market, made, layout=2)

    def add(signed: dict[str, Any]) -> None:
        signed["targets"][path] = entry(data)

    file = role(market, PUMP.role, all_of(change, add))
    name = hand_in(market, file, targets={**targets, path: data}, blobs=blobs)
    refused(market, name, "which is no release of acme/pump")


def test_record_by_a_layout_of_other_versions(market: Market) -> None:
    """An older, weaker layout is still good for 0.x, and named for 1.1.0."""
    data = weaker()
    path = PUMP.layout_path(2)
    old = Pin.range("<1.0.0", grammar="npm")
    new = Pin.range(">=1.0.0", grammar="npm")
    (rule,) = policy_of(market).layouts
    rules = (
        replace(rule, range=new),
        LayoutRule(number=2, digest=Digest.of(data), range=old),
    )
    change, targets = set_policy(PUMP, replace(policy_of(market), layouts=rules))

    def add(signed: dict[str, Any]) -> None:
        signed["targets"][path] = entry(data)

    hand_in(
        market,
        role(market, "acme", all_of(change, add)),
        targets={**targets, path: data},
    )
    assert market.accept().refused == ()
    made = market.release("1.1.0", name=PUMP)
    name = forge(market, made, layout=2, links=links_of(made)[:1])
    refused(market, name, "names layout 2, which does not serve it")


def test_layout_with_another_key_under_an_id(market: Market) -> None:
    """Whoever compares key ids finds acme's builder; the key is Mallory's."""
    value = layout()
    value["keys"][keyid("builder")]["keyval"] = {
        "public": world_key("mallory").public_key.keyval["public"]
    }
    data = sign_envelope(PAYLOAD, encode(value), [key("acme")])
    path = PUMP.layout_path(2)
    (standing,) = policy_of(market).layouts
    rules = (
        replace(standing, range=Pin.range(">=1.0.0", grammar="npm")),
        LayoutRule(
            number=2, digest=Digest.of(data), range=Pin.range("<1.0.0", grammar="npm")
        ),
    )
    change, targets = set_policy(PUMP, replace(policy_of(market), layouts=rules))

    def add(signed: dict[str, Any]) -> None:
        signed["targets"][path] = entry(data)

    name = hand_in(
        market,
        role(market, "acme", all_of(change, add)),
        targets={**targets, path: data},
    )
    shown = keyid("builder")[:12]
    refused(market, name, f"as {shown}, which is not its id", code="metadata-format")


def test_record_without_a_layout(market: Market) -> None:
    """The release key leaves out what the offline key demands."""
    made = market.release("1.1.0", name=PUMP)
    name = forge(market, made, layout=None, links=[])
    refused(market, name, "names no layout, and its publisher policy demands")


# --- T-217: what the links prove -----------------------------------------------------


def test_links_of_another_release(market: Market) -> None:
    """All links are genuine, and of 1.0.0."""
    made = market.release("1.1.0", name=PUMP)
    links = links_of(market.release("1.0.0", name=PUMP))
    name = forge(market, made, links=links)
    refused(market, name, code="provenance")


def test_missing_link(market: Market) -> None:
    made = market.release("1.1.0", name=PUMP)
    build, _, package = links_of(made)
    name = forge(market, made, links=[build, package])
    refused(market, name, "test", code="provenance")


def test_links_signed_by_the_machine_that_releases(market: Market) -> None:
    """Mallory runs no step, and signs what she likes with the key that she has."""
    made = market.release("1.1.0", name=PUMP)
    run = run_of(made)
    run.signers = dict.fromkeys(run.signers, ("mallory",))
    links = [one.data for one in run.documents().values()]
    name = forge(market, made, links=links)
    refused(market, name, code="provenance")


def test_tampered_link(market: Market) -> None:
    """What a functionary signed is changed afterwards; its digest is pinned anew."""
    made = market.release("1.1.0", name=PUMP)
    build, test, package = links_of(made)
    forged = reopened(build, lambda raw: raw.update(payload=_with_backdoor(raw)))
    name = forge(market, made, links=[forged, test, package])
    refused(market, name, code="provenance")


def _with_backdoor(raw: dict[str, Any]) -> str:
    said = json.loads(base64.b64decode(raw["payload"]))
    said["materials"]["src/backdoor.c"] = {"sha256": "0" * 64}
    return base64.b64encode(json.dumps(said).encode()).decode()


def test_envelope_that_does_not_come_along(market: Market) -> None:
    """The record pins it, and nobody has it: devices would refuse the release."""
    made = market.release("1.1.0", name=PUMP)
    change, targets, blobs = listed_by_hand(market, made)
    file = role(market, PUMP.role, change)
    name = hand_in(market, file, targets=targets, blobs=blobs[1:])
    refused(market, name, "is named, and neither comes along nor lies in")


def come_withdrawn(market: Market, made: Release, **options: Any) -> list[bytes]:
    """Have a release taken that came with its mark; return its envelopes and content.

    No device takes it, so nobody asks what it proves.
    """
    change, targets, blobs = listed_by_hand(market, made, **options)
    path = PUMP.release_path(str(made.version))
    mark = {"reason": "x", "since": "2026-11-21T10:00:00Z"}

    def withdraw(signed: dict[str, Any]) -> None:
        signed["targets"][path]["custom"]["withdrawn"] = mark

    file = role(market, PUMP.role, all_of(change, withdraw))
    hand_in(market, file, targets=targets, blobs=blobs)
    assert market.accept().refused == ()
    return blobs


def reinstating(market: Market, made: Release) -> PublisherPolicy:
    """Return the policy that lets devices take a release that came withdrawn."""
    again = Reinstatement(artifact=made.artifact.digest, up_to=2)
    return replace(policy_of(market), reinstated=(again,))


@pytest.mark.parametrize("drops_mark", [False, True])
@pytest.mark.parametrize(
    ("layout", "reason", "code"),
    [
        (1, "step test has no link", "provenance"),
        (7, "names layout 7, which its publisher policy does not name", "refused"),
        (None, "names no layout, and its publisher policy demands", "refused"),
    ],
)
def test_unproven_release_that_was_withdrawn(
    market: Market, layout: int | None, reason: str, code: str, *, drops_mark: bool
) -> None:
    """It came with its mark, so nobody looked at how it was made; then the mark is made
    void, by the policy alone or dropped from the list as well. Devices would refuse
    what would be newest."""
    made = market.release("1.1.0", name=PUMP)
    links = links_of(made)[:1] if layout else []
    blobs = come_withdrawn(market, made, layout=layout, links=links)
    change, targets = set_policy(PUMP, reinstating(market, made))
    files = [role(market, "acme", change)]
    path = PUMP.release_path("1.1.0")

    def drop(signed: dict[str, Any]) -> None:
        del signed["targets"][path]["custom"]["withdrawn"]

    if drops_mark:
        files.append(role(market, PUMP.role, drop))
    name = hand_in(market, *files, targets=targets, blobs=blobs)
    refused(market, name, reason, code=code)


def test_proven_release_that_was_withdrawn(market: Market) -> None:
    """The same with all its links comes back; later demands, that it does not meet, are
    no reason to refuse the lists that still have it."""
    made = market.release("1.1.0", name=PUMP)
    blobs = come_withdrawn(market, made)
    change, targets = set_policy(PUMP, reinstating(market, made))
    hand_in(market, role(market, "acme", change), targets=targets, blobs=blobs)
    assert market.accept().refused == ()
    device = device_of(market)
    assert str(device.verify(PUMP, ANY).version) == "1.1.0"
    builder = world_key("builder").public_key.keyid
    gone = RevokedFunctionary(key=builder)
    policy = replace(policy_of(market), revoked_functionaries=(gone,))
    change, targets = set_policy(PUMP, policy)
    hand_in(market, role(market, "acme", change), targets=targets)
    assert market.accept().refused == ()
    with pytest.raises(ProvenanceError):
        device.verify(PUMP, ANY)

    def drop(signed: dict[str, Any]) -> None:
        del signed["targets"][PUMP.release_path("1.1.0")]["custom"]["withdrawn"]

    hand_in(market, role(market, PUMP.role, drop))
    assert market.accept().refused == ()


@pytest.mark.parametrize("missing", ["link", "content"])
def test_envelopes_of_what_is_refused(market: Market, missing: str) -> None:
    """One release is proven, with envelopes of megabytes, and the other is not, or has
    not its content. Handed in again and again, it would fill the operator's disk: of
    what is refused nothing is kept."""
    good = market.release("1.1.0", name=PUMP)
    bad = market.release("1.2.0", name=PUMP)
    said = {"pad": "x" * 3_000_000}
    large = run_of(good).statement("https://example.com/x", said, "builder").data
    one, first, blobs = listed_by_hand(market, good, links=[*links_of(good), large])
    links = links_of(bad)[: 1 if missing == "link" else 3]
    other, second, more = listed_by_hand(market, bad, links=links)
    if missing == "content":
        more = links
    file = role(market, PUMP.role, all_of(one, other))
    name = hand_in(market, file, targets={**first, **second}, blobs=[*blobs, *more])
    if missing == "link":
        refused(market, name, "acme/pump 1.2.0: step test", code="provenance")
    else:
        refused(market, name, "the content of acme/pump 1.2.0 neither comes with it")
    assert not blob_path(market.trust, Digest.of(large)).exists()
    market.inbox.remove(name)
    hand_in(market, role(market, PUMP.role, one), targets=first, blobs=blobs)
    assert market.accept().refused == ()
    assert blob_path(market.trust, Digest.of(large)).read_bytes() == large


# --- T-249: what takes for ever to judge ---------------------------------------------


def test_release_that_takes_hours_to_judge(market: Market) -> None:
    """A hostile vendor's own layout has hundreds of rules, and his links thousands of
    long names. The operator, who keeps others out meanwhile, stops after some seconds;
    with ordinary links the same layout is none of his business."""
    found = steps()
    many = [["ALLOW", f"*{'?' * 30}\u00e9*{number}"] for number in range(900)]
    found[0]["expected_materials"][:0] = many
    data = signed_layout("acme", with_steps=found)
    rule = LayoutRule(number=2, digest=Digest.of(data), range=ANY)
    change, targets = set_policy(PUMP, replace(policy_of(market), layouts=(rule,)))

    def add(signed: dict[str, Any]) -> None:
        signed["targets"][PUMP.layout_path(2)] = entry(data)
        del signed["targets"][PUMP.layout_path(1)]

    made = market.release("1.1.0", name=PUMP)
    run = run_of(made)
    long = f"src/{'a' * 200}/{'b' * 200}"
    sources = {f"{long}/{number}.c": {"sha256": "0" * 64} for number in range(2000)}
    honest = links_of(made)
    run.links["build"]["materials"].update(sources)
    links = [one.data for one in run.documents().values()]
    listed, records, blobs = listed_by_hand(market, made, layout=2, links=links)
    files = (role(market, "acme", all_of(change, add)), role(market, PUMP.role, listed))
    layouts = {**targets, PUMP.layout_path(2): data}
    begun = time.process_time()
    name = hand_in(market, *files, targets={**layouts, **records}, blobs=blobs)
    refused(market, name, "more work than a release is worth", code="provenance")
    assert time.process_time() - begun < 120
    market.inbox.remove(name)
    listed, records, blobs = listed_by_hand(market, made, layout=2, links=honest)
    files = (role(market, "acme", all_of(change, add)), role(market, PUMP.role, listed))
    hand_in(market, *files, targets={**layouts, **records}, blobs=blobs)
    assert market.accept().refused == ()
    assert str(device_of(market).verify(PUMP, ANY).version) == "1.1.0"


# --- T-218: what is listed already ---------------------------------------------------


def test_other_attestations_for_a_published_release(market: Market) -> None:
    """A record never changes, not even by what it is attested by."""
    made = market.release("1.0.0", name=PUMP)
    run = run_of(made)
    run.links["build"]["materials"]["src/more.c"] = {"sha256": "0" * 64}
    links = [one.data for one in run.documents().values()]
    name = forge(market, made, links=links)
    refused(market, name, "acme/pump 1.0.0 exists with other bytes")
    market.inbox.remove(name)
    name = forge(market, made, layout=None, links=[])
    refused(market, name, "acme/pump 1.0.0 exists with other bytes")


def test_summary_that_does_not_come_along(market: Market) -> None:
    """An entry names what devices of the lower tier would look for in vain."""
    path = PUMP.release_path("1.0.0")

    def add(signed: dict[str, Any]) -> None:
        pin = {"digest": f"sha256:{'0' * 64}", "size": 10}
        signed["targets"][path]["custom"]["summaries"] = [pin]

    name = hand_in(market, role(market, PUMP.role, add))
    refused(market, name, "is named, and neither comes along nor lies in")


def test_policy_that_demands_nothing_any_more_by_the_online_key(market: Market) -> None:
    """The release key hands in a policy: it is not the role that may."""
    change, targets = set_policy(PUMP, OPEN)
    file = role(market, "acme", change, "acme-ci")
    name = hand_in(market, file, targets=targets)
    refused(market, name, code="threshold")
    assert policy_of(market).provenance == "required"
    with market.repository.edit((), clock=market.clock) as edit:
        assert edit.record(PUMP, Version.parse("1.0.0")).layout == 1
