"""T-210 to T-212: a layout on its way from a reviewer to the publisher's list.

Before anything is demanded, a layout is a file that people read, sign and hand on.
"""

from __future__ import annotations

import base64
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from margo_supplychain.authoring.layouts import LayoutFile
from margo_supplychain.authoring.work import Work
from margo_supplychain.cli.app_policy import PolicyChanges
from margo_supplychain.cli.app_proof import GivenKeys, ProofChanges
from margo_supplychain.errors import FetchError, RefusedError
from margo_supplychain.formats.attestation_rules import AttestationRule, PolicyKey
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.dsse import PAYLOAD
from margo_supplychain.formats.pins import Pin
from margo_supplychain.signing.envelopes import sign_envelope
from tests.authoring.proving import (
    ANY,
    device_of,
    make_demanding,
    publish_proven,
    signed_layout,
)
from tests.authoring.trust import OPEN, PUMP, Vendor, key
from tests.cli.running import PASSPHRASE, run
from tests.cli.vendor import NAME, files_below
from tests.cli.vendor import Vendor as Holder
from tests.world.provenance import encode, layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BY: Final = (
    *("--by", "build=builder.pub", "--by", "test=tester.pub"),
    *("--by", "package=packer.pub"),
)

PUBLISHER: Final = ("--key", "a.key", "--key", "b.key", "--key", "ci.key")


@pytest.fixture
def holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Holder:
    """A holder of one of the publisher's two keys, and a layout to sign."""
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "passphrase"
    secret.write_text(PASSPHRASE + "\n")
    secret.chmod(0o600)
    found = Holder(tmp_path, secret.name)
    for name in ("root", "targets", "a", "b", "ci", "builder", "tester", "packer"):
        found.key(f"{name}.key")
    found.must(
        *("repo", "init", "trust", "--profile", "standard", "--publisher", "acme"),
        *("--root-key", "root.key", "--targets-key", "targets.key"),
        *("--publisher-key", "a.key", "--publisher-key", "b.key"),
        *("--publisher-threshold", "2", "--online-key", "ci.key"),
    )
    for arguments in (
        ("layout", "build", "--template", "build-test-package", *BY),
        ("layout", "build", "layout.toml"),
    ):
        ran = run(*arguments)
        assert ran.status == 0, ran.err
    return found


def changed(path: Path, change: Callable[[Any], object]) -> None:
    """Change the payload of a layout, signed or not; signatures stay as they are."""
    value = json.loads(path.read_text())
    if "payload" in value:
        payload = json.loads(base64.b64decode(value["payload"]))
        change(payload)
        value["payload"] = base64.b64encode(encode(payload)).decode()
    else:
        change(value)
    path.write_text(json.dumps(value))


# --- T-210: a layout that reads otherwise than it is ---------------------------------


def test_layout_that_reads_otherwise_than_it_is(holder: Holder) -> None:
    """Mallory writes a readme and patterns that hide what her layout lets pass."""
    path = holder.place / "layout.json"
    before = run("layout", "show", "layout.json").out.splitlines()
    assert "step build" in before
    said = (
        "\x1b[2J\x1b[1;1Hstep build\n  in   DISALLOW *  nothing else\u202e\n"
        + "\n" * 5_000
        + "</desc><script>alert(1)</script>"
    )

    def hide(value: Any) -> None:
        value["readme"] = said
        value["steps"][0]["expected_products"] = [
            ["ALLOW", "nothing else"],
            ["ALLOW", "<script>alert(1)</script>"],
            ["ALLOW", "*"],
        ]

    changed(path, hide)
    ran = run("layout", "show", "layout.json", "--svg", "l.svg", "--dot", "l.dot")
    assert ran.status == 0
    assert "\x1b" not in ran.out
    assert "\u202e" not in ran.out
    lines = ran.out.splitlines()
    # What she wrote stands behind a bar, and is cut; what it lets pass is all there.
    assert lines.count("step build") == 1
    assert len([one for one in lines if one.startswith("  |")]) < 30
    mimics = ["ALLOW", '"nothing', 'else"', '"nothing', 'else"']
    assert mimics in [one.split()[-5:] for one in lines]
    at = lines.index("step test")
    assert lines[at - 1].split() == ["ALLOW", "*", "anything", "else"]
    root = ET.parse(holder.place / "l.svg").getroot()  # noqa: S314 - ours
    assert {one.tag.partition("}")[2] for one in root.iter()} <= {
        *("svg", "title", "desc", "rect", "g", "path", "text"),
    }


