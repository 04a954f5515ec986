"""The pitfalls of in-toto-python, one by one: what it does, and what happens here.

The rows are those of docs/adr/0023-rule-engine.md. Each case of `provenance.stricter`
has a test here in which in-toto passes and this package refuses, or the other way round
for the one case in which it is wider. Rows about recording and about in-toto's command
line tools have nothing to do with a chain, and stand with those who record.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from in_toto.exceptions import SignatureVerificationError
from in_toto.models.metadata import Metadata
from in_toto.verifylib import in_toto_verify
from securesystemslib.signer import CryptoSigner

from margo_supplychain.errors import ProvenanceError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.dsse import Envelope, EnvelopeSignature, pae
from margo_supplychain.provenance import stricter
from margo_supplychain.provenance.chain import LinkFile
from margo_supplychain.provenance.layouts import parse_layout, read_layout
from margo_supplychain.provenance.signed_links import MAX_LINKS
from margo_supplychain.threshold import distinct_signers
from tests.provenance.chains import (
    ARTIFACT,
    CLOSED,
    MANIFEST,
    NOW,
    Pipeline,
    digest,
    file_name,
    link_file,
    only,
    pipeline,
    reasons,
)
from tests.world import provenance as world
from tests.world.repository import key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")
COVERED: Final[set[str]] = set()


def case(name: str) -> Callable[[T], T]:
    """Say which of the named cases a test is about."""
    COVERED.add(name)
    return lambda test: test


def passes_there(pipe: Pipeline) -> Pipeline:
    assert pipe.theirs() is None
    return pipe


def refused(layout: Any) -> str:
    with pytest.raises(ProvenanceError) as caught:
        parse_layout(world.encode(layout), what="layout 1")
    return caught.value.reason


def in_toto_takes(layout: Any, place: Path) -> None:
    """Let in-toto verify a layout without links."""
    (place / "root.layout").write_bytes(world.envelope(layout, "boss"))
    boss = key("boss").public_key
    keys = {boss.keyid: {"keyid": boss.keyid, **boss.to_dict()}}
    loaded = Metadata.load(str(place / "root.layout"))  # type: ignore[no-untyped-call]  # in_toto has no annotations
    in_toto_verify(loaded, keys, link_dir_path=str(place))  # type: ignore[no-untyped-call]  # likewise


def test_row_1_m_of_n_signatures_of_a_layout(tmp_path: Path) -> None:
    """Two of three signed. in-toto wants all keys that it is given; we count."""
    data = world.envelope(pipeline().layout, "boss", "deputy")
    three = {world.keyid(one): key(one).public_key for one in ("boss", "deputy", "x")}
    _, envelope = read_layout(data, what="layout 1")
    assert len(distinct_signers(envelope.pae, envelope.signatures, three)) == 2
    (tmp_path / "root.layout").write_bytes(data)
    loaded = Metadata.load(str(tmp_path / "root.layout"))  # type: ignore[no-untyped-call]  # in_toto has no annotations
    theirs = {one: {"keyid": one, **each.to_dict()} for one, each in three.items()}
    with pytest.raises(SignatureVerificationError):
        in_toto_verify(loaded, theirs, link_dir_path=str(tmp_path))  # type: ignore[no-untyped-call]  # likewise


@case(stricter.ALL_AGREE)
def test_row_2_links_that_disagree_below_the_threshold() -> None:
    pipe = pipeline()
    link = json.loads(json.dumps(pipe.link("build")))
    link["products"]["out/backdoor"] = digest("backdoor")
    pipe.links.append(("build", link, ("second",)))
    finding = only(passes_there(pipe).ours())
    assert finding.reason == "links-disagree"
    assert finding.stricter == stricter.ALL_AGREE


def test_two_links_of_one_functionary_that_disagree() -> None:
    """in-toto has one file name for both, and reads the last that was written."""
    pipe = pipeline()
    pipe.step("build")["threshold"] = 2
    pipe.links.append(
        ("build", json.loads(json.dumps(pipe.link("build"))), ("second",))
    )
    link = json.loads(json.dumps(pipe.link("build")))
    link["products"]["out/backdoor"] = digest("backdoor")
    pipe.links.insert(0, ("build", link, ("second",)))
    finding = passes_there(pipe).ours().findings[0]
    assert finding.stricter == stricter.ALL_AGREE


def test_row_3_one_key_under_two_ids() -> None:
    """Two ids, two files, one key: a threshold of 2 that one person meets."""
    pipe = pipeline()
    other = "ab" * 32
    entry = pipe.layout["keys"][world.keyid("builder")]
    pipe.layout["keys"][other] = {**entry, "keyid": other}
    pipe.step("build").update(pubkeys=[world.keyid("builder"), other], threshold=2)
    pipe.links.append(("build", pipe.link("build"), (("builder", other),)))
    assert pipe.theirs() is None
    assert refused(pipe.layout) == "layout-threshold"


def test_row_4_a_threshold_of_nobody() -> None:
    pipe = pipeline()
    pipe.step("build")["threshold"] = 0
    pipe.links.pop(0)
    with pytest.raises(StopIteration):
        pipe.theirs()
    assert refused(pipe.layout) == "layout-threshold"


def test_row_5_a_layout_without_steps(tmp_path: Path) -> None:
    layout = world.layout([])
    in_toto_takes(layout, tmp_path)
    assert refused(layout) == "layout-empty"


@case(stricter.DEFAULT_DENY)
def test_row_6_match_without_disallow() -> None:
    pipe = pipeline()
    pipe.step("package")["expected_materials"].pop()
    pipe.link("package")["materials"]["out/a"] = digest("backdoored")
    finding = passes_there(pipe).ours().findings[0]
    assert (finding.reason, finding.artifact) == ("unexplained", "out/a")
    assert finding.stricter == stricter.DEFAULT_DENY


@case(stricter.CONNECTED)
def test_row_7_match_of_an_artifact_that_is_not_there() -> None:
    """The package was made of nothing that was built."""
    pipe = pipeline()
    pipe.link("package")["materials"] = {}
    finding = only(passes_there(pipe).ours())
    assert (finding.reason, finding.step) == ("unconnected", "build")
    assert finding.stricter == stricter.CONNECTED


@case(stricter.ARTIFACT_NAME)
@pytest.mark.parametrize("name", ["out/../secret/f", "/secret/f", "out//f", "./f", ""])
def test_row_8_names_that_are_not_normalised(name: str) -> None:
    pipe = pipeline()
    pipe.step("build")["expected_products"] = [
        ("DISALLOW", "secret/*"),
        ("ALLOW", "*"),
    ]
    pipe.link("build")["products"][name] = digest("secret")
    finding = passes_there(pipe).ours().findings[0]
    assert (finding.reason, finding.artifact) == ("artifact-name", name)
    assert finding.stricter == stricter.ARTIFACT_NAME


@case(stricter.STEP_NAME)
def test_row_9_a_link_of_another_step() -> None:
    """The tester may build, too: her test link becomes a build link by its name."""
    pipe = pipeline()
    pipe.link("build")["name"] = "test"
    finding = passes_there(pipe).ours().findings[0]
    assert finding.reason == "step-name"
    assert finding.stricter == stricter.STEP_NAME


@pytest.mark.parametrize("name", ["../outside", "..", "a/b", "a\\b", ""])
def test_row_10_steps_that_leave_the_directory(name: str) -> None:
    layout = pipeline().layout
    layout["steps"][0]["name"] = name
    assert refused(layout) == "layout-malformed"


def inspection(command: list[str]) -> dict[str, Any]:
    return {
        "_type": "inspection",
        "name": "look",
        "run": command,
        "expected_materials": [],
        "expected_products": [],
    }


# in-toto's own use of pathspec.
runs_an_inspection = pytest.mark.filterwarnings(
    "ignore:GitWildMatchPattern:DeprecationWarning"
)


@runs_an_inspection
def test_row_11_an_inspection_runs_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "pwned"
    layout = world.layout([], inspect=[inspection(["touch", str(marker)])])
    assert refused(layout) == "inspection"
    assert not marker.exists()
    in_toto_takes(layout, tmp_path)
    assert marker.exists()


@runs_an_inspection
def test_rows_11_and_17_a_functionary_who_answers_with_a_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds a step's key redefines the step, and has a command run."""
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "pwned"
    sublayout = world.layout(
        [], functionaries=(), inspect=[inspection(["touch", str(marker)])]
    )
    pipe = pipeline()
    pipe.step("build").update(expected_products=[], expected_materials=[])
    pipe.links[0] = ("build", sublayout, ("builder",))
    assert pipe.ours().findings[0].reason == "sublayout"
    assert not marker.exists()
    assert pipe.theirs() is not None
    assert marker.exists()


