from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import ApplicationFormatError
from margo_supplychain.formats.application import (
    ApplicationDescription,
    ComponentReference,
    Resource,
    inspect_description,
    parse_description,
)
from margo_supplychain.formats.yaml_positions import parse_yaml, quoted
from tests.fixtures import MARGO_YAML, PACKAGES, package_files, package_names

ORIGINALS = Path(__file__).parents[3] / "shared" / "data" / "margo"

GOOD = """\
apiVersion: v1
id: pump
metadata:
  name: Pump
  version: 1.0.0
  catalog:
    organization:
      - name: Acme
    application:
      icon: resources/pump.png
deploymentProfiles:
  - type: compose
    id: pump-compose
    components:
      - name: stack
        properties:
          repository: oci://registry.example/acme/stack
          revision: 1.0.0
          wait: true
          timeout: 1m30s
    deviceConstraints:
      capacityRequirements:
        cpu:
          cores: 1.5
          architectures: [amd64]
        memory: 64Mi
        storage: 1Ti
      eligibilityRules:
        - propertySelector:
            matchExpressions:
              - key: /interfaces
                operator: ContainsAny
                itemSelector:
                  matchExpressions:
                    - key: /type
                      operator: In
                      values: [ethernet]
parameters:
  interval:
    value: "5"
    targets:
      - pointer: INTERVAL
        components: [stack]
configuration:
  sections:
    - name: General
      settings:
        - parameter: interval
          name: Interval
          immutable: false
          schema: seconds
  schema:
    - name: seconds
      dataType: integer
"""
FILES = {"margo.yaml", "resources/pump.png"}
OLD = GOOD.replace(
    "apiVersion: v1", "apiVersion: margo.org/v1-alpha1\nkind: ApplicationDescription"
)


def parse(text: str) -> ApplicationDescription:
    return parse_description(text.encode(), files=FILES)


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ApplicationFormatError) as caught:
        parse(text)
    assert caught.value.problems == inspect_description(text.encode(), files=FILES)[1]
    assert caught.value.where is not None
    assert caught.value.problems[0].startswith(caught.value.where)
    return caught.value.problems


def change(old: str, new: str, text: str = GOOD) -> str:
    assert old in text
    return text.replace(old, new)


# --- what is fine --------------------------------------------------------------------


def test_a_description_as_margo_publishes_it() -> None:
    found = parse(GOOD)
    assert (found.id, found.name, found.generation) == ("pump", "Pump", "v1")
    assert (found.version_text, found.version_is_text) == ("1.0.0", True)
    [profile] = found.profiles
    assert (profile.id, profile.type) == ("pump-compose", "compose")
    assert profile.components == (
        ComponentReference(
            name="stack",
            repository="oci://registry.example/acme/stack",
            revision="1.0.0",
            package_location=None,
        ),
    )
    assert found.resources == (Resource(kind="icon", path="resources/pump.png"),)
    assert found.warnings == ()
    assert found.raw == GOOD.encode()


@pytest.mark.parametrize("name", package_names())
def test_every_fixture_package_is_well_formed(name: str) -> None:
    files = package_files(PACKAGES / name)
    found = parse_description(files["margo.yaml"], files=files)
    assert found.id == name
    if name == "cooling-loop":
        assert found.warnings == (
            (
                "margo.yaml:6:12: metadata.version is the number 1.0, expected text: "
                'write "1.0"'
            ),
        )
    else:
        assert found.warnings == ()


@pytest.mark.parametrize(
    ("written", "text", "is_text"),
    [
        ('"1.0"', "1.0", True),
        ("'1.0'", "1.0", True),
        ("1.0", "1.0", False),
        ("1.10", "1.10", False),
        ("2", "2", False),
        ("1e3", "1e3", False),
        ("v1.0.0", "v1.0.0", True),
        ("1.2.1", "1.2.1", True),
        ("2026-11-21", "2026-11-21", True),
        ("yes", "yes", True),
        ("latest", "latest", True),
    ],
)
def test_versions_are_kept_as_written(written: str, text: str, is_text: bool) -> None:
    found = parse(change("version: 1.0.0", f"version: {written}"))
    assert (found.version_text, found.version_is_text) == (text, is_text)
    if not is_text:
        assert f'write "{text}"' in found.warnings[0]