def test_layout_that_has_more_to_it_than_is_shown(holder: Holder) -> None:
    """Mallory adds what other tools may obey, and ours would not show."""
    path = holder.place / "layout.json"
    good = path.read_bytes()

    def command(value: Any) -> None:
        value["inspect"] = [
            {
                "_type": "inspection",
                "name": "x",
                "run": ["touch", "x"],
                "expected_materials": [],
                "expected_products": [],
            }
        ]

    def field(value: Any) -> None:
        value["steps"][0]["also_by"] = ["mallory"]

    def twice(value: Any) -> None:
        value["steps"].append(value["steps"][0])

    for change in (command, field, twice):
        path.write_bytes(good)
        changed(path, change)
        before = path.read_bytes()
        for arguments in (
            ("layout", "show", "layout.json"),
            ("layout", "sign", "layout.json", "--key", "a.key", "--yes"),
        ):
            ran = holder.sign(*arguments) if "sign" in arguments else run(*arguments)
            assert (ran.status, ran.out) == (2, "")
        assert path.read_bytes() == before
        assert not (holder.place / "x").exists()


def test_layout_by_other_keys_than_it_shows(holder: Holder) -> None:
    """Mallory keeps each id that people compare, and puts her key behind one."""
    path = holder.place / "layout.json"
    good = path.read_bytes()
    shown = run("layout", "show", "layout.json").out
    builder = holder.key_id("builder.key")
    assert builder[:12] in shown
    mallory = LayoutFile.parse(good, what="it").layout.keys[holder.key_id("tester.key")]

    def swap(value: Any) -> None:
        value["keys"][builder]["keyval"]["public"] = mallory.keyval["public"]
        for step in value["steps"]:
            step["pubkeys"] = [builder]

    for signed in (False, True):
        if signed:
            path.write_bytes(good)
            sign = ("layout", "sign", "layout.json", "--key", "a.key", "--yes")
            assert holder.sign(*sign).status in (0, 5)
        changed(path, swap)
        before = path.read_bytes()
        for arguments in (
            ("layout", "show", "layout.json"),
            ("layout", "sign", "layout.json", "--key", "b.key", "--yes"),
        ):
            ran = holder.sign(*arguments) if "sign" in arguments else run(*arguments)
            assert (ran.status, ran.out) == (2, "")
            assert f"as {builder[:12]}, which is not its id" in ran.err
        assert path.read_bytes() == before
    path.write_bytes(good)
    assert run("layout", "show", "layout.json").out == shown


def test_rule_in_letters_of_another_alphabet(holder: Holder) -> None:
    """Mallory's rule against dirty trees is about a name that no link has."""
    path = holder.place / "layout.json"
    sign = ("layout", "sign", "layout.json", "--key", "a.key", "--yes")
    good = path.read_bytes()

    for name in ("git/dirt\u0443", "git/dirty\u3164", "g\u0456t/dirty"):
        path.write_bytes(good)

        def pose(value: Any, name: str = name) -> None:
            rules = value["steps"][0]["expected_materials"]
            rules[rules.index(["DISALLOW", "git/dirty"])][1] = name

        changed(path, pose)
        before = path.read_bytes()
        ran = run("layout", "show", "layout.json")
        escaped = name.encode("ascii", "backslashreplace").decode()
        assert f"DISALLOW {escaped} " in ran.out
        ran = holder.sign(*sign)
        assert ran.status == 2
        assert "reads like a name below git/" in ran.err
        assert path.read_bytes() == before
    path.write_bytes(good)
    assert holder.sign(*sign).status in (0, 5)


# --- T-211: demands that the online key can meet alone -------------------------------