def test_row_12_no_name_is_hidden() -> None:
    """in-toto's inspections don't see `*.pyc`; what a link names is judged."""
    pipe = pipeline()
    for name in ("evil.pyc", ".git/config", "x~", "build.link"):
        pipe.link("package")["products"] = {
            MANIFEST: {"sha256": ARTIFACT.hex},
            name: digest("evil"),
        }
        assert only(pipe.ours()).artifact == name


@case(stricter.DIGEST_ALGORITHM)
@pytest.mark.parametrize("digests", [{}, {"md5": "0" * 32}, {"sha1": "0" * 40}])
def test_row_13_digests_that_prove_nothing(digests: dict[str, str]) -> None:
    pipe = pipeline()
    pipe.link("build")["products"]["out/a"] = digests
    pipe.link("package")["materials"]["out/a"] = digests
    finding = passes_there(pipe).ours().findings[0]
    assert (finding.reason, finding.artifact) == ("digest-algorithm", "out/a")
    assert finding.stricter == stricter.DIGEST_ALGORITHM


@case(stricter.COMMON_ALGORITHMS)
def test_row_14_common_algorithms_are_compared() -> None:
    """The one case in which we take what in-toto refuses."""
    pipe = pipeline()
    pipe.link("build")["products"]["out/a"]["sha512"] = "ab" * 64
    assert pipe.theirs() is not None
    assert pipe.ours().findings == ()
    pipe.link("package")["materials"]["out/a"] = {
        **digest("program"),
        "sha512": "cd" * 64,
    }
    assert pipe.ours().findings[0].reason == "rule"


