from __future__ import annotations

import hashlib
import io
import json
import tarfile
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.authoring import submission as module
from margo_supplychain.authoring.submission import Base, SubmittedTarget
from margo_supplychain.authoring.submission_file import (
    MAX_LIST,
    is_submission,
    open_submission,
    read_claim,
    read_signed,
    save_submission,
    submission_size,
)
from margo_supplychain.errors import (
    DigestMismatchError,
    FetchError,
    IncompleteError,
    MetadataFormatError,
    RefusedError,
    SupplyChainError,
)
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.names import target_path
from margo_supplychain.formats.tuf_metadata import parse_targets
from tests.authoring.submissions import (
    OCTETS,
    RECORD,
    Held,
    role_file,
    submission,
    tar_of,
    who_signs,
)
from tests.authoring.trust import PUMP, VALVE, key
from tests.cli.running import validate

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.authoring.submission import Submission

UNSIGNED = parse_targets(
    b'{"signatures":[],"signed":{"_type":"targets","expires":"2027-01-01T00:00:00Z",'
    b'"spec_version":"1.0.31","targets":{},"version":7}}',
    role="acme.pump-monitor",
    limit=1000,
)


# --- the file ------------------------------------------------------------------------


def test_submission_is_the_same_after_a_round_trip(tmp_path: Path) -> None:
    one = submission(blobs=[b"layer", b"", b"x" * 3000], note="the first")
    path = tmp_path / "one.tar"
    save_submission(path, one, replaces=False)
    with open_submission(path) as again:
        assert again.unsigned() == one.unsigned()
        assert [x.data for x in again.roles] == [x.data for x in one.roles]
        for what in again.content:
            with again.source.blob(what) as stream:
                assert hashlib.sha256(stream.read()).hexdigest() == what.digest.hex
            with again.source.blob(what, start=what.size) as stream:
                assert stream.read() == b""
        assert tar_of(again) == tar_of(one)
    assert path.stat().st_size == submission_size(one)
    assert is_submission(path.read_bytes()[:64])
    with tarfile.open(path) as tar:
        assert tar.getnames() == [
            "submission.json",
            "metadata/1.acme.pump-monitor.json",
            f"targets/{PUMP.releases}{one.targets[0].what.digest.hex}.1.0.0",
            *(f"blobs/sha256/{what.digest.hex}" for what in one.content),
        ]


def test_same_submission_has_the_same_bytes_everywhere() -> None:
    """The name in every inbox; it must not change with Python, or with time."""
    one = submission(
        roles=(UNSIGNED,),
        targets=(SubmittedTarget(target_path("acme/releases/" + "n" * 200), b"{}"),),
        blobs=[b"layer"],
        note="größer",
    )
    name = hashlib.sha256(tar_of(one)).hexdigest()
    expected = "634bb5d506e8cbd304205438c827c4238bc10fea79d7400a30e2e77765341d3d"
    assert name == expected


def test_list_is_as_its_schema_says(tmp_path: Path) -> None:
    path = tmp_path / "one.tar"
    save_submission(path, submission(blobs=[b"x"], note="new"), replaces=False)
    with tarfile.open(path) as tar:
        member = tar.extractfile("submission.json")
        assert member is not None
        validate(json.load(member), "submission")


def test_longest_names(tmp_path: Path) -> None:
    role = "acme." + "a" * 200
    one = submission(
        roles=(role_file(role),),
        targets=(SubmittedTarget(target_path(f"acme/releases/{'a' * 400}"), b"{}"),),
    )
    save_submission(tmp_path / "one.tar", one, replaces=False)
    with open_submission(tmp_path / "one.tar") as again:
        assert again.unsigned() == one.unsigned()


def test_what_is_read_without_content() -> None:
    one = submission(blobs=[b"layer"])
    data = tar_of(one)
    cut = data[: data.index(b"layer")]
    assert read_claim(io.BytesIO(cut)).publisher == "acme"
    again = read_signed(io.BytesIO(cut))
    assert again.unsigned() == one.unsigned()
    with pytest.raises(FetchError), again.source.blob(one.content[0]):
        pass


@given(st.data())
def test_no_flipped_byte_goes_unnoticed(tmp_path_factory: Any, data: Any) -> None:
    one = submission(roles=(UNSIGNED,), blobs=[b"layer"])
    good = tar_of(one)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("flipped") / "one.tar"
    path.write_bytes(bad)
    # What the list says of itself alone (time, base, media types) makes another one.
    with suppress(MetadataFormatError), open_submission(path) as found:
        assert tar_of(found) == bytes(bad) != good
        assert found.unsigned() != one.unsigned()


@pytest.mark.parametrize("size", [0, 1, 511, 512, 600])
def test_file_that_ends_early(tmp_path: Path, size: int) -> None:
    (tmp_path / "one.tar").write_bytes(tar_of(submission())[:size])
    with (
        pytest.raises(MetadataFormatError, match="ends early"),
        open_submission(tmp_path / "one.tar"),
    ):
        pass


def test_content_that_is_not_what_it_says() -> None:
    what = Descriptor.of(b"right", OCTETS)
    held = Held([b"right"])
    held.blobs[what.digest] = b"wrong"
    with pytest.raises(DigestMismatchError):
        tar_of(submission(content=(what,), source=held))


