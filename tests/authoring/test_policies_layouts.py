"""Layouts that a publisher lists: numbered, current, superseded; and what is said."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring import policy_rules
from margo_supplychain.authoring.work import Work
from margo_supplychain.cli.app_policy import PolicyChanges
from margo_supplychain.cli.app_proof import GivenKeys, ProofChanges
from margo_supplychain.errors import (
    DigestMismatchError,
    FetchError,
    FormatError,
    ProvenanceError,
    RefusedError,
    VerificationError,
)
from margo_supplychain.formats.attestation_rules import (
    AttestationRule,
    PolicyKey,
    SummaryRule,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.dsse import PAYLOAD
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import (
    LayoutRule,
    PublisherPolicy,
    RevokedFunctionary,
)
from margo_supplychain.formats.versions import Version
from margo_supplychain.signing.envelopes import sign_envelope
from margo_supplychain.threshold import material
from tests.authoring import market
from tests.authoring.proving import (
    ANY,
    demand,
    device_of,
    links_of,
    make_demanding,
    publish_proven,
    signed_layout,
)
from tests.authoring.trust import OPEN, PUMP, Vendor, key
from tests.world.provenance import encode, keyid, layout
from tests.world.repository import key as world_key

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.authoring.edit import Edit


def npm(text: str) -> Pin:
    return Pin.range(text, grammar="npm")


def edit(vendor: Vendor) -> Any:
    return vendor.repository.edit(vendor.keys, clock=vendor.clock)


def policy_of(vendor: Vendor) -> PublisherPolicy:
    with vendor.repository.edit([], clock=vendor.clock) as look:
        found: PublisherPolicy | None = look.policy(PUMP)
    assert found is not None
    return found


def warned(edit: Edit, text: str) -> str:
    """Return the one warning that says so."""
    (found,) = [one for one in edit.warnings if text in one]
    return found


@cache  # signed once: ECDSA makes other bytes each time
def one_layout() -> bytes:
    """Return the pipeline's layout."""
    return signed_layout()


@cache
def other_layout() -> bytes:
    """Return the pipeline's layout with other bytes."""
    return signed_layout(readme="another")


# --- listing -------------------------------------------------------------------------


def test_a_layout_is_listed_by_number(vendor: Vendor) -> None:
    vendor.create_with_pump()
    data = one_layout()
    with edit(vendor) as changes:
        assert changes.add_layout(PUMP, data, serves=npm("^1.0")) == 1
        assert changes.add_layout(PUMP, other_layout(), serves=npm("^2.0")) == 2
    assert policy_of(vendor).layouts == (
        LayoutRule(number=1, digest=Digest.of(data), range=npm("^1.0")),
        LayoutRule(number=2, digest=Digest.of(other_layout()), range=npm("^2.0")),
    )
    with edit(vendor) as look:
        assert look.layout(PUMP, 1) == data
        assert len(look.functionaries(PUMP)) == 3
        with pytest.raises(RefusedError, match="has no layout 3") as caught:
            look.layout(PUMP, 3)
    assert caught.value.hint == "layouts of acme/pump-monitor: 1, 2"


def test_the_same_again_changes_nothing(vendor: Vendor) -> None:
    vendor.create_with_pump()
    with edit(vendor) as changes:
        changes.add_layout(PUMP, one_layout(), serves=ANY)
    before = vendor.files()
    with edit(vendor) as changes:
        assert changes.add_layout(PUMP, one_layout(), serves=ANY) == 1
    assert vendor.files() == before
    until = datetime(2031, 1, 1, tzinfo=UTC)
    with edit(vendor) as changes:
        assert changes.add_layout(PUMP, one_layout(), serves=ANY, expires=until) == 1
        assert warned(changes, "layout 1").endswith("ends 2031-01-01")
    (rule,) = policy_of(vendor).layouts
    assert rule.expires == until