def test_a_version_that_names_none_is_advised_against() -> None:
    found = parse(change("version: 1.0.0", "version: latest"))
    assert found.warnings == (
        'margo.yaml:5:12: metadata.version is "latest", which names no version',
    )


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("helm.v3", "helm"),
        ("helm", "helm"),
        ("docker-compose", "compose"),
        ("compose.v1", "compose"),
    ],
)
def test_types_of_the_older_generation(written: str, kind: str) -> None:
    found = parse(change("type: compose", f"type: {written}", OLD))
    assert (found.profiles[0].type, found.profiles[0].written_type) == (kind, written)
    assert found.generation == "v1-alpha1"


def test_the_older_generation_has_its_id_in_two_places() -> None:
    inner = change("\nid: pump", "", OLD).replace("metadata:\n", "metadata:\n  id: a\n")
    assert parse(inner).id == "a"
    both = change("metadata:\n", "metadata:\n  id: other\n", OLD)
    assert problems(both) == (
        'margo.yaml:3:5: id is "pump", expected what metadata.id says, "other"',
    )


def test_a_compose_component_of_the_older_generation() -> None:
    text = change(
        "          repository: oci://registry.example/acme/stack\n"
        "          revision: 1.0.0\n",
        "          packageLocation: https://acme.example/stack.tar.gz\n"
        "          keyLocation: https://acme.example/key.asc\n",
        OLD,
    )
    [component] = parse(text).profiles[0].components
    assert component.package_location == "https://acme.example/stack.tar.gz"
    assert (component.repository, component.revision) == (None, None)
    assert any("repository is missing" in one for one in problems(as_v1(text)))


def as_v1(text: str) -> str:
    head = "apiVersion: margo.org/v1-alpha1\nkind: ApplicationDescription"
    return change(head, "apiVersion: v1", text)


def test_a_tag_as_revision_is_advised_against_in_the_older_generation() -> None:
    text = change("revision: 1.0.0", "revision: latest", OLD)
    assert 'revision is "latest", expected a version' in parse(text).warnings[0]
    assert 'revision is "latest", expected a version' in problems(as_v1(text))[0]


def test_resources_older_packages_ask_for() -> None:
    text = change(
        "    deviceConstraints:",
        "    requiredResources:\n      memory: 5\n    deviceConstraints:",
        OLD,
    )
    assert problems(text) == (
        (
            "margo.yaml:23:15: deploymentProfiles[0].requiredResources.memory is 5, "
            'expected a size like "512Mi" (Ki, Mi or Gi)'
        ),
    )


def test_extensions_are_nobodys_business() -> None:
    text = GOOD + "x-acme-extensions: {anything: [1, 2]}\n"
    assert parse(text).warnings == ()


def test_without_a_list_of_files_none_is_missing() -> None:
    assert parse_description(GOOD.encode(), files=None).resources


def test_unknown_keys_are_advised_against() -> None:
    text = change(
        "    description:",
        "    describtion:",
        GOOD.replace(
            "    id: pump-compose\n", "    id: pump-compose\n    description: Good\n"
        ),
    )
    assert parse(text).warnings == (
        (
            "margo.yaml:14:5: deploymentProfiles[0].describtion is not in the "
            "specification; did you mean description?"
        ),
    )
    found = parse(change("id: pump\n", "id: pump\nkind: ApplicationDescription\n"))
    assert found.warnings == (
        'margo.yaml:3:7: kind is "ApplicationDescription", but v1 has no kind',
    )


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        (
            "acme/stack\n",
            "acme/stack:1.0.0\n",
            (
                "margo.yaml:17:23: deploymentProfiles[0].components[0].properties."
                "repository names a tag or digest; revision does"
            ),
        ),
        (
            "dataType: integer",
            "dataType: number",
            (
                'margo.yaml:54:17: configuration.schema[0].dataType is "number", which '
                "is "
                "not Margo's"
            ),
        ),
        (
            'value: "5"',
            'value: "{{ .Release.Name }}"',
            (
                'margo.yaml:40:12: parameters.interval.value holds "{{ .Release.Name '
                '}}", '
                "an unfilled placeholder"
            ),
        ),
    ],
)
def test_what_is_only_advised(old: str, new: str, warning: str) -> None:
    assert parse(change(old, new)).warnings == (warning,)


