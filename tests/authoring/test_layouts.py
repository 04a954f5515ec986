"""Layouts from reviewed files and templates, and files that are signed in turn."""

from __future__ import annotations

import contextlib
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from margo_supplychain.authoring import layout_plan, layouts
from margo_supplychain.authoring.layout_templates import TEMPLATES, render
from margo_supplychain.cli.layout_build import TEMPLATES as OFFERED
from margo_supplychain.errors import (
    FormatError,
    KeyFormatError,
    MetadataFormatError,
    RefusedError,
)
from margo_supplychain.formats import canonical_json
from margo_supplychain.formats.dsse import PAYLOAD
from margo_supplychain.provenance.lint import lint
from margo_supplychain.signing.envelopes import sign_envelope
from margo_supplychain.signing.keys import parse_public_key, public_pem
from margo_supplychain.threshold import material
from tests.authoring.trust import NOW, key

if TYPE_CHECKING:
    from securesystemslib.signer import Key

    from margo_supplychain.authoring.layout_plan import Form, LayoutPlan

TOML = """
readme = "How pump is made."
expires = "730d"
supported-until = "2027-12-31"

[functionaries]
builder = "builder.pub"
packer = "packer.pub"

[[steps]]
name = "build"
by = ["builder"]
materials = ["REQUIRE git/commit", "DISALLOW git/dirty", "ALLOW *"]
products = [["CREATE", "out dir/*"], "DISALLOW *"]
command = ["make", "all"]

[[steps]]
name = "package"
by = ["builder", "packer"]
threshold = 2
materials = ["match * with products from build", "DISALLOW *"]
products = ["REQUIRE release/manifest", "ALLOW release/*", "DISALLOW *"]
"""
YAML = """
readme: How pump is made.
expires: 730d
supported-until: 2027-12-31
functionaries:
  builder: builder.pub
  packer: packer.pub
steps:
  - name: build
    by: [builder]
    materials: [REQUIRE git/commit, DISALLOW git/dirty, ALLOW *]
    products:
      - [CREATE, out dir/*]
      - DISALLOW *
    command: [make, all]
  - name: package
    by: [builder, packer]
    threshold: 2
    materials:
      - MATCH * WITH PRODUCTS FROM build
      - DISALLOW *
    products:
      - REQUIRE release/manifest
      - ALLOW release/*
      - DISALLOW *
"""


def keys(text: str) -> Key:
    """Return the key that a text of a plan names."""
    if text.startswith("-----BEGIN"):
        return parse_public_key(text.encode(), what="it")
    if not text.endswith(".pub"):
        raise KeyFormatError(f"{text}: no such file", hint="name a .pub file")
    return key(text.removesuffix(".pub")).public_key


def parse(text: str, form: Form = "toml", what: str | None = None) -> LayoutPlan:
    return layout_plan.parse_plan(
        text.encode(), keys, what=what or f"layout.{form}", form=form, now=NOW
    )


def built(text: str = TOML, form: Form = "toml") -> layouts.LayoutFile:
    return layouts.LayoutFile.build(parse(text, form), what="layout")


def test_toml_and_yaml_say_the_same() -> None:
    plan = parse(TOML)
    assert plan == parse(YAML, "yaml")
    assert plan.readme == "How pump is made."
    assert plan.expires == NOW + timedelta(days=730)
    assert plan.supported_until == datetime(2027, 12, 31, tzinfo=UTC)
    build, package = plan.steps
    assert build.products == (["CREATE", "out dir/*"], ["DISALLOW", "*"])
    assert build.command == ("make", "all")
    assert (build.threshold, package.threshold) == (1, 2)
    assert package.materials[0] == ["MATCH", "*", "WITH", "PRODUCTS", "FROM", "build"]
    assert package.keyids == (
        key("builder").public_key.keyid,
        key("packer").public_key.keyid,
    )