def test_lost_bytes_come_back(vendor: Vendor) -> None:
    vendor.create_with_pump()
    with edit(vendor) as changes:
        changes.add_layout(PUMP, one_layout(), serves=ANY)
    for path in (vendor.trust / "targets/acme/layouts/pump-monitor").iterdir():
        path.write_bytes(b"damaged")
    with edit(vendor) as look:
        with pytest.raises((DigestMismatchError, VerificationError)):
            look.layout(PUMP, 1)
        assert look.functionaries(PUMP) == ()
        assert "can't be read" in warned(look, "layout 1")
    with edit(vendor) as changes:
        assert changes.add_layout(PUMP, one_layout(), serves=ANY) == 1
        assert "is there again" in warned(changes, "layout 1")
    with edit(vendor) as look:
        assert look.layout(PUMP, 1) == one_layout()


def test_functionaries_of_others_are_known_beside_what_nobody_reads(
    vendor: Vendor,
) -> None:
    """A layout of another tool, with inspections, was listed somehow."""
    vendor.create_with_pump()
    value = layout()
    value["inspect"] = [{"_type": "inspection", "name": "look", "run": ["true"]}]
    foreign = sign_envelope(PAYLOAD, encode(value), [key("offline")])
    with edit(vendor) as changes:
        changes.add_layout(PUMP, one_layout(), serves=npm("^1.0"))
        work = changes._work
        path = PUMP.layout_path(2)
        work.put("acme", path, foreign, custom=None)
        rule = LayoutRule(number=2, digest=Digest.of(foreign), range=npm("^2.0"))
        policy = changes.policy(PUMP)
        changes.set_policy(PUMP, replace(policy, layouts=(*policy.layouts, rule)))
    with edit(vendor) as look:
        assert len(look.functionaries(PUMP)) == 3
        assert "commands for the verifier to run" in warned(look, "layout 2")


def test_one_id_of_two_keys_revokes_both(vendor: Vendor) -> None:
    """Layouts of other tools, or of before, may have been listed with labels."""
    label = "ab" * 32
    vendor.create_with_pump()
    with edit(vendor) as changes:
        rules = []
        for number, by in enumerate(("builder", "mallory"), start=1):
            value = layout()
            old = keyid("builder")
            held = {**value["keys"].pop(old), "keyid": label}
            held["keyval"] = world_key(by).public_key.to_dict()["keyval"]
            value["keys"][label] = held
            for step in value["steps"]:
                step["pubkeys"] = [
                    label if one == old else one for one in step["pubkeys"]
                ]
            data = sign_envelope(PAYLOAD, encode(value), [key("offline")])
            serves = npm(f"^{number}.0")
            with pytest.raises(FormatError, match="which is not its id"):
                changes.add_layout(PUMP, data, serves=serves)
            changes._work.put("acme", PUMP.layout_path(number), data, custom=None)
            rules.append(
                LayoutRule(number=number, digest=Digest.of(data), range=serves)
            )
        changes.set_policy(PUMP, replace(OPEN, layouts=tuple(rules)))
        asked = ProofChanges(revoked=(label[:12],))
        given = GivenKeys({}, (), {label[:12]: None})
        policy = changes.policy(PUMP)
        assert policy is not None
        done = asked.applied(policy, given, (), changes.functionaries(PUMP))
    assert [one.key for one in done.revoked_functionaries] == [
        label,
        *(material(world_key(one).public_key) for one in ("builder", "mallory")),
    ]


def test_a_version_is_a_range_and_a_digest_is_none(vendor: Vendor) -> None:
    vendor.create_with_pump()
    with edit(vendor) as changes:
        exact = Pin.exact(Version.parse("1.0.0"))
        assert changes.add_layout(PUMP, one_layout(), serves=exact) == 1
        assert changes.add_layout(PUMP, one_layout(), serves=npm("1.0.1")) == 2
    assert [str(one.range) for one in policy_of(vendor).layouts] == ["1.0.0", "1.0.1"]
    artifact = Pin.exact(Version.parse("1.0.0"), Digest.of(b""))
    with (
        pytest.raises(
            RefusedError, match=r"serves a range of versions, not 1\.0\.0@sha"
        ),
        edit(vendor) as changes,
    ):
        changes.add_layout(PUMP, one_layout(), serves=artifact)


# --- what is refused -----------------------------------------------------------------


