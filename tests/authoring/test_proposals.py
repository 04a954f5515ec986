"""Root proposals: made, signed apart, brought together, and what they never take."""

from __future__ import annotations

import base64
import copy
import json
import pickle
from dataclasses import replace
from datetime import timedelta
from functools import reduce
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner, Signature
from tuf.api.metadata import Metadata, Root

from margo_supplychain.authoring.holders import Holder
from margo_supplychain.authoring.plan import RootPlan
from margo_supplychain.authoring.proposals import RootProposal, SignedRoot
from margo_supplychain.errors import (
    IncompleteError,
    KeyFormatError,
    MetadataFormatError,
    RefusedError,
    SignerError,
)
from margo_supplychain.formats import strict_json
from margo_supplychain.verify.memory import Memory
from margo_supplychain.verify.workflow import Demand, Workflow
from tests.authoring import roots
from tests.authoring.roots import (
    edited,
    entries,
    envelope,
    first,
    following,
    keyid,
    plan,
    role,
    signed,
    trusted,
)
from tests.authoring.trust import NOW, key

if TYPE_CHECKING:
    from collections.abc import Callable

    from securesystemslib.signer import Key

SWAPPED = ("b", "c", "d")


def swap() -> RootProposal:
    """Return a proposal in which d takes the place of a."""
    return following(plan(*SWAPPED))


def follows(root: bytes, *more: bytes) -> int:
    """Return the version that a device on `root` ends at."""
    from margo_supplychain.authoring.state import LIMITS

    memory = Memory(root=root, publishers=None)
    workflow = Workflow(memory, demand=Demand.MARGO, limits=LIMITS)
    for data in more:
        workflow.update_root(data)
    return workflow.root.version


# --- who signs -----------------------------------------------------------------------


def test_the_first_root_is_signed_by_its_own_threshold() -> None:
    proposal = first()
    assert (proposal.version, proposal.old, proposal.new.met) == (1, None, False)
    with pytest.raises(IncompleteError, match="root needs 2 more of holder a, "):
        proposal.finalize()
    proposal = signed(proposal, "c")
    assert proposal.lacking() == ("root needs 1 more of holder a, holder b",)
    root = signed(proposal, "a").finalize()
    assert root.version == 1
    assert follows(root.data) == 1


def test_both_thresholds_are_needed_and_counted_apart() -> None:
    proposal = swap()
    assert proposal.old is not None
    assert (proposal.old.needed, proposal.new.needed) == (2, 2)
    # a leaves, and still signs this change; d comes, and counts for the new root only.
    proposal = signed(proposal, "a", "d")
    assert proposal.old is not None
    assert (len(proposal.old.signers), len(proposal.new.signers)) == (1, 1)
    assert proposal.lacking() == (
        "old root needs 1 more of holder b, holder c",
        "new root needs 1 more of holder b, holder c",
    )
    root = signed(proposal, "b").finalize()
    assert follows(trusted().data, root.data) == 2


def test_the_new_threshold_alone_is_not_enough() -> None:
    proposal = signed(following(plan("d", "e", threshold=2)), "d", "e")
    assert proposal.new.met
    with pytest.raises(IncompleteError, match=r"^old root needs 2 more of keys that "):
        proposal.finalize()


def test_the_old_threshold_alone_is_not_enough() -> None:
    proposal = signed(following(plan("d", "e", threshold=2)), "a", "b")
    with pytest.raises(IncompleteError, match=r"^new root needs 2 more of holder d"):
        proposal.finalize()


def test_a_lowered_threshold_needs_the_old_one() -> None:
    proposal = signed(following(plan(threshold=1)), "a")
    assert proposal.new.met
    with pytest.raises(IncompleteError, match="old root needs 1 more of holder b"):
        proposal.finalize()


def test_all_keys_replaced_at_once() -> None:
    proposal = signed(following(plan("d", "e", "f")), "a", "c", "d", "f")
    assert follows(trusted().data, proposal.finalize().data) == 2


def test_signing_twice_changes_nothing() -> None:
    proposal = first("a")
    assert signed(proposal, "a").data == proposal.data


def test_the_same_key_twice_counts_once() -> None:
    proposal = signed(first("a"), "a", "a")
    assert len(proposal.new.signers) == 1


def test_a_key_of_neither_root_signs_nothing() -> None:
    with pytest.raises(RefusedError, match="is no root key of root v1 or root v2"):
        swap().sign(key("targets"))
    with pytest.raises(RefusedError, match=r"is no root key of root v1$"):
        first().sign(key("d"))