def by_one(name: str) -> bytes:
    """Return the pipeline's layout with one functionary, signed by the offline key."""
    value = layout()
    public = key(name).public_key
    value["keys"] = {public.keyid: {**public.to_dict(), "keyid": public.keyid}}
    for step in value["steps"]:
        step.update(pubkeys=[public.keyid], threshold=1)
    return sign_envelope(PAYLOAD, encode(value), [key("offline")])


def test_layout_that_the_release_key_meets_alone(tmp_path: Path) -> None:
    """A vendor lists, by mistake or persuaded, a layout all of whose steps CI does."""
    vendor = make_demanding(Vendor(tmp_path))
    publish_proven(vendor, "1.0.0")
    device = device_of(vendor)
    assert str(device.verify(PUMP, ANY).version) == "1.0.0"
    before = vendor.files()
    with (
        pytest.raises(RefusedError, match="can do every step of the layout") as caught,
        vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit,
    ):
        edit.add_layout(PUMP, by_one("ci"), serves=ANY)
    assert caught.value.exit_status == 2
    assert vendor.files() == before
    assert str(device.verify(PUMP, ANY).version) == "1.0.0"


def test_demand_that_is_dropped_unseen(tmp_path: Path) -> None:
    """Whoever signs a policy that demands less is told, each time, what it drops."""
    vendor = make_demanding(Vendor(tmp_path))
    publish_proven(vendor, "1.0.0")
    with vendor.repository.edit([], clock=vendor.clock) as look:
        before = look.policy(PUMP)
    assert before is not None
    for after, said in (
        (replace(before, provenance="none"), "no longer demand provenance"),
        (replace(before, layouts=()), "is dropped: devices refuse what was made by it"),
        (OPEN, "no longer demand provenance"),
    ):
        keys = vendor.keys
        with vendor.repository.edit(keys, clock=vendor.clock) as edit:
            edit.set_policy(PUMP, after)
        assert any(said in one for one in edit.warnings), edit.warnings
        with vendor.repository.edit(keys, clock=vendor.clock) as edit:
            edit.set_policy(PUMP, replace(before, layouts=()))
            edit.add_layout(PUMP, signed_layout(), serves=ANY)