# --- refusals ------------------------------------------------------------------------

PROFILE = "deploymentProfiles[0]"
COMPONENT = f"{PROFILE}.components[0]"
VERSION = 'a version like "1.2.3" (SemVer 2.0, no leading v, + written _)'
TAG = (
    "expected what can be a tag: a package's tag must equal its version, and holds "
    "1 to 128 of A-Z a-z 0-9 _ . - (no + and no spaces)"
)
TYPES = 'expected "helm", "compose" or "custom"'

REFUSALS = [
    (
        "apiVersion: v1",
        "apiVersion: v2",
        ('1:13: apiVersion is "v2", expected "v1" or "margo.org/v1-alpha1"'),
    ),
    (
        "apiVersion: v1\n",
        "",
        ('1:1: apiVersion is missing, expected "v1" or "margo.org/v1-alpha1"'),
    ),
    (
        "id: pump\n",
        "id: Pump_1\n",
        ('2:5: id is "Pump_1", expected 1 to 200 of a-z, 0-9 and -'),
    ),
    (
        "id: pump\n",
        f"id: {'x' * 201}\n",
        (f'2:5: id is "{"x" * 80}"…, expected 1 to 200 of a-z, 0-9 and -'),
    ),
    ("id: pump\n", "id: 12\n", "2:5: id is 12, expected 1 to 200 of a-z, 0-9 and -"),
    ("id: pump\n", "id:\n", "2:4: id is empty, expected 1 to 200 of a-z, 0-9 and -"),
    ("  name: Pump\n", "", "4:3: metadata.name is missing, expected text"),
    (
        "  name: Pump\n",
        "  nome: Pump\n",
        ('4:3: metadata.name is missing, expected text; line 4 has "nome"'),
    ),
    ("  name: Pump\n", "  name: ' '\n", '4:9: metadata.name is " ", expected text'),
    ("  version: 1.0.0\n", "", "4:3: metadata.version is missing, expected text"),
    (
        "version: 1.0.0",
        "version: [1]",
        ("5:12: metadata.version is a list, expected text"),
    ),
    (
        "version: 1.0.0",
        "version: true",
        ("5:12: metadata.version is true, expected text"),
    ),
    (
        "version: 1.0.0",
        "version: 1.0.0+7",
        (f'5:12: metadata.version is "1.0.0+7", {TAG}'),
    ),
    (
        "version: 1.0.0",
        "version: 1.0 beta",
        (f'5:12: metadata.version is "1.0 beta", {TAG}'),
    ),
    (
        "organization:\n      - name: Acme",
        "organization: []",
        (
            "7:19: metadata.catalog."
            "organization is an empty list, expected a list with at least one item"
        ),
    ),
    (
        "      - name: Acme",
        "      - site: x",
        ("8:9: metadata.catalog.organization[0].name is missing, expected text"),
    ),
    (
        "      - name: Acme",
        "      - Acme",
        ('8:9: metadata.catalog.organization[0] is "Acme", expected a mapping'),
    ),
    (
        "resources/pump.png",
        "assets/pump.png",
        ('10:13: icon "assets/pump.png" does not exist in the package'),
    ),
    (
        "resources/pump.png",
        "../pump.png",
        (
            "10:13: metadata.catalog.application.icon is "
            '"../pump.png", expected a relative path in the package'
        ),
    ),
    (
        "icon: resources/pump.png",
        ("icon: resources/pump.png\n      licenseFile: ./resources/pump.png"),
        "11:20: licenseFile names the file of icon",
    ),
    ("type: compose", "type: helm.v4", f'12:11: {PROFILE}.type is "helm.v4", {TYPES}'),
    ("type: compose", "type: helm.v3", f'12:11: {PROFILE}.type is "helm.v3", {TYPES}'),
    ("type: compose\n    ", "", f"12:5: {PROFILE}.type is missing, {TYPES}"),
    (
        "id: pump-compose",
        "id: a b",
        (
            f'13:9: {PROFILE}.id is "a b", expected 1 to 200 '
            "of letters, digits, ., _ and -"
        ),
    ),
    (
        "oci://registry.example/acme/stack",
        "registry.example/acme/stack",
        (
            "17:23: "
            f'{COMPONENT}.properties.repository is "registry.example/acme/stack", '
            f"expected "
            "oci://<registry>/<repository>"
        ),
    ),
    (
        "oci://registry.example/acme/stack",
        '"oci://a b"',
        (
            f"17:23: {COMPONENT}."
            'properties.repository is "oci://a b", expected '
            "oci://<registry>/<repository>"
        ),
    ),
    (
        "revision: 1.0.0",
        "revision: v1.0.0",
        (f'18:21: {COMPONENT}.properties.revision is "v1.0.0", expected {VERSION}'),
    ),
    (
        "revision: 1.0.0",
        "revision: 1.0.0+7",
        (f'18:21: {COMPONENT}.properties.revision is "1.0.0+7", expected {VERSION}'),
    ),
    (
        "revision: 1.0.0",
        "revision: 1.0",
        (f"18:21: {COMPONENT}.properties.revision is 1.0, expected {VERSION}"),
    ),
    (
        "revision: 1.0.0",
        'revision: "1.0.0\\n"',
        (f'18:21: {COMPONENT}.properties.revision is "1.0.0\\n", expected {VERSION}'),
    ),
    (
        "wait: true",
        "wait: yes",
        (f'19:17: {COMPONENT}.properties.wait is "yes", expected true or false'),
    ),
    (
        "timeout: 1m30s",
        "timeout: 5m",
        (
            f"20:20: {COMPONENT}.properties.timeout is "
            '"5m", expected minutes and seconds like "8m30s"'
        ),
    ),
    (
        "cores: 1.5",
        "cores: -1",
        (
            f"24:18: {PROFILE}.deviceConstraints."
            "capacityRequirements.cpu.cores is -1, expected a number of cores"
        ),
    ),
    (
        "[amd64]",
        "[x86_64]",
        (
            f"25:27: {PROFILE}.deviceConstraints.capacityRequirements."
            'cpu.architectures[0] is "x86_64", expected one of amd64, arm64, arm, '
            "riscv64, "
            "other"
        ),
    ),
    (
        "memory: 64Mi",
        "memory: 64 MB",
        (
            f"26:17: {PROFILE}.deviceConstraints."
            'capacityRequirements.memory is "64 MB", expected a size like "512Mi" (Ki, '
            "Mi or "
            "Gi)"
        ),
    ),
    (
        "storage: 1Ti",
        "storage: 1T",
        (
            f"27:18: {PROFILE}.deviceConstraints."
            'capacityRequirements.storage is "1T", expected a size like "10Gi" (Ki, '
            "Mi, Gi, "
            "Ti, Pi or Ei)"
        ),
    ),
    (
        "operator: In\n",
        "operator: Within\n",
        (
            f"36:33: {PROFILE}.deviceConstraints."
            "eligibilityRules[0].propertySelector.matchExpressions[0].itemSelector."
            'matchExpressions[0].operator is "Within", expected one of In, NotIn, '
            "Exists, "
            "DoesNotExist, Gt, Lt, ContainsAll, ContainsAny"
        ),
    ),
    (
        "    targets:\n      - pointer: INTERVAL\n        components: [stack]\n",
        "",
        (
            "40:5: parameters.interval.targets is missing, expected a list with at "
            "least one "
            "item"
        ),
    ),
    (
        "      - pointer: INTERVAL\n        ",
        "      - ",
        ("42:9: parameters.interval.targets[0].pointer is missing, expected text"),
    ),
    (
        "components: [stack]",
        "components: [stock]",
        (
            "43:22: parameters.interval.targets"
            '[0].components[0] is "stock", expected the name of a component'
        ),
    ),
    (
        "components: [stack]",
        "components: [pump-compose]",
        (
            "43:22: parameters.interval."
            'targets[0].components[0] is "pump-compose", expected the name of a '
            "component (it "
            "is a profile's id)"
        ),
    ),
    (
        "components: [stack]",
        "components: [1]",
        (
            "43:22: parameters.interval.targets[0]."
            "components[0] is 1, expected the name of a component"
        ),
    ),
    (
        "parameter: interval",
        "parameter: pause",
        (
            "48:22: configuration.sections[0]."
            'settings[0].parameter is "pause", expected the name of a parameter'
        ),
    ),
    (
        "schema: seconds",
        "schema: minutes",
        (
            "51:19: configuration.sections[0].settings"
            '[0].schema is "minutes", expected the name of a schema of this '
            "configuration"
        ),
    ),
    (
        "immutable: false",
        "immutable: no",
        (
            "50:22: configuration.sections[0].settings"
            '[0].immutable is "no", expected true or false'
        ),
    ),
    (
        "      dataType: integer",
        ("      dataType: integer\n    - name: seconds\n      dataType: string"),
        '55:13: configuration.schema[1].name "seconds" comes twice',
    ),
    (
        "name: Pump\n",
        'name: "{{ name }}"\n',
        ('4:9: metadata.name holds "{{ name }}", an unfilled placeholder'),
    ),
]