def test_a_key_that_left_before_signs_nothing() -> None:
    second = signed(swap(), "b", "c").finalize()
    third = RootProposal.following(second.data, plan(*SWAPPED), now=NOW)
    with pytest.raises(RefusedError, match="is no root key of root v2 or root v3"):
        third.sign(key("a"))


def test_a_signer_that_lies_is_noticed() -> None:
    class Broken(CryptoSigner):
        def sign(self, payload: bytes) -> Signature:
            return Signature(self.public_key.keyid, super().sign(b"else").signature)

    broken = Broken(key("a")._private_key, key("a").public_key)
    with pytest.raises(SignerError, match="signature of root v1 that does not verify"):
        first().sign(broken)


def test_a_key_signs_by_the_id_that_another_tool_gave_it() -> None:
    """Another tool computes ids over its own fields: that id stays with the key."""
    before = made_by_others()
    stands = Metadata[Root].from_bytes(before).signed
    proposal = following(RootPlan.of(stands), "a", after=before)
    assert proposal.signed_by == {renamed(key("a").public_key).keyid}
    assert proposal.old is not None
    assert (len(proposal.old.signers), len(proposal.new.signers)) == (1, 1)
    assert signed(proposal, "b").finalize().version == 2


def renamed(public: Key) -> Key:
    """Return the same key as another tool describes it, with the id it computes."""
    import hashlib

    from securesystemslib.signer import SSlibKey

    from margo_supplychain.formats import canonical_json

    form = {**public.to_dict(), "x-tuf-on-ci-keyowner": "@ada"}
    computed = hashlib.sha256(canonical_json.encode(form)).hexdigest()
    return SSlibKey.from_dict(computed, form)


# --- what somebody hands over --------------------------------------------------------


def test_parse_gives_back_what_was_written() -> None:
    proposal = signed(swap(), "a")
    again = RootProposal.parse(proposal.data, trusted=trusted().data)
    assert (again.data, again.digest) == (proposal.data, proposal.digest)
    assert again.signed_by == {keyid("a")}


def test_a_changed_proposal_voids_the_signatures_in_it() -> None:
    data = edited(signed(swap(), "a").data, lambda root: root.update({"x-note": "!"}))
    with pytest.raises(RefusedError, match=r"signature of key .* does not verify"):
        RootProposal.parse(data, trusted=trusted().data)


def test_merging_copies_of_one_proposal() -> None:
    proposal = swap()
    ours, theirs = signed(proposal, "a", "b"), signed(proposal, "b", "d")
    merged = ours.merge(theirs)
    assert merged.signed_by == {keyid("a"), keyid("b"), keyid("d")}
    assert merged.data == theirs.merge(ours).data
    assert merged.merge(ours).data == merged.data
    assert merged.finalize().version == 2


@given(st.lists(st.sets(st.sampled_from("abcd"), max_size=3), min_size=1, max_size=5))
def test_copies_come_together_in_any_order(copies: list[set[str]]) -> None:
    proposal = swap()
    parts = [signed(proposal, *sorted(names)) for names in copies]
    there = reduce(RootProposal.merge, parts)
    back = reduce(RootProposal.merge, reversed(parts))
    assert there.data == back.data
    wanted = {keyid(name) for names in copies for name in names}
    assert there.signed_by == wanted
    assert len(there.new.signers) == len(wanted - {keyid("a")})
    assert there.merge(there).data == there.data