def test_a_layout_is_what_its_plan_says() -> None:
    file = built()
    layout = file.layout
    assert [step.name for step in layout.steps] == ["build", "package"]
    assert layout.release_step == "package"
    assert layout.expires == NOW + timedelta(days=730)
    assert layout.steps[1].threshold == 2
    assert layout.readme == (
        "How pump is made.\n\nfunctionaries: builder "
        f"{key('builder').public_key.keyid[:12]}, packer "
        f"{key('packer').public_key.keyid[:12]}"
    )
    # The same plan gives the same bytes: two holders compare what they built.
    assert file.payload == built().payload
    assert layouts.check(layout) == []
    assert file.to_bytes() == file.payload
    assert file.signers({"a": key("builder").public_key}) == ()


@pytest.mark.parametrize(
    ("expires", "until"),
    [
        ('"2031-01-01"', datetime(2031, 1, 1, tzinfo=UTC)),
        ("2031-01-01", datetime(2031, 1, 1, tzinfo=UTC)),
        ('"2031-01-01T12:00:00Z"', datetime(2031, 1, 1, 12, tzinfo=UTC)),
        ("2031-01-01T13:00:00+01:00", datetime(2031, 1, 1, 12, tzinfo=UTC)),
        ("2031-01-01T12:00:00", datetime(2031, 1, 1, 12, tzinfo=UTC)),
        ('"36h"', NOW + timedelta(hours=36)),
    ],
)
def test_when_it_ends(expires: str, until: datetime) -> None:
    plan = parse(TOML.replace('"730d"', expires))
    assert plan.expires == until


@pytest.mark.parametrize(
    "expires", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"]
)
def test_times_that_no_clock_shows(expires: str) -> None:
    with pytest.raises(MetadataFormatError, match=r"has the time .*, which no clock"):
        parse(TOML.replace('"730d"', expires))


def test_a_key_may_stand_in_the_file() -> None:
    pem = public_pem(parse_public_key(public_of("builder"), what="it")).decode()
    plan = parse(TOML.replace('"builder.pub"', f'"""{pem}"""'))
    assert plan.functionaries["builder"].keyid == key("builder").public_key.keyid


def public_of(name: str) -> bytes:
    return str(key(name).public_key.keyval["public"]).encode()