def test_what_is_no_layout_of_a_publisher(vendor: Vendor) -> None:
    vendor.create_with_pump()
    before = vendor.files()

    def refused(data: bytes, match: str, **options: Any) -> None:
        with pytest.raises((RefusedError, FormatError), match=match) as caught:  # noqa: SIM117 - what the block raises
            with edit(vendor) as changes:
                changes.add_layout(PUMP, data, serves=ANY, **options)
        assert caught.value.exit_status == 2
        assert vendor.files() == before

    refused(encode(layout()), "the layout is signed by 0 of 1 keys of acme")
    refused(
        sign_envelope(PAYLOAD, encode(layout()), [key("somebody")]),
        "the layout is signed by 0 of 1 keys of acme",
    )
    refused(b"{}", "the layout")
    refused(signed_layout(expires="2020-01-01T00:00:00Z"), "the layout expired 2020-01")
    refused(
        one_layout(),
        "the layout expired 2026-11-20T10:00:00Z",
        expires=vendor.clock.now() - timedelta(days=1),
    )
    statement = sign_envelope(PAYLOAD, b'{"_type":"link"}', [key("offline")])
    refused(statement, "is of type 'link'|has no field|unknown")
    unknown = layout()
    unknown["steps"] = [
        {**one, "expected_materials": [["MATCH", "*", "WITH", "PRODUCTS", "FROM", "x"]]}
        for one in unknown["steps"]
    ]
    refused(
        sign_envelope(PAYLOAD, encode(unknown), [key("offline")]),
        "names no step of the layout",
    )
    lax = layout()
    lax["steps"] = [
        {
            **one,
            "expected_materials": [
                r for r in one["expected_materials"] if r[0] == "MATCH"
            ]
            or [["ALLOW", "*"]],
        }
        for one in lax["steps"]
    ]
    refused(
        sign_envelope(PAYLOAD, encode(lax), [key("offline")]),
        "the layout proves nothing: ",
    )


def test_a_policy_names_no_layout_that_nobody_lists(vendor: Vendor) -> None:
    vendor.create_with_pump()
    rule = LayoutRule(number=1, digest=Digest.of(b"layout"), range=ANY)
    with (
        pytest.raises(RefusedError, match="names layout 1, which acme does not list"),
        edit(vendor) as changes,
    ):
        changes.set_policy(PUMP, replace(OPEN, layouts=(rule,)))


def test_the_profile_simple_has_none(vendor: Vendor) -> None:
    vendor.profile = "simple"
    vendor.create_with_pump()
    with (
        pytest.raises(RefusedError, match="the profile simple has no layouts"),
        edit(vendor) as changes,
    ):
        changes.add_layout(PUMP, one_layout(), serves=ANY)


def test_what_is_listed_needs_no_new_signature(vendor: Vendor) -> None:
    """The publisher's key has changed since: the bytes that it agreed to are these."""
    vendor.create_with_pump()
    data = sign_envelope(PAYLOAD, encode(layout()), [key("before")])
    with edit(vendor) as changes:
        changes._work.put("acme", PUMP.layout_path(1), data, custom=None)
        rule = LayoutRule(number=1, digest=Digest.of(data), range=npm("^1.0"))
        changes.set_policy(PUMP, replace(OPEN, layouts=(rule,)))
    with edit(vendor) as changes:
        assert changes.add_layout(PUMP, data, serves=npm("^1.0")) == 1
        assert changes.add_layout(PUMP, data, serves=npm("^2.0")) == 2


# --- superseding ---------------------------------------------------------------------