def test_merging_another_proposal_names_both() -> None:
    ours = signed(swap(), "a")
    theirs = signed(following(plan("b", "c", "e")), "b")
    with pytest.raises(RefusedError) as caught:
        ours.merge(theirs)
    assert ours.digest in str(caught.value)
    assert theirs.digest in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"keyid": "ab" * 32, "sig": "00"}, "is no root key of root v1"),
        ({"keyid": keyid("a"), "sig": "00"}, "does not verify"),
        ({"keyid": "ab" * 32, "sig": ""}, "is no root key of root v1"),
        ({"keyid": keyid("targets"), "sig": "00"}, "is no root key of root v1"),
    ],
)
def test_signatures_that_are_none_are_refused(
    entry: dict[str, str], message: str
) -> None:
    data = envelope(first("b").data, lambda root: root["signatures"].append(entry))
    with pytest.raises(RefusedError, match=message):
        RootProposal.parse(data, trusted=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: root["signatures"][0].update(sig="no hex"), "not lower-case hex"),
        (lambda root: root["signatures"][0].update(x=1), "has the field 'x'"),
        (
            lambda root: root.update(x=1),
            "root v1 has the field 'x', which nobody signs",
        ),
    ],
)
def test_what_stands_around_a_proposal_is_refused(
    change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(MetadataFormatError, match=message):
        RootProposal.parse(envelope(first("b").data, change), trusted=None)


def test_a_key_id_twice_is_no_second_signature() -> None:
    def twice(root: dict[str, Any]) -> None:
        root["signatures"] *= 2

    with pytest.raises(MetadataFormatError, match="root is not root metadata"):
        RootProposal.parse(envelope(first("a").data, twice), trusted=None)


def test_a_signature_moved_to_another_key_id_is_refused() -> None:
    sig = entries(first("a").data)[keyid("a")]
    data = envelope(
        first("a").data,
        lambda root: root["signatures"].append({"keyid": keyid("b"), "sig": sig}),
    )
    with pytest.raises(RefusedError, match=f"key {keyid('b')[:12]} in root v1 does"):
        RootProposal.parse(data, trusted=None)


def test_too_many_signatures_are_refused() -> None:
    empty = [{"keyid": f"{number:064x}", "sig": ""} for number in range(257)]
    data = envelope(first().data, lambda root: root.update(signatures=empty))
    with pytest.raises(RefusedError, match="257 signatures, more than 256"):
        RootProposal.parse(data, trusted=None)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "root is not JSON"),
        (b"[]", "root is not a JSON object"),
        (b"{}", 'root has no "signed" object'),
        (b" " * 512_001, "512001 bytes, more than the limit"),
        (b'{"signed":{"_type":"targets"},"signatures":[]}', "of type 'targets'"),
        (b'{"signed":{},"signed":{}}', "'signed' twice"),
    ],
)
def test_what_is_no_root(data: bytes, message: str) -> None:
    with pytest.raises(MetadataFormatError, match=message):
        RootProposal.parse(data, trusted=None)


def test_other_tools_placeholders_are_carried_through() -> None:
    """tuf-on-ci marks who shall sign by a key id with an empty signature."""
    placeholders = [{"keyid": keyid(name), "sig": ""} for name in "ab"]
    data = envelope(first().data, lambda root: root.update(signatures=placeholders))
    proposal = RootProposal.parse(data, trusted=None)
    assert proposal.signed_by == frozenset()
    proposal = signed(proposal, "a").merge(signed(first(), "c"))
    found = json.loads(proposal.data)
    assert {one["keyid"]: bool(one["sig"]) for one in found["signatures"]} == {
        keyid("a"): True,
        keyid("b"): False,
        keyid("c"): True,
    }
    assert follows(proposal.finalize().data) == 1


def test_a_placeholder_replaces_no_signature() -> None:
    data = envelope(
        first().data,
        lambda root: root.update(signatures=[{"keyid": keyid("a"), "sig": ""}]),
    )
    empty = RootProposal.parse(data, trusted=None)
    full = signed(first(), "a")
    both = full.merge(empty)
    assert both.signed_by == {keyid("a")}
    assert empty.merge(full).data == both.data


# --- signatures that were made elsewhere ---------------------------------------------


def test_a_signature_from_elsewhere_is_verified_before_it_is_added() -> None:
    proposal = swap()
    made = key("a").sign(proposal.payload).signature
    raw = bytes.fromhex(made)
    written = base64.b64encode(raw)
    for form in (
        made,
        made.upper(),
        raw,
        f"{made}\n".encode(),
        written,
        b"\n" + written,
    ):
        assert proposal.with_signature(keyid("a"), form).signed_by == {keyid("a")}
    with pytest.raises(RefusedError, match="does not verify") as caught:
        proposal.with_signature(keyid("b"), made)
    assert proposal.digest in str(caught.value.hint)
    with pytest.raises(RefusedError, match="is no root key"):
        proposal.with_signature(keyid("targets"), made)


@pytest.mark.parametrize("given", ["", "zz", b"", b"x" * 20_000])
def test_a_signature_that_is_none(given: bytes | str) -> None:
    with pytest.raises(RefusedError, match="signature"):
        first().with_signature(keyid("a"), given)


def test_tokens_write_ecdsa_signatures_side_by_side() -> None:
    proposal = first()
    der = bytes.fromhex(key("a").sign(proposal.payload).signature)
    r, s = decode_dss_signature(der)
    beside = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    for form in (beside, beside.hex()):
        found = proposal.with_signature(keyid("a"), form)
        assert entries(found.data)[keyid("a")] == der.hex()


# --- lock-out ------------------------------------------------------------------------


def drop_key(root: dict[str, Any]) -> None:
    del root["keys"][keyid("c")]


def same_key_again(root: dict[str, Any]) -> None:
    other = renamed(key("a").public_key)
    root["keys"][other.keyid] = other.to_dict()
    root["roles"]["root"]["keyids"].append(other.keyid)