@pytest.mark.parametrize(("old", "new", "problem"), REFUSALS)
def test_what_the_specification_forbids(old: str, new: str, problem: str) -> None:
    assert problems(change(old, new)) == (f"margo.yaml:{problem}",)


def test_the_name_of_a_component() -> None:
    assert problems(change("name: stack", "name: Stack_1")) == (
        (
            f'margo.yaml:15:15: {COMPONENT}.name is "Stack_1", expected 1 to 200 of '
            f"a-z, "
            "0-9 and -"
        ),
        (
            "margo.yaml:43:22: parameters.interval.targets[0].components[0] is "
            '"stack", '
            "expected the name of a component"
        ),
    )


def test_the_kind_of_the_older_generation() -> None:
    text = change("kind: ApplicationDescription", "kind: application", OLD)
    assert problems(text) == (
        'margo.yaml:2:7: kind is "application", expected "ApplicationDescription"',
    )
    text = change("kind: ApplicationDescription\n", "", OLD)
    assert problems(text)[0] == (
        'margo.yaml:1:1: kind is missing, expected "ApplicationDescription"'
    )


def test_names_that_come_twice() -> None:
    start = GOOD.index("      - name: stack")
    end = GOOD.index("    deviceConstraints")
    component = GOOD[start:end]
    assert problems(change(component, component * 2)) == (
        (
            "margo.yaml:21:15: deploymentProfiles[0].components[1].name stack comes "
            "twice "
            "in its profile"
        ),
    )
    start, end = GOOD.index("  - type: compose"), GOOD.index("parameters:")
    profile = GOOD[start:end]
    assert problems(change(profile, profile * 2)) == (
        "margo.yaml:39:9: deploymentProfiles[1].id pump-compose comes twice",
    )