def without(field: str) -> str:
    return "\n".join(line for line in TOML.splitlines() if not line.startswith(field))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = [", "layout.toml is not TOML: "),
        (without("expires"), "layout.toml: there is no field 'expires'"),
        (
            TOML.replace("readme =", "readmee ="),
            "layout.toml: readmee is no field of a layout, expected one of readme, ",
        ),
        (TOML.replace('"How pump is made."', "3"), "layout.toml: readme is 3, expect"),
        (TOML.replace('"How pump is made."', '""'), "readme has 0 characters"),
        (TOML.replace('"How pump is made."', "true"), "readme is true, expected a te"),
        (TOML.replace('"730d"', '"2y"'), "expires is '2y', expected a date .2031-01-0"),
        (TOML.replace('"730d"', '"2020-01-01"'), "expires is 2020-.*, which is past"),
        (TOML.replace('"730d"', '"0d"'), "which is past"),
        (TOML.replace('"730d"', '"2031-02-30"'), "expires is '2031-02-30T.* no date"),
        (
            TOML.replace('"2027-12-31"', '"90d"'),
            "supported-until is '90d', expected a date: 2031-01-01",
        ),
        (
            TOML.replace('"packer.pub"', '"builder.pub"'),
            "functionaries.packer is the same key as 'builder': it counts once",
        ),
        (
            TOML.replace('"packer.pub"', '"packer"'),
            "layout.toml: functionaries.packer: packer: no such file",
        ),
        (TOML.replace("packer =", '"a b" ='), "is no name of a functionary"),
        (
            TOML.replace("builder = ", 'c = "c.pub"\nbuilder = '),
            "layout.toml: functionaries has 'c', who does no step",
        ),
        (
            TOML.replace('by = ["builder"]', 'by = ["nobody"]'),
            r'steps\[0\].by\[0\] is "nobody", expected one of the functionaries build',
        ),
        (TOML.replace('by = ["builder"]', "by = []"), "by is empty: who does this"),
        (
            TOML.replace('["builder", "packer"]', '["packer", "packer"]'),
            r'steps\[1\].by\[1\] is "packer" a second time',
        ),
        (
            TOML.replace("threshold = 2\n", ""),
            r"steps\[1\] has no field 'threshold': 2 functionaries are named, and 1 t",
        ),
        (
            TOML.replace("threshold = 2", "threshold = 3"),
            "threshold is 3, expected 1 t",
        ),
        (
            TOML.replace("threshold = 2", "threshold = 0"),
            "threshold is 0, expected 1 t",
        ),
        (TOML.replace("threshold = 2", "threshold = 1.5"), "threshold is 1.5, expecte"),
        (TOML.replace("threshold = 2", 'threshold = "2"'), "expected a number"),
        (TOML.replace('name = "build"\n', ""), r"steps\[0\] has no field 'name'"),
        (
            TOML.replace("command =", "run ="),
            r"layout.toml: steps\[0\].run is no field of a layout, expected one of na",
        ),
        (
            TOML.replace('"ALLOW *"', '"PERMIT *"'),
            r'steps\[0\].materials\[2\] is "PERMIT \*": rule',
        ),
        (TOML.replace('"ALLOW *"', '"ALLOW a b"'), "is none of: CREATE, DELETE"),
        (TOML.replace('"ALLOW *"', '"ALLOW [^a]"'), "steps.0..materials.2."),
        (TOML.replace('"ALLOW *"', "7"), r"materials\[2\] is 7, expected a text"),
        (TOML.replace('["make", "all"]', '"make"'), "command is .make., expected a l"),
        (
            'expires = "1d"\nsteps = []\n[functionaries]\na = "a.pub"',
            "steps is empty: a layout without steps proves nothing",
        ),
        ('expires = "1d"\nsteps = []\nfunctionaries = {}', "names 0 functionaries"),
        (f"readme = {'[' * 12}{']' * 12}", "is nested deeper than 8"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            YAML.replace("threshold: 2", "threshold: two"),
            r"layout.yaml:18:16: steps\[1",
        ),
        (YAML.replace("expires: 730d", "expires: 2y"), "layout.yaml:3:10: expires is"),
        (YAML.replace("    by: [builder]", "    bye: [builder]"), "layout.yaml:10:5: "),
        (YAML.replace("ALLOW release/*", "ALOW release/*"), "layout.yaml:24:9: steps"),
        (YAML.replace("[builder, packer]", "[builder, 7]"), "layout.yaml:17:19: steps"),
        (
            YAML.replace("name: build", "name: build\n    name: x"),
            "layout.yaml:10:5: k",
        ),
        (YAML.replace("packer.pub", "packer"), "layout.yaml:7:11: functionaries.packe"),
        ("- a", "layout.yaml:1:1: is a list, expected fields"),
    ],
)
def test_yaml_is_said_by_line(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        parse(text, "yaml")
    assert caught.value.where is not None
    assert caught.value.where.startswith("layout.yaml:")


def test_limits_of_a_plan() -> None:
    with pytest.raises(MetadataFormatError, match=r"has 64 entries|more than 64"):
        parse(
            TOML + TOML.rsplit("\n[[steps]]", maxsplit=1)[-1].join(["\n[[steps]]"] * 70)
        )
    rules = ", ".join(['"ALLOW a"'] * 1_001)
    with pytest.raises(MetadataFormatError, match="2003 entries, more than 1000"):
        parse(
            TOML.replace('"REQUIRE git/commit"', rules, 1).replace('"ALLOW *"', rules)
        )
    with pytest.raises(FormatError, match="more than the limit of 262144"):
        parse("#" * 300_000)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(["toml", "yaml"]), st.data())
def test_nothing_but_an_error_of_the_file(form: Form, data: st.DataObject) -> None:
    text = TOML if form == "toml" else YAML
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        put = data.draw(st.text(alphabet='"[]{}*:-#\n=\\ é9&!|>,', max_size=2))
        text = text[:at] + put + text[at + 1 :]
    with contextlib.suppress(FormatError):
        built(text, form)