def test_a_superseded_layout_serves_what_was_made_by_it(vendor: Vendor) -> None:
    make_demanding(vendor)
    publish_proven(vendor, "1.0.0")
    publish_proven(vendor, "1.1.0")
    with edit(vendor) as changes:
        number = changes.add_layout(PUMP, other_layout(), serves=npm("^1.1 || ^2"))
        assert number == 2
        assert warned(changes, "superseded") == (
            "layout 1 of acme/pump-monitor, which served *, is superseded by layout 2: "
            "it serves 1.1.0, 1.0.0 and nothing new"
        )
    old, new = policy_of(vendor).layouts
    assert old.range is None
    assert len(old.releases) == 2
    assert str(new.range) == "^1.1 || ^2"
    # What was made by it stays good; what is made now, is made by the new one.
    device = device_of(vendor)
    device.verify(PUMP, npm("^1.0"))
    publish_proven(vendor, "1.2.0")
    with edit(vendor) as look:
        assert look.record(PUMP, Version.parse("1.2.0")).layout == 2
        assert look.record(PUMP, Version.parse("1.1.0")).layout == 1
    device_of(vendor).verify(PUMP, Pin.exact(Version.parse("1.0.0")))
    device_of(vendor).verify(PUMP, Pin.exact(Version.parse("1.2.0")))


def test_a_needless_layout_is_dropped_and_its_number_is_not_used_again(
    vendor: Vendor,
) -> None:
    vendor.create_with_pump()
    with edit(vendor) as changes:
        changes.add_layout(PUMP, one_layout(), serves=npm("^1.0"))
    for number in (2, 3):
        with edit(vendor) as changes:
            data = other_layout() if number == 2 else one_layout()
            assert changes.add_layout(PUMP, data, serves=npm("^1.2")) == number
            said = warned(changes, "dropped")
        assert said.endswith(
            f"layout {number} takes its place, and nothing was made by it"
        )
    (rule,) = policy_of(vendor).layouts
    assert rule.number == 3
    listed = vendor.signed(f"{vendor.version('acme')}.acme.json")["targets"]
    assert [one for one in listed if "/layouts/" in one] == [
        "acme/layouts/pump-monitor/3.json"
    ]


def test_a_range_beside_it_leaves_a_layout_current(vendor: Vendor) -> None:
    make_demanding(vendor)
    with edit(vendor) as changes:
        # `*` takes no pre-release: those may be made otherwise.
        changes.add_layout(PUMP, other_layout(), serves=npm("2.0.0-rc.1"))
    assert [one.number for one in policy_of(vendor).layouts] == [1, 2]
    assert all(one.range is not None for one in policy_of(vendor).layouts)


def test_a_lost_record_is_served_by_no_superseded_layout(vendor: Vendor) -> None:
    make_demanding(vendor)
    publish_proven(vendor, "1.0.0")
    for path in (vendor.trust / "targets/acme/releases/pump-monitor").iterdir():
        path.write_bytes(b"damaged")
    with edit(vendor) as changes:
        changes.add_layout(PUMP, other_layout(), serves=npm("^2 || ^1"))
        assert "layout 1 serves it no more" in warned(changes, "the record of 1.0.0")
    assert [one.number for one in policy_of(vendor).layouts] == [2]


# --- whose keys ----------------------------------------------------------------------


def all_by(name: str) -> bytes:
    """Return the pipeline's layout, each step by one key."""
    value = layout()
    public = key(name).public_key
    value["keys"] = {public.keyid: {**public.to_dict(), "keyid": public.keyid}}
    for one in value["steps"]:
        one.update(pubkeys=[public.keyid], threshold=1)
    return sign_envelope(PAYLOAD, encode(value), [key("offline")])


def one_by(name: str) -> bytes:
    """Return the pipeline's layout, its first step by another key as well."""
    value = layout()
    public = key(name).public_key
    value["keys"][public.keyid] = {**public.to_dict(), "keyid": public.keyid}
    value["steps"][0]["pubkeys"].append(public.keyid)
    return sign_envelope(PAYLOAD, encode(value), [key("offline")])


def test_the_release_key_alone_proves_nothing(vendor: Vendor) -> None:
    vendor.create_with_pump()
    with (
        pytest.raises(RefusedError, match="can do every step of the layout"),
        edit(vendor) as changes,
    ):
        changes.add_layout(PUMP, all_by("ci"), serves=ANY)
    with edit(vendor) as changes:
        changes.add_layout(PUMP, one_by("ci"), serves=ANY)
        assert "is a functionary of build" in warned(changes, "an online key")
    with edit(vendor) as changes:
        changes.add_layout(PUMP, one_by("offline"), serves=ANY)
        assert "is a functionary of build" in warned(changes, "an offline key")