def false_id(root: dict[str, Any]) -> None:
    root["keys"]["ee" * 32] = root["keys"][keyid("a")]
    root["roles"]["root"]["keyids"].append("ee" * 32)


LOCKED_OUT: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (
        lambda root: root["roles"]["root"].update(threshold=4),
        "threshold is 4",
    ),
    (
        lambda root: root["roles"]["targets"].update(threshold=2),
        "targets in root v2",
    ),
    (lambda root: root["roles"]["timestamp"].update(keyids=[]), "a role has 0 keys"),
    (drop_key, "which root does not define"),
    (same_key_again, "is given twice in one role"),
    (false_id, "is not computed from its key"),
    (lambda root: root.update(version=1), "root v1 is trusted already"),
    (lambda root: root.update(version=3), "devices go from one version to the next"),
    (lambda root: root.update(consistent_snapshot=False), "promise consistent snap"),
    (lambda root: root.pop("x-issued"), "has no x-issued"),
    (
        lambda root: root.update({"x-issued": "2026-11-21T09:59:59Z"}),
        "before root v1",
    ),
    (
        lambda root: root.update(expires="2026-11-21T10:00:00Z"),
        "not after it was",
    ),
    (
        lambda root: root.update({"x-periods": {"root": "1y"}}),
        "expected a time",
    ),
    (
        lambda root: root.update({"x-signing": {"king": "1d"}}),
        "period of 'king'",
    ),
    (lambda root: root.update({"x-holders": []}), "not an object"),
    (
        lambda root: root.update({"x-custody": {"root": "never-extractable"}}),
        "is recorded without custody, expected never-extractable",
    ),
    (
        lambda root: root.update({"x-custody": {"acme": "never-extractable"}}),
        "custody of",
    ),
    (
        lambda root: root["roles"]["snapshot"].update(keyids=[keyid("a")]),
        "of the offline role root is also an online key",
    ),
    (
        lambda root: root["roles"]["targets"].update(keyids=[keyid("online")]),
        "of the offline role targets is also an online key",
    ),
]


@pytest.mark.parametrize(("change", "message"), LOCKED_OUT)
def test_what_would_lock_somebody_out_is_refused(
    change: Callable[[dict[str, Any]], object], message: str
) -> None:
    data = edited(following(plan()).data, change)
    with pytest.raises(RefusedError, match=message):
        RootProposal.parse(data, trusted=trusted().data)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: root["roles"].pop("snapshot"),
        lambda root: root["roles"]["root"].update(keyids=[keyid("a")] * 2),
        lambda root: root["roles"]["root"].update(threshold=0),
        lambda root: root["roles"]["root"].update(threshold=True),
        lambda root: root.update(spec_version="2.0.0"),
    ],
)
def test_what_no_device_could_read_is_no_root(
    change: Callable[[dict[str, Any]], object],
) -> None:
    data = edited(following(plan()).data, change)
    with pytest.raises(MetadataFormatError):
        RootProposal.parse(data, trusted=trusted().data)


def test_a_second_root_without_the_first_is_refused() -> None:
    with pytest.raises(RefusedError, match="follows root v1, which is not given"):
        RootProposal.parse(following(plan()).data, trusted=None)


def test_a_proposal_expires_before_it_is_signed() -> None:
    proposal = following(plan())
    proposal.check_time(NOW + timedelta(days=729))
    with pytest.raises(RefusedError, match="which is in the past"):
        proposal.check_time(NOW + timedelta(days=730))


def test_a_proposal_of_yesterdays_clock_counts_from_the_root_before() -> None:
    yesterday = NOW - timedelta(days=1)
    proposal = RootProposal.following(trusted().data, plan(), now=yesterday)
    assert proposal.root.issued == NOW
    assert proposal.root.expires == NOW + timedelta(days=730)
    proposal.check_time(yesterday)


def test_a_key_that_left_never_returns() -> None:
    roots = [trusted()]
    for names in (SWAPPED, ("b", "c", "e")):
        proposal = following(plan(*names), after=roots[-1].data)
        roots.append(
            signed(proposal, "a" if names == SWAPPED else "d", *names).finalize()
        )
    earlier = [one.root.signed for one in roots]
    proposal = following(plan("a", "b", "c"), after=roots[-1].data)
    with pytest.raises(RefusedError, match=f"{keyid('a')[:12]} left the role root"):
        proposal.check_returning(earlier)
    following(plan("b", "c", "f"), after=roots[-1].data).check_returning(earlier)


def test_a_key_may_go_to_another_role() -> None:
    proposal = following(plan("b", "c", "d", targets=role("a")))
    proposal.check_returning([trusted().root.signed])