@case(stricter.MODIFIED)
def test_row_14_another_set_of_algorithms_is_no_modification() -> None:
    pipe = pipeline()
    pipe.step("build")["expected_products"].insert(0, ("MODIFY", "src/*"))
    pipe.link("build")["products"]["src/a.c"] = {
        **digest("source"),
        "sha512": "ab" * 64,
    }
    finding = only(passes_there(pipe).ours())
    assert (finding.rule, finding.artifact) == ("DISALLOW *", "src/a.c")
    assert finding.stricter == stricter.MODIFIED
    # Where no rule says that it changes, in-toto refuses it, too.
    pipe.step("build")["expected_products"].remove(("MODIFY", "src/*"))
    pipe.step("build")["expected_products"].insert(0, ("MODIFY", "doc/*"))
    assert only(pipe.ours()).stricter is None


def test_row_15_only_what_is_signed_is_read() -> None:
    """No fields beside the signed ones: the old form of metadata is not read."""
    layout = pipeline().layout
    for data in (
        world.encode({"signed": layout, "signatures": []}),
        world.encode(layout),
    ):
        with pytest.raises(ProvenanceError) as caught:
            read_layout(data, what="layout 1")
        assert caught.value.reason == "envelope"
    # ITE-7's fields, as Go writes them where nothing uses them.
    layout |= {"rootcas": {}, "intermediatecas": {}}
    assert parse_layout(world.encode(layout), what="layout 1").steps