def test_demand_that_is_lowered_by_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever names one more signer, or a registry that fails once, ends no demand."""
    vendor = make_demanding(Vendor(tmp_path))
    publish_proven(vendor, "1.0.0")
    device = device_of(vendor)
    device.verify(PUMP, ANY)
    a, b, c = (PolicyKey.of(key(one).public_key) for one in ("a", "b", "c"))
    rule = AttestationRule(
        type="https://spdx.dev/Document", keyids=(a.keyid, b.keyid), threshold=2
    )
    nothing = GivenKeys({}, (), {})
    more = GivenKeys({rule.type: [one.to_key() for one in (a, b, c)]}, (), {})
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        before = edit.policy(PUMP)
        assert before is not None
        strict = replace(before, keys=(a, b), attestations=(rule,))
        said = ProofChanges(attestations=("spdx=…",)).applied(strict, more, (), ())
        assert said.attestations[0].threshold == 2
        edit.set_policy(PUMP, strict)
        lower = (replace(rule, threshold=1),)
        edit.set_policy(PUMP, replace(strict, attestations=lower))
        assert any("needs 1 of 2 signatures" in one for one in edit.warnings)
        edit.set_policy(PUMP, before)
    files = vendor.files()
    asked = PolicyChanges(
        epoch=1,
        provenance="required",
        minimum_version=None,
        reinstate=(),
        downgrade_to=(),
        proof=ProofChanges(),
    )
    read = Work.read

    def failing(self: Work, path: str, *given: Any, **options: Any) -> bytes:
        if path == PUMP.policy_path(1):
            raise FetchError("the registry answers 503", url="oci://r", missing=False)
        return read(self, path, *given, **options)

    monkeypatch.setattr(Work, "read", failing)
    with (
        pytest.raises(FetchError, match="503"),
        vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit,
    ):
        asked.apply(edit, PUMP, nothing)
    assert vendor.files() == files
    assert str(device.verify(PUMP, ANY).version) == "1.0.0"


# --- T-212: a layout is exchanged on its way -----------------------------------------


def test_layout_that_is_changed_between_two_signatures(holder: Holder) -> None:
    """Mallory changes the file after the first holder has signed it."""
    place = holder.place
    sign = ("layout", "sign", "layout.json", "--publisher", "acme", "--yes")
    assert holder.sign(*sign, "--key", "a.key").status == 5
    good = (place / "layout.json").read_bytes()
    changed(place / "layout.json", lambda value: value.update(readme="mine"))
    ran = holder.sign(*sign, "--key", "b.key")
    # The second holder is shown what she signs; the first signature counts no more.
    assert "  | mine" in ran.err
    assert ran.status == 5
    assert "signed: 1 of 2 of acme\n" in ran.out
    # What both signed apart does not come together.
    (place / "good.json").write_bytes(good)
    before = (place / "layout.json").read_bytes()
    ran = holder.sign(
        *("layout", "sign", "good.json", "--publisher", "acme", "--yes"),
        *("--key", "b.key", "--out", "layout.json"),
    )
    assert ran.status == 2
    assert "error: the file holds another layout" in ran.err
    assert (place / "layout.json").read_bytes() == before
    # And who lists it is told that too few have signed this one.
    key_id = holder.key_id("a.key")
    found = LayoutFile.parse(before, what="layout.json")
    assert found.envelope is not None
    assert key_id in {one.keyid for one in found.envelope.signatures}
    ran = run("layout", "show", "layout.json", "--publisher", "acme")
    assert "signed: 1 of 2 of acme\n" in ran.out


def test_layout_that_no_holder_has_signed(holder: Holder) -> None:
    """Mallory's own layout, or one that one of two has signed, is handed in to list."""
    holder.must("app", "add", NAME, "--release-key", "ci.pub", *PUBLISHER)
    sign = ("layout", "sign", "layout.json", "--publisher", "acme", "--yes")
    demand = ("app", "policy", NAME, "--layout", "layout.json", "--serves", "^1.0")
    good = (holder.place / "layout.json").read_bytes()
    trust = files_below(holder.place / "trust")
    for by, count in (("tester.key", 0), ("a.key", 1)):
        (holder.place / "layout.json").write_bytes(good)
        assert holder.sign(*sign, "--key", by).status == 5
        ran = holder.sign(*demand, *PUBLISHER, "--yes")
        assert ran.status == 2
        # It is shown to whoever would list it, and is refused all the same.
        assert "step build\n" in ran.err
        assert f"the layout is signed by {count} of 2 keys of acme" in ran.err
        assert files_below(holder.place / "trust") == trust
    assert holder.sign(*sign, "--key", "b.key").status == 0
    # Also then somebody must say that this is what they want here.
    assert holder.sign(*demand, *PUBLISHER).status == 2
    assert files_below(holder.place / "trust") == trust
    ran = holder.must(*demand, *PUBLISHER, "--yes")
    assert "  layout 1  serves ^1.0\n" in ran.out


def test_number_that_becomes_another_layout(tmp_path: Path) -> None:
    """A superseded layout's number, which records name, is given to another one."""
    vendor = make_demanding(Vendor(tmp_path))
    publish_proven(vendor, "1.0.0")
    exact = Pin.range("1.0.0", grammar="npm")
    device = device_of(vendor)
    device.verify(PUMP, exact)
    with vendor.repository.edit([], clock=vendor.clock) as look:
        policy = look.policy(PUMP)
    assert policy is not None
    weak = signed_layout(readme="weak")
    before = vendor.files()
    other = tuple(replace(one, digest=Digest.of(weak)) for one in policy.layouts)
    with (
        pytest.raises(
            RefusedError, match=r"layout 1 of acme/pump-monitor is|names layo"
        ),
        vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit,
    ):
        edit.set_policy(PUMP, replace(policy, layouts=other))
    assert vendor.files() == before
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        assert edit.add_layout(PUMP, weak, serves=ANY) == 2
    device.refresh()
    device.verify(PUMP, exact)