def test_nothing_to_deploy() -> None:
    start, end = GOOD.index("deploymentProfiles"), GOOD.index("parameters:")
    found = problems(change(GOOD[start:end], "deploymentProfiles: []\n"))
    assert found[0] == (
        "margo.yaml:11:21: deploymentProfiles is an empty list, expected a list with "
        "at least one item"
    )
    start, end = GOOD.index("    components:"), GOOD.index("    deviceConstraints")
    found = problems(change(GOOD[start:end], ""))
    assert "deploymentProfiles[0].components is missing" in found[0]


def test_every_problem_is_listed_in_order() -> None:
    text = change("id: pump\n", "id: P\n").replace("type: compose", "type: x")
    found = problems(text.replace("wait: true", "wait: 1"))
    assert [one.split(":")[1] for one in found] == ["2", "12", "19"]
    with pytest.raises(ApplicationFormatError, match=r"^margo\.yaml:2:5: .*2 more\)$"):
        parse(text.replace("wait: true", "wait: 1"))


def test_no_more_than_a_hundred_problems() -> None:
    parameters = "".join(f"  p{number}: 1\n" for number in range(150))
    start, end = GOOD.index("  interval:"), GOOD.index("configuration:")
    text = GOOD.replace(GOOD[start:end], parameters)
    assert len(problems(text)) == 100