def test_the_simple_profile_may_keep_its_one_key() -> None:
    keys = role("a")
    one = RootPlan(
        profile="simple",
        publisher="acme",
        root=keys,
        targets=keys,
        snapshot=keys,
        timestamp=keys,
    )
    root = signed(RootProposal.first(one, now=NOW), "a").finalize()
    assert following(one, "a", after=root.data).finalize().version == 2


# --- what other tools wrote ----------------------------------------------------------

FOREIGN: list[Callable[[dict[str, Any]], object]] = [
    lambda root: root.update({"x-tuf-on-ci-expiry-period": 365}),
    lambda root: root["roles"]["timestamp"].update({"x-tuf-on-ci-signing-period": 2}),
]


def made_by_others() -> bytes:
    """Return a trusted root with fields of another tool, also in keys."""
    other = renamed(key("a").public_key)

    def rename(root: dict[str, Any]) -> None:
        del root["keys"][keyid("a")]
        root["keys"][other.keyid] = other.to_dict()
        root["roles"]["root"]["keyids"][0] = other.keyid
        del root["x-holders"][keyid("a")]

    data = edited(RootProposal.first(plan(), now=NOW).data, rename)
    for change in FOREIGN:
        data = edited(data, change)
    return roots.resigned(data, "b", "c")


def test_fields_of_other_tools_are_carried_along() -> None:
    before = made_by_others()
    stands = Metadata[Root].from_bytes(before).signed
    wanted = replace(RootPlan.of(stands), periods={"root": timedelta(days=100)})
    proposal = following(wanted, "b", "c", after=before)
    found = json.loads(proposal.data)["signed"]
    old = json.loads(before)["signed"]
    assert found["x-tuf-on-ci-expiry-period"] == 365
    assert found["roles"] == old["roles"]
    assert found["keys"] == old["keys"]
    assert follows(before, proposal.finalize().data) == 2


def test_a_key_that_is_named_by_its_file_keeps_the_id_of_another_tool() -> None:
    """A plan names Ada's file, and a role that is new to her key gets the same id."""
    before = made_by_others()
    other = renamed(key("a").public_key).keyid
    holders = {keyid("a"): Holder(name="Ada")}
    wanted = plan(targets=role("a"), holders=holders)
    proposal = following(wanted, "a", "b", after=before)
    said = json.loads(proposal.data)["signed"]
    assert keyid("a") not in said["keys"]
    assert said["roles"]["targets"]["keyids"] == [other]
    assert said["roles"]["root"]["keyids"] == [other, keyid("b"), keyid("c")]
    assert said["x-holders"] == {other: {"name": "Ada"}}
    assert follows(before, proposal.finalize().data) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda root: root.pop("x-tuf-on-ci-expiry-period"),
        lambda root: root["roles"]["timestamp"].pop("x-tuf-on-ci-signing-period"),
    ],
)
def test_fields_of_other_tools_are_not_lost(
    change: Callable[[dict[str, Any]], object],
) -> None:
    before = made_by_others()
    stands = RootPlan.of(Metadata[Root].from_bytes(before).signed)
    data = edited(following(stands, after=before).data, change)
    with pytest.raises(RefusedError, match="loses the field 'x-tuf-on-ci-"):
        RootProposal.parse(data, trusted=before)


# --- values --------------------------------------------------------------------------


def test_a_signed_root_is_sealed() -> None:
    root = trusted()
    for spoil in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="made only by RootProposal"):
            spoil(root)
    with pytest.raises(TypeError, match="made only by RootProposal"):
        SignedRoot(root=root.root, seal=object())
    with pytest.raises(TypeError, match="made only by RootProposal"):
        type("Fake", (SignedRoot,), {})
    with pytest.raises(TypeError, match="made only by RootProposal"):
        root.__setstate__(None)
    with pytest.raises(TypeError, match="made only by RootProposal"):
        root.__getstate__()


def test_a_plan_that_nobody_could_sign_is_no_proposal() -> None:
    with pytest.raises(KeyFormatError, match="threshold is 4"):
        plan(threshold=4)


def test_what_is_written_is_canonical() -> None:
    data = first("a").data
    assert data == strict_json.canonical(json.loads(data))


def test_a_proposal_renames_nobody_who_must_consent() -> None:
    """Of a key that stays, the trusted root says who holds it, for both roots."""
    wanted = plan(holders={keyid("a"): Holder(name="somebody else")})
    needed = following(wanted).lacking()
    assert len(needed) == 2
    assert all("holder a" in one and "somebody" not in one for one in needed)