def test_row_16_nothing_is_substituted() -> None:
    """A brace is a brace, and judging changes nothing."""
    pipe = pipeline()
    rule = ("ALLOW", "{v.__class__}")
    pipe.step("build")["expected_products"].insert(0, rule)
    pipe.link("build")["products"]["{v.__class__}"] = digest("x")
    layout, files = pipe.parsed(), pipe.files()
    assert pipe.ours(files=files) == pipe.ours(files=files)
    assert pipe.parsed() == layout
    assert pipe.ours().findings == ()


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "envelope"),
        (b'{"_type":"link","x":' + b"[" * 5000 + b"]" * 5000 + b"}", "envelope"),
        (b"\xff", "envelope"),
        (b"[]", "envelope"),
    ],
)
def test_row_18_one_malformed_link(payload: bytes, reason: str) -> None:
    """A stable reason, and the others are judged: no error leaves."""
    pipe = pipeline()
    extra = link_file("build", world.envelope(payload, "second"))
    found = pipe.ours(files=[*pipe.files(), extra])
    assert only(found).reason == reason
    assert [one["outcome"] for one in found.trace["steps"][1]["links"]] == ["counted"]
    named = [
        (file_name("build", "builder"), pipe.files()[0].data),
        (file_name("build", "second"), extra.data),
        (file_name("package", "packager"), pipe.files()[1].data),
    ]
    with pytest.raises((ValueError, RecursionError, AttributeError)):
        pipe.theirs(named)


def test_row_18_an_envelope_that_is_nested_deeply() -> None:
    data = b'{"payload":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    pipe = pipeline()
    assert only(pipe.ours(files=[*pipe.files(), link_file("build", data)])).reason == (
        "envelope"
    )