# --- what no device would take -------------------------------------------------------


def test_what_devices_refuse_is_an_error_of_the_file() -> None:
    text = TOML.replace('"REQUIRE release/manifest", ', "")
    with pytest.raises(MetadataFormatError, match="0 release steps") as caught:
        built(text)
    assert caught.value.exit_status == 2
    with pytest.raises(MetadataFormatError, match="names no step of the layout"):
        built(TOML.replace("from build", "from elsewhere"))
    with pytest.raises(MetadataFormatError, match="expected 1 to 100 of A-Za-z0-9"):
        built(TOML.replace('name = "build"', 'name = "b/../x"'))


def test_a_layout_that_proves_nothing_is_refused() -> None:
    file = built(TOML.replace('FROM build", "DISALLOW *"', 'FROM build"', 1))
    assert layouts.check(file.layout) == []
    open_ended = TOML.replace('from build", "DISALLOW *"', 'from build"', 1)
    with pytest.raises(RefusedError, match="the layout proves nothing: step package"):
        layouts.check(built(open_ended).layout)
    with pytest.raises(RefusedError, match="before the support of its releases ends"):
        layouts.check(built().layout, until=NOW + timedelta(days=800))
    # What the policy says of its end counts, not the file.
    assert not layouts.check(
        built().layout,
        expires=NOW + timedelta(days=900),
        until=NOW + timedelta(days=800),
    )
    alone = TOML.replace(
        'by = ["builder", "packer"]\nthreshold = 2', 'by = ["builder"]'
    )
    alone = alone.replace('packer = "packer.pub"\n', "")
    (said,) = layouts.check(built(alone).layout)
    assert said.startswith("one functionary does every step")


# --- signatures ----------------------------------------------------------------------


def test_a_file_is_signed_in_turn() -> None:
    file = built()
    first, second = key("offline-a"), key("offline-b")
    known = {one.public_key.keyid: one.public_key for one in (first, second)}
    one = file.signed([first])
    assert one.envelope is not None
    assert (one.envelope.payload_type, one.payload) == (PAYLOAD, file.payload)
    assert one.signers(known) == (first.public_key.keyid,)
    handed = layouts.LayoutFile.parse(one.to_bytes(), what="layout.json")
    assert handed == one
    both = handed.signed([second])
    assert set(both.signers(known)) == set(known)
    # The same key again adds nothing.
    assert both.signed([first]).to_bytes() == both.to_bytes()
    assert both.digest == file.digest


def test_copies_that_were_signed_apart_come_together() -> None:
    file = built()
    first, second = key("offline-a"), key("offline-b")
    known = {one.public_key.keyid: one.public_key for one in (first, second)}
    one, other = file.signed([first]), file.signed([second])
    assert set(one.merged(other).signers(known)) == set(known)
    assert file.merged(one) == one.merged(file) == one
    # in-toto-python refuses two signatures by one key id.
    again = one.merged(file.signed([first]))
    assert again.envelope is not None
    assert len(again.envelope.signatures) == 1
    with pytest.raises(RefusedError, match="the file holds another layout"):
        one.merged(built(TOML.replace("730d", "700d")))


def test_bytes_that_are_no_layout() -> None:
    parse_file = layouts.LayoutFile.parse
    with pytest.raises(MetadataFormatError, match=r"layout\.json"):
        parse_file(b"{", what="layout.json")
    with pytest.raises(MetadataFormatError, match=r"layout\.json"):
        parse_file(b'{"_type":"link"}', what="layout.json")
    with pytest.raises(MetadataFormatError, match="is of in-toto's older form"):
        parse_file(b'{"signed":{},"signatures":[]}', what="layout.json")
    other = sign_envelope("text/plain", b"{}", [key("a")])
    with pytest.raises(MetadataFormatError, match=r"payload type 'text/plain'"):
        parse_file(other, what="layout.json")