@pytest.mark.parametrize("text", ["- a", "text", "5", "~"])
def test_a_document_that_is_no_mapping(text: str) -> None:
    [problem] = problems(text)
    assert re.fullmatch(
        r"margo\.yaml:1:1: the document is .*, expected a mapping", problem
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("metadata:", "metadata: 1\nx:"),
        ("  catalog:", "  catalog: 1\n  x:"),
        ("    application:", "    application: 1\n    x:"),
        ("        properties:", "        properties: 1\n        x:"),
        ("    deviceConstraints:", "    deviceConstraints: 1\n    x:"),
        ("        cpu:", "        cpu: 1\n        x:"),
        ("        - propertySelector:", "        - 1\n        - x:"),
        ("      - name: stack", "      - 1\n      - name: stack"),
        ("  - type: compose", "  - 1\n  - type: compose"),
        ("      - pointer: INTERVAL", "      - 1\n      - pointer: INTERVAL"),
        ("    - name: General", "    - 1\n    - name: General"),
        ("        - parameter: interval", "        - 1\n        - parameter: interval"),
        ("    - name: seconds", "    - 1\n    - name: seconds"),
        (
            "              - key: /interfaces",
            "              - 1\n              - key: a",
        ),
    ],
)
def test_values_of_the_wrong_kind(old: str, new: str) -> None:
    assert any("is 1, expected a mapping" in one for one in problems(change(old, new)))


# --- inspecting ----------------------------------------------------------------------


def test_what_can_be_read_of_a_wrong_description() -> None:
    data = (MARGO_YAML / "wild-compose-old.yaml").read_bytes()
    found, wrong = inspect_description(data)
    assert found is not None
    assert (found.id, found.version_text) == ("example-flows", "3.0.1")
    assert found.profiles[0].components[0].repository == "flows.example/flows"
    assert len(wrong) == 6


@pytest.mark.parametrize("data", [b"", b"\xff", b"a: [", b"x" * (1 << 21), b"a: 1"])
def test_inspecting_never_raises(data: bytes) -> None:
    found, wrong = inspect_description(data)
    assert found is None
    assert wrong


@given(
    st.lists(
        st.tuples(
            st.sampled_from(GOOD.splitlines()),
            st.sampled_from(["", "x", "- 1", "  a: {}", "id: [", "name:", '"', "*a"]),
        ),
        max_size=3,
    )
)
def test_changed_lines_raise_nothing_else(changes: list[tuple[str, str]]) -> None:
    text = GOOD
    for old, new in changes:
        text = text.replace(old, new, 1)
    found, wrong = inspect_description(text.encode(), files=FILES)
    assert (found is not None) or wrong
    if not wrong:
        assert parse(text) == found


@given(st.text(max_size=200) | st.binary(max_size=100))
def test_noise_raises_nothing_else(text: Any) -> None:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    with pytest.raises(ApplicationFormatError):
        parse_description(data, files=None)


# --- descriptions as they are found --------------------------------------------------