def test_the_release_key_vouches_for_nothing(vendor: Vendor) -> None:
    vendor.create_with_pump()
    named = PolicyKey.of(key("ci").public_key)
    rule = SummaryRule(keyids=(named.keyid,), threshold=1, max_age=timedelta(days=1))
    with (
        pytest.raises(RefusedError, match="is an online key of this repository: its s"),
        edit(vendor) as changes,
    ):
        changes.set_policy(PUMP, replace(OPEN, keys=(named,), summary=rule))
    statement = AttestationRule(type="https://cyclonedx.org/bom", keyids=(named.keyid,))
    with edit(vendor) as changes:
        changes.set_policy(
            PUMP, replace(OPEN, keys=(named,), attestations=(statement,))
        )
        assert "that signs https://cyclonedx.org/bom is an online key" in warned(
            changes, "whoever steals it"
        )


def test_one_key_online_and_offline_proves_nothing(vendor: Vendor) -> None:
    vendor.create()
    with edit(vendor) as changes:
        changes.add_application(PUMP, [key("offline").public_key], policy=OPEN)
    with (
        pytest.raises(
            RefusedError, match=r"one key of .* is online and offline at once"
        ),
        edit(vendor) as changes,
    ):
        demand(changes)


# --- what is said --------------------------------------------------------------------


def said(old: PublisherPolicy, new: PublisherPolicy) -> list[str]:
    return policy_rules.changes_said(PUMP, old, new, {})


def test_what_a_change_loosens_is_said() -> None:
    digest = Digest.of(b"layout")
    one = LayoutRule(number=1, digest=digest, range=ANY)
    past = LayoutRule(number=2, digest=digest, releases=(digest, Digest.of(b"b")))
    demanding = PublisherPolicy(epoch=1, provenance="required", layouts=(one, past))
    assert said(demanding, demanding) == []
    (text,) = said(demanding, replace(demanding, provenance="none"))
    assert text.startswith("devices no longer demand provenance of acme/pump-monitor")
    none, dropped = said(demanding, replace(demanding, layouts=(past,)))
    assert "no layout is current: no new release can be published" in none
    assert "layout 1 of acme/pump-monitor is dropped: devices refuse what" in dropped
    (text,) = said(demanding, replace(demanding, layouts=(one,)))
    assert text.startswith("layout 2 of acme/pump-monitor is dropped: devices refuse ")
    assert digest.short in text
    less = replace(past, releases=(digest,))
    (text,) = said(demanding, replace(demanding, layouts=(one, less)))
    assert "layout 2 of acme/pump-monitor no longer serves" in text
    timed = replace(one, expires=datetime(2031, 1, 1, tzinfo=UTC))
    (text,) = said(demanding, replace(demanding, layouts=(timed, past)))
    assert text == "layout 1 of acme/pump-monitor ends 2031-01-01"
    (text,) = said(replace(demanding, layouts=(timed, past)), demanding)
    assert text == "layout 1 of acme/pump-monitor ends as its file says"
    assert policy_rules.changes_said(PUMP, None, demanding, {}) == []