def test_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "one.tar"
    path.write_bytes(b"mine")
    with pytest.raises(RefusedError, match="exists already"):
        save_submission(path, submission(), replaces=False)
    assert path.read_bytes() == b"mine"
    save_submission(path, submission(), replaces=True)
    assert is_submission(path.read_bytes())
    assert list(tmp_path.iterdir()) == [path]


def test_list_beyond_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    from margo_supplychain.authoring import submission_file

    monkeypatch.setattr(submission_file, "MAX_LIST", 100)
    with pytest.raises(MetadataFormatError, match="more than 100"):
        tar_of(submission())
    assert MAX_LIST == 4 << 20


# --- the value -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"roles": ()}, "has 0 roles, expected 1 to 1000"),
        ({"roles": (role_file("other"),)}, "submission of acme has the role other"),
        ({"roles": (role_file("acmeother"),)}, "has the role acmeother"),
        (
            {"roles": (role_file(VALVE.role), role_file(PUMP.role))},
            r"submission\.metadata is not in order",
        ),
        ({"roles": (role_file(), role_file())}, "names acme.pump-monitor twice"),
        (
            {"targets": (SubmittedTarget(target_path("other/x/y"), b""),)},
            "submission of acme has the target other/x/y",
        ),
        (
            {"targets": (SubmittedTarget(target_path(RECORD), b"x" * (1 << 21)),)},
            "more than the limit of 1048576",
        ),
        ({"base": Base(0, "ab" * 32)}, "has v0"),
        ({"base": Base(1, "AB" * 32)}, "lower-case hex"),
        ({"publisher": "Acme"}, "is not a name"),
        ({"publisher": "snapshot"}, "is not a name"),
        ({"note": "two\nlines"}, "not one printable line"),
        ({"note": ""}, "expected 1 to 500"),
    ],
)
def test_values_that_are_none(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(SupplyChainError, match=text):
        submission(**changes)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = [b"one", b"two"]
    for name, text in (
        ("MOST_ROLES", "has 1 roles"),
        ("MOST_TARGETS", "has 1 target files"),
        ("MOST_BLOBS", "has 2 blobs"),
        ("MAX_FILES", "bytes of metadata and target files"),
        ("MAX_BLOB", "and a submission takes 0"),
        ("MAX_CONTENT", "has 6 bytes of content"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, 0)
            with pytest.raises(MetadataFormatError, match=text):
                submission(blobs=blobs)


def test_operators_own_role_may_be_signed_apart() -> None:
    one = submission(publisher="targets", roles=(role_file("targets"),), targets=())
    assert one.label == "targets v1"


def test_staged_files() -> None:
    one = submission(blobs=[b"layer"])
    staged = one.staged()
    assert list(staged.metadata) == ["1.acme.pump-monitor.json"]
    assert staged.targets[target_path(RECORD)][1] == b'{"a": "record"}'
    (what, opener) = staged.blobs[one.content[0].digest]
    with opener() as stream:
        assert stream.read() == b"layer"
    assert what == one.content[0]


def test_label_of_many_roles() -> None:
    roles = tuple(role_file(f"acme.a{number}") for number in range(7))
    assert submission(roles=roles, targets=()).label.endswith("acme.a4 v1 and 2 more")


# --- signing apart -------------------------------------------------------------------


@pytest.fixture
def partly() -> Submission:
    """Signed by the first of a, b and c, of whom two must."""
    return submission(roles=(role_file(signers=[key("a")]),))


WHO = {PUMP.role: who_signs(PUMP.role, "a", "b", "c", threshold=2)}


def test_signatures_are_collected(partly: Submission) -> None:
    (status,) = partly.status(WHO)
    assert (len(status.signers), status.needed, len(status.missing)) == (1, 2, 2)
    with pytest.raises(IncompleteError, match="pump-monitor has 1 of 2") as caught:
        partly.require_complete(WHO)
    assert key("b").public_key.keyid[:12] in str(caught.value)
    by_b, by_c = partly.sign(key("b"), WHO), partly.sign(key("c"), WHO)
    by_b.require_complete(WHO)
    merged = partly.merge(by_c, by_b, who=WHO)
    assert len(merged.status(WHO)[0].signers) == 3
    assert merged.unsigned() == partly.unsigned()
    # Whoever merges, in whatever order, gets the same bytes.
    other = by_b.merge(by_c, who=WHO)
    assert tar_of(other) == tar_of(merged)


def test_signing_twice_changes_nothing(partly: Submission) -> None:
    once = partly.sign(key("b"), WHO)
    assert len(once.sign(key("b"), WHO).status(WHO)[0].signers) == 2


def test_key_of_nobody(partly: Submission) -> None:
    with pytest.raises(RefusedError, match="may sign none of acme"):
        partly.sign(key("mallory"), WHO)


def test_signature_of_nobody_does_not_count(partly: Submission) -> None:
    wrong = {PUMP.role: who_signs(PUMP.role, "a", "mallory")}
    signed = partly.sign(key("mallory"), wrong)
    assert len(signed.status(WHO)[0].signers) == 1
    cleaned = signed.sign(key("b"), WHO).roles[0].metadata.signatures
    assert set(cleaned) == {key(name).public_key.keyid for name in "ab"}


@pytest.mark.parametrize(
    "changes",
    [
        {"note": "another"},
        {"base": Base(4, "ab" * 32)},
        {"targets": ()},
        {"roles": (role_file(version=2, signers=[key("b")]),)},
    ],
)
def test_swapped_between_signers(partly: Submission, changes: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match="submission 2 says something else"):
        partly.merge(replace(partly, **changes), who=WHO)