EXPECTED: dict[str, str | None] = {
    "compose-and-helm-old.yaml": None,
    "helm-only-old.yaml": None,
    "malformed-indentation.yaml": r":10:5: not YAML: the indentation of this line fits "
    r"nothing above it .* line 9\)",
    "wild-compose-old.yaml": r':3:7: kind is "application", expected "Application',
    "unfilled-template.yaml": r':5:9: metadata.name holds "{{ name }}", an unfilled',
    "unquoted-template.yaml": r":6:13: a key is a mapping: an unfilled placeholder\?",
    "misspelt-keys.yaml": r'deploymentProfiles is missing, .* line 11 has "deployment',
    "old-words-in-v1.yaml": r':6:12: metadata.version is "1.0.0\+7", expected what can',
    "deployment.yaml": r':3:7: kind is "ApplicationDeployment", expected an appl',
}


def test_every_own_equivalent_has_an_expectation() -> None:
    assert {path.name for path in MARGO_YAML.iterdir()} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_own_equivalents_of_what_is_found(name: str) -> None:
    data = (MARGO_YAML / name).read_bytes()
    expected = EXPECTED[name]
    if expected is None:
        assert parse_description(data, files=None).warnings == ()
    else:
        with pytest.raises(ApplicationFormatError, match=expected):
            parse_description(data, files=None)


ORIGINAL: dict[str, str | None] = {
    "description-helm-and-compose.yaml": None,
    "description-helm-only-old.yaml": None,
    "description-nodered-malformed.yaml": r":10:5: not YAML: the indentation of this",
    "deployment-helm.yaml": r':2:7: kind is "ApplicationDeployment", expected an appl',
    "deployment-compose-old.yaml": r':2:7: kind is "ApplicationDeployment", expected',
}


@pytest.mark.parametrize("name", ORIGINAL)
def test_originals_where_they_are_at_hand(name: str) -> None:
    path = ORIGINALS / name
    if not path.is_file():
        pytest.skip("Margo's own examples are not beside this checkout")
    expected = ORIGINAL[name]
    if expected is None:
        found = parse_description(path.read_bytes(), files=None)
        assert len(found.resources) == 4
        assert found.generation == "v1-alpha1"
    else:
        with pytest.raises(ApplicationFormatError, match=expected):
            parse_description(path.read_bytes(), files=None)


# --- YAML ----------------------------------------------------------------------------


def yaml_refused(data: bytes, why: str) -> None:
    with pytest.raises(ApplicationFormatError, match=why):
        parse_yaml(data, what="m")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "m is empty"),
        (b"# only a comment\n", "m is empty"),
        (b"a: 1\na: 2", 'm:2:1: key "a" stands in line 1 already'),
        (b'a: 1\n"a": 2', 'm:2:1: key "a" stands in line 1 already'),
        (b"a: {b: 1, b: 2}", 'm:1:11: key "b" stands in line 1 already'),
        (b"a: 1\n---\nb: 1", "m:2:1: a second document, expected one"),
        (b"a: *b", r"m:1:4: alias \*b names nothing before it"),
        (b"a: &a [*a]", r"m:1:8: alias \*a names nothing before it"),
        (b"a: !!python/name:os.system x", 'm:1:4: tag "tag:yaml.org,2002:python/name'),
        (b"!custom {a: 1}", 'm:1:1: tag "!custom" is not allowed'),
        (b"a: !!int 3", "m:1:4: tag .*:int. is not allowed"),
        (b"a: !!map [1]", "m:1:4: tag .*:map. is not allowed"),
        (b"? {a: 1}\n: b", "m:1:3: a key is a mapping"),
        (b"? [a]\n: b", "m:1:3: a key is a list"),
        (b"k: &k [a]\n? *k\n: b", "m:2:3: a key is a list"),
        (b"<<: [1]", "<< merges 1, expected a mapping"),
        (b"<<: text", '<< merges "text", expected a mapping'),
        (b"a: b: c", "m:1:5: not YAML: mapping values are not allowed here"),
        (b"a:\n\t- b", "m:2:1: not YAML: found character"),
        (b"a: 'b", "m:1:6: not YAML: found unexpected end of stream"),
        (b"%YAML 3.0\n--- a", "m:1:1: not YAML: found incompatible YAML document"),
        (b"%YAML 1." + b"9" * 5000 + b"\n--- a", "m: not YAML: a number is out of"),
        (b'a: "\\Uffffffff"', "m: not YAML: a number is out of range"),
        (b'a: "\\ud800"', "m:1:4: half of a surrogate pair is not allowed"),
        (b"a: 1\nb: \x00", r"m:2:4: character U\+0000 is not allowed"),
        (b"a: \xff", "m is not UTF-8 at byte 3"),
        ("a: 1".encode("utf-16"), "m is not UTF-8 at byte 0"),
        (b"[" * 40, "m:1:33: nested deeper than 32"),
        (b"a" * ((1 << 20) + 1), "more than the limit of 1048576"),
        (b"- a\n" * 50_001, "m:50000:3: more than 50000 values, aliases expanded"),
    ],
)
def test_yaml_that_is_refused(data: bytes, why: str) -> None:
    yaml_refused(data, why)