def test_one_failing_answer_replaces_no_policy(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a registry that answers 503 once, by chance or not, ends every rule."""
    make_demanding(vendor)
    before, files = policy_of(vendor), vendor.files()
    read = Work.read

    def failing(self: Work, path: str, *given: Any, **options: Any) -> bytes:
        if path == PUMP.policy_path(1):
            raise FetchError("the registry answers 503", url="oci://r", missing=False)
        return read(self, path, *given, **options)

    nothing = ProofChanges()
    given = PolicyChanges(
        epoch=1,
        provenance="required",
        minimum_version=None,
        reinstate=(),
        downgrade_to=(),
        proof=nothing,
    )
    for change in (
        lambda changes: given.apply(changes, PUMP, GivenKeys({}, (), {})),
        lambda changes: changes.set_policy(PUMP, OPEN),
        lambda changes: changes.set_policy(PUMP, before),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(Work, "read", failing)
            with pytest.raises(FetchError, match="503"), edit(vendor) as changes:
                change(changes)
        assert vendor.files() == files
    assert policy_of(vendor) == before


def test_what_counts_again_is_said() -> None:
    named = PolicyKey.of(key("verifier").public_key)
    digest = Digest.of(b"survivor")
    full = replace(
        OPEN,
        keys=(named,),
        attestations=(
            AttestationRule(type="https://spdx.dev/Document", keyids=(named.keyid,)),
        ),
        summary=SummaryRule(
            keyids=(named.keyid,), threshold=1, max_age=timedelta(days=1)
        ),
        revoked_functionaries=(RevokedFunctionary(key="a" * 64, survivors=(digest,)),),
    )
    assert said(full, full) == []
    statement, summary, functionary = said(full, OPEN)
    assert statement.endswith("need no https://spdx.dev/Document any more")
    assert summary.startswith("no verification summary of acme/pump-monitor counts")
    assert functionary == "links of acme/pump-monitor by aaaaaaaaaaaa count again"
    bare = replace(full, revoked_functionaries=(RevokedFunctionary(key="a" * 64),))
    (text,) = said(full, bare)
    assert text.startswith("of acme/pump-monitor by aaaaaaaaaaaa survives no more: ")
    (text,) = said(bare, full)
    assert text.startswith("of acme/pump-monitor by aaaaaaaaaaaa survives as well: ")


def test_each_demand_that_is_lowered_is_said() -> None:
    keys = [PolicyKey.of(key(one).public_key) for one in ("a", "b", "c")]
    a, b, c = (one.keyid for one in keys)
    rule = AttestationRule(
        type="https://slsa.dev/provenance",
        keyids=(a, b),
        threshold=2,
        builders=("https://b/1",),
        sources=("https://s/1",),
    )
    summary = SummaryRule(keyids=(a, b), threshold=2, max_age=timedelta(days=30))
    full = replace(OPEN, keys=tuple(keys), attestations=(rule,), summary=summary)

    def changed(**changes: Any) -> list[str]:
        return said(full, replace(full, attestations=(replace(rule, **changes),)))

    what = "https://slsa.dev/provenance of acme/pump-monitor"
    fewer = "needs 1 of 2 signatures, and needed 2 of 2"
    assert changed(threshold=1) == [f"{what} {fewer}"]
    assert changed(keyids=(a, c)) == [
        f"{what} counts by {c[:12]} as well",
        f"{what} counts no more by {b[:12]}",
    ]
    assert changed(builders=()) == [f"{what} may name any builder"]
    assert changed(builders=("https://b/1", "https://b/2"), sources=()) == [
        f"{what} may name the builder https://b/2 as well",
        f"{what} may name any source",
    ]
    free = replace(full, attestations=(replace(rule, builders=(), sources=()),))
    assert said(free, full) == []
    lax = replace(summary, threshold=1, max_age=timedelta(days=400))
    assert said(full, replace(full, summary=lax)) == [
        f"a summary of acme/pump-monitor {fewer}",
        "a summary of acme/pump-monitor counts for 400 days, and counted for 30 days",
    ]
    assert said(replace(full, summary=lax), full) == []
    assert said(replace(full, summary=None), full) == []


def test_what_follows_is_said_once(vendor: Vendor) -> None:
    vendor.create_with_pump()
    with edit(vendor) as changes:
        changes.set_policy(PUMP, replace(OPEN, provenance="required"))
        changes.set_policy(
            PUMP,
            replace(
                OPEN, provenance="required", minimum_version=Version.parse("1.0.0")
            ),
        )
        assert "list one with --layout" in warned(changes, "no layout is current")


# --- devices -------------------------------------------------------------------------


def test_a_revoked_functionary_makes_nothing_more(vendor: Vendor) -> None:
    make_demanding(vendor)
    publish_proven(vendor, "1.0.0")
    publish_proven(vendor, "1.1.0")
    policy = policy_of(vendor)
    with edit(vendor) as changes:
        survivor = changes.record(PUMP, Version.parse("1.0.0")).release
        lost = world_key("tester").public_key
        revoked = tuple(
            RevokedFunctionary(key=one, survivors=(survivor,))
            for one in (lost.keyid, material(lost))
        )
        changes.set_policy(PUMP, replace(policy, revoked_functionaries=revoked))
    device_of(vendor).verify(PUMP, Pin.exact(Version.parse("1.0.0")))
    with pytest.raises(ProvenanceError) as caught:
        device_of(vendor).verify(PUMP, Pin.exact(Version.parse("1.1.0")))
    assert caught.value.reason in {"revoked", "threshold", "missing-step"}


# --- what vendors submit -------------------------------------------------------------


def market_at(directory: Path) -> market.Market:
    found = market.Market(directory)
    found.open_market()
    return found


def test_layouts_are_superseded_in_submissions(tmp_path: Path) -> None:
    """One layout takes the other's place before the operator has taken the first."""
    shop = market_at(tmp_path)
    for number, serves in ((1, "^1.1"), (2, "^1.1 || ^2"), (3, "^1.1")):
        with shop.submit("acme") as changes:
            data = signed_layout("acme", readme=str(number))
            assert changes.add_layout(market.PUMP, data, serves=npm(serves)) == number
    done = shop.accept()
    assert done.refused == ()
    with shop.repository.edit((), clock=shop.clock) as look:
        policy = look.policy(market.PUMP)
        assert look.layout(market.PUMP, 3)
    assert policy is not None
    assert [one.number for one in policy.layouts] == [3]
    # One that was taken is dropped by a later submission.
    with shop.submit("acme") as changes:
        data = signed_layout("acme", readme="4")
        assert changes.add_layout(market.PUMP, data, serves=npm("^1.1")) == 4
    assert shop.accept().refused == ()
    assert shop.newest() == "1.0.0"


def test_what_a_superseded_layout_serves_is_known_to_operators(tmp_path: Path) -> None:
    shop = market_at(tmp_path)
    with shop.submit("acme") as changes:
        demand(changes, market.PUMP, offline="acme")
    assert shop.accept().refused == ()
    made = [shop.release(version, name=market.PUMP) for version in ("1.1.0", "1.1.1")]
    for one in made:
        with shop.submit("acme-ci") as changes:
            changes.add_release(one, attestations=links_of(one))
        assert shop.accept().refused == ()
    with shop.submit("acme") as changes:
        data = signed_layout("acme", readme="2")
        changes.add_layout(market.PUMP, data, serves=npm("^2"))
        policy = changes.policy(market.PUMP)
        assert policy is not None
        old, new = policy.layouts
        assert len(old.releases) == 2
        kept = replace(old, releases=(made[0].record(shop.clock.now()).release,))
        changes.set_policy(market.PUMP, replace(policy, layouts=(kept, new)))
    done = shop.accept()
    assert done.refused == ()
    (text,) = [one for one in done.warnings if "no layout serves them" in one]
    assert "1.1.1" in text
    assert "1.1.0" not in text


def test_what_was_made_by_a_layout_is_known_to_vendors(tmp_path: Path) -> None:
    shop = market_at(tmp_path)
    with shop.submit("acme") as changes:
        demand(changes, market.PUMP, offline="acme")
    assert shop.accept().refused == ()
    made = shop.release("1.1.0", name=market.PUMP)
    with shop.submit("acme-ci") as changes:
        changes.add_release(made, attestations=links_of(made))
    assert shop.accept().refused == ()
    with shop.submit("acme") as changes:
        data = signed_layout("acme", readme="2")
        changes.add_layout(market.PUMP, data, serves=npm("^2"))
        changes.add_layout(market.PUMP, data, serves=npm("^1 || ^3"))
        assert "it serves 1.1.0 and nothing new" in warned(changes, "superseded")
    assert shop.accept().refused == ()
    with shop.repository.edit((), clock=shop.clock) as look:
        policy = look.policy(market.PUMP)
    assert policy is not None
    assert [str(one.range) for one in policy.layouts] == ["None", "^2", "^1 || ^3"]
    assert policy.layouts[0].releases == (made.record(shop.clock.now()).release,)