def test_row_19_the_working_directory_is_nobodys_business(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline()
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert pipe.ours().findings == ()
    with pytest.raises(FileNotFoundError):
        os.getcwd()  # noqa: PTH109 - Path.cwd does the same


def test_row_20_a_command_proves_nothing() -> None:
    pipe = pipeline()
    pipe.step("build")["expected_command"] = ["make"]
    pipe.link("build")["command"] = ["curl", "evil.example"]
    assert passes_there(pipe).ours().findings == ()


def test_row_21_time_is_given() -> None:
    pipe = pipeline()
    for when, expected in (
        (datetime(1970, 1, 1, tzinfo=UTC), []),
        (datetime(9999, 1, 1, tzinfo=UTC), ["layout-expired"]),
    ):
        assert reasons(pipe.ours(now=when)) == expected


def test_row_23_key_ids_are_hints() -> None:
    """An old tool computed another id for the same key; or none at all."""
    for known_as in ("70ca5750" * 8, "", None):
        pipe = pipeline()
        pipe.sign("build", ("builder", known_as))
        assert pipe.ours().findings == ()


def test_row_23_two_signatures_under_one_id() -> None:
    pipe = pipeline()
    pipe.sign("build", ("mallory", world.keyid("builder")), "builder")
    assert pipe.ours().findings == ()


def test_row_25_payload_types() -> None:
    link = pipeline().link("build")
    for kind, expected in (
        ("application/vnd.in-toto+json", []),
        ("application/vnd.in-toto.link+json", []),
        ("application/json", ["payload-type", "threshold", "rule"]),
    ):
        pipe = pipeline()
        data = world.envelope(link, "builder", payload_type=kind)
        pipe.links[0] = ("build", data, ())
        assert reasons(pipe.ours()) == expected


def test_row_26_patterns_are_one_language() -> None:
    """`*` crosses `/`, case counts, and `[^a]` is refused: Go and Python differ."""
    pipe = pipeline()
    pipe.link("build")["products"] = {
        "out/a": digest("program"),
        "out/x/y": digest("y"),
    }
    assert passes_there(pipe).ours().findings == ()
    pipe.link("build")["products"]["OUT/b"] = digest("b")
    assert only(pipe.ours()).artifact == "OUT/b"
    pipe.step("build")["expected_products"].insert(0, ("ALLOW", "[^a]*"))
    assert refused(pipe.layout) == "layout-malformed"


def test_ecdsa_as_two_numbers_side_by_side() -> None:
    """DSSE's own example and PKCS#11 write r and s; in-toto takes DER alone."""
    signer = CryptoSigner.generate_ecdsa()
    public = signer.public_key
    pipe = pipeline()
    pipe.layout["keys"][public.keyid] = {"keyid": public.keyid, **public.to_dict()}
    pipe.step("build")["pubkeys"] = [public.keyid]
    payload = world.encode(pipe.link("build"))
    der = bytes.fromhex(signer.sign(pae(world.PAYLOAD, payload)).signature)
    r, s = decode_dss_signature(der)
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    for sig in (der, raw):
        signature = EnvelopeSignature(public.keyid, sig)
        envelope = Envelope(world.PAYLOAD, payload, (signature,))
        pipe.links[0] = ("build", envelope.to_bytes(), ())
        assert pipe.ours().findings == ()


# --- what else is stricter -----------------------------------------------------------


@case(stricter.EVERY_LINK)
def test_a_bad_link_beside_enough_good_ones() -> None:
    pipe = pipeline()
    pipe.links.append(("build", pipe.link("build"), ("mallory",)))
    finding = only(passes_there(pipe).ours())
    assert (finding.reason, finding.stricter) == ("signature", stricter.EVERY_LINK)
    pipe = pipeline()
    pipe.links.append(("build", pipe.link("build"), ("packager",)))
    finding = only(passes_there(pipe).ours())
    assert (finding.reason, finding.stricter) == ("functionary", stricter.EVERY_LINK)


@case(stricter.UNEXPECTED_LINK)
def test_a_link_of_no_step() -> None:
    pipe = pipeline()
    link = world.link("scan", materials={}, products={})
    pipe.links.append(("scan", link, ("builder",)))
    finding = only(passes_there(pipe).ours())
    assert finding.reason == "unexpected-link"
    assert finding.stricter == stricter.UNEXPECTED_LINK


@case(stricter.RELEASE_PRODUCT)
def test_the_products_are_another_release() -> None:
    pipe = pipeline()
    pipe.link("package")["products"][MANIFEST] = digest("another manifest")
    finding = only(passes_there(pipe).ours())
    assert finding.reason == "release-product"
    assert finding.stricter == stricter.RELEASE_PRODUCT


@case(stricter.REVOKED)
def test_a_stolen_key() -> None:
    pipe = passes_there(pipeline())
    finding = pipe.ours(revoked={world.keyid("builder"): frozenset()}).findings[0]
    assert (finding.reason, finding.stricter) == ("revoked", stricter.REVOKED)


@case(stricter.OVERRIDE)
def test_an_expiry_that_the_policy_moved() -> None:
    pipe = passes_there(pipeline())
    finding = only(pipe.ours(expires=NOW - timedelta(days=1)))
    assert finding.reason == "layout-expired"
    assert finding.stricter == stricter.OVERRIDE


@case(stricter.WORK)
def test_more_links_than_are_looked_at() -> None:
    pipe = passes_there(pipeline())
    many = [
        LinkFile("build", Digest.of(b"%d" % number), b"{}")
        for number in range(MAX_LINKS)
    ]
    found = pipe.ours(files=[*pipe.files(), *many])
    assert stricter.WORK in {one.stricter for one in found.findings}


def test_every_named_case_has_a_test() -> None:
    named = {
        value
        for name, value in vars(stricter).items()
        if name.isupper() and isinstance(value, str)
    }
    assert named == COVERED
    assert CLOSED == ("DISALLOW", "*")