def test_an_anchor_bomb() -> None:
    """Nine lines that stand for ten to the ninth values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 9):
        inner = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} [{inner}]")
    yaml_refused("\n".join(lines).encode(), "more than 50000 values, aliases expanded")


def test_a_deep_anchor_bomb() -> None:
    """Each alias puts the one before it one level deeper."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{level}: &a{level} [*a{level - 1}]" for level in range(1, 40)]
    yaml_refused("\n".join(lines).encode(), "nested deeper than 32")


def test_a_merge_bomb() -> None:
    lines = ["a0: &a0 {k: " + "[" + "x, " * 100 + "x]}"]
    lines += [
        f"a{level}: &a{level} {{<<: *a{level - 1}, k{level}: [x, x]}}"
        for level in range(1, 400)
    ]
    yaml_refused("\n".join(lines).encode(), "more than 50000 values, aliases expanded")


def test_aliases_and_merge_keys_are_resolved() -> None:
    node = parse_yaml(
        b"base: &base {a: 1, b: 2}\nother: &other {b: 3, c: 4}\n"
        b"one: *base\ntwo: {<<: [*base, *other], a: 9}\n",
        what="m",
    )
    two = node.members["two"].members
    assert {key: value.text for key, value in two.items()} == {
        "a": "9",
        "b": "2",
        "c": "4",
    }
    assert node.members["one"].members["b"].text == "2"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1", "number"),
        ("-1.5e3", "number"),
        (".5", "number"),
        (".inf", "number"),
        ("0x1F", "number"),
        ("1_000", "text"),
        ("1:30", "text"),
        ("true", "boolean"),
        ("yes", "text"),
        ("~", "empty"),
        ("", "empty"),
        ("'1'", "text"),
        ("!!str 1", "text"),
        ("2001-01-01", "text"),
        ("1.2.3", "text"),
        ("٣", "text"),
    ],
)
def test_types_of_plain_scalars(text: str, kind: str) -> None:
    node = parse_yaml(f"a: {text}".encode(), what="m")
    assert node.members["a"].kind == kind


def test_a_byte_order_mark_does_not_move_anything() -> None:
    node = parse_yaml(b"\xef\xbb\xbfa: b", what="m")
    assert (node.keys["a"].column, node.members["a"].column) == (1, 4)


def test_quoted_text_obeys_no_terminal() -> None:
    assert quoted('a"b\\c') == r'"a\"b\\c"'
    assert quoted("a\x1b[31mb\u202e") == '"a\\x1b[31mb\\u202e"'
    assert quoted("x" * 81) == f'"{"x" * 80}"…'


@given(st.text(max_size=100) | st.text("ab:-[]{}&*!|>'\"%@ \n#?,", max_size=60))
def test_yaml_raises_nothing_else(text: str) -> None:
    try:
        parse_yaml(text.encode("utf-8", "replace"), what="m")
    except ApplicationFormatError as why:
        assert "\n" not in str(why)  # noqa: PT017 - both outcomes are fine