def test_inspections_are_refused() -> None:
    value = json.loads(built().payload)
    value["inspect"] = [
        {
            "_type": "inspection",
            "name": "look",
            "expected_materials": [],
            "expected_products": [],
            "run": ["true"],
        }
    ]
    with pytest.raises(MetadataFormatError, match="commands for the verifier to run"):
        layouts.LayoutFile.parse(json.dumps(value).encode(), what="layout.json")


# --- templates -----------------------------------------------------------------------


def filled(name: str, **changes: Any) -> bytes:
    by = {
        step: [
            f"{step}-{number}.pub"
            for number in range(TEMPLATES[name].agreeing.get(step, 1))
        ]
        for step in TEMPLATES[name].steps
    }
    by.update(changes.pop("by", {}))
    return render(name, by, expires="730d", readme="How.", **changes)


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_templates_prove_something(name: str) -> None:
    plan = parse(filled(name).decode())
    file = layouts.LayoutFile.build(plan, what=name)
    assert lint(file.layout, support_until=None) == ()
    assert file.layout.release_step == "package"
    assert [step.name for step in file.layout.steps] == list(TEMPLATES[name].steps)
    for step in file.layout.steps:
        assert step.threshold == TEMPLATES[name].agreeing.get(step.name, 1)


def test_the_command_line_offers_every_template() -> None:
    assert tuple(TEMPLATES) == OFFERED


def test_one_person_may_do_two_steps() -> None:
    data = filled(
        "build-test-package", by={"build": ["a.pub"], "test": ["a.pub", "b.pub"]}
    )
    plan = parse(data.decode())
    assert list(plan.functionaries) == ["build", "test-2", "package"]
    assert plan.steps[1].threshold == 1
    assert len(plan.steps[1].keyids) == 2


def test_templates_need_somebody_for_each_step() -> None:
    with pytest.raises(RefusedError, match="step build of two-builders-agree needs 2 "):
        filled("two-builders-agree", by={"build": ["a.pub"]})
    with pytest.raises(RefusedError, match=r"step test of .* needs 1 functionary, 0 g"):
        filled("build-test-package", by={"test": []})
    with pytest.raises(RefusedError, match="build-test-package has no step 'review'"):
        filled("build-test-package", by={"review": ["a.pub"]})
    with pytest.raises(FormatError, match="not printable"):
        filled("build-test-package", by={"test": ["a\n.pub"]})


# --- ids of keys ---------------------------------------------------------------------


def relabelled(keyid: str, name: str = "builder") -> bytes:
    """Return a layout that calls a key, which another may have taken, by some id."""
    value = json.loads(built().payload)
    old = key("builder").public_key.keyid
    entry = value["keys"].pop(old)
    entry["keyval"] = {"public": key(name).public_key.keyval["public"]}
    value["keys"][keyid] = {**entry, "keyid": keyid}
    for step in value["steps"]:
        step["pubkeys"] = [keyid if one == old else one for one in step["pubkeys"]]
    return json.dumps(value).encode()


@pytest.mark.parametrize("name", ["builder", "mallory"])
def test_an_id_is_its_keys_own(name: str) -> None:
    """Else two layouts read alike, and are by other functionaries."""
    shown = key("builder").public_key.keyid if name == "mallory" else "ab" * 32
    data = relabelled(shown, name)
    own = key(name).public_key.keyid[:12]
    for each in (data, sign_envelope(PAYLOAD, data, [key("offline")])):
        with pytest.raises(
            MetadataFormatError,
            match=f"^l lists key {own} as {shown[:12]}, which is not its id: ",
        ):
            layouts.LayoutFile.parse(each, what="l")


def test_ids_of_other_tools_are_taken() -> None:
    public = key("builder").public_key
    form = {
        "keyid_hash_algorithms": ["sha256", "sha512"],
        "keytype": public.keytype,
        "keyval": {"public": public.keyval["public"].strip()},
        "scheme": public.scheme,
    }
    go = hashlib.sha256(canonical_json.encode(form)).hexdigest()
    for keyid in (go, go.upper(), material(public)):
        found = layouts.LayoutFile.parse(relabelled(keyid), what="l")
        assert keyid in found.layout.keys
