"""Margo's rules for component properties, constraints, parameters, configuration."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from margo_supplychain.formats.application_findings import join
from margo_supplychain.formats.yaml_positions import quoted

if TYPE_CHECKING:
    from collections.abc import Collection

    from margo_supplychain.formats.application_findings import Findings
    from margo_supplychain.formats.yaml_positions import Node

TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_REPOSITORY: Final = re.compile(r"oci://[^\s\x00-\x1f\x7f]{1,500}", re.ASCII)
_TIMEOUT: Final = re.compile(r"[0-9]{1,6}m[0-9]{1,6}s", re.ASCII)
# Margo's own expression (OpenAPI, component revision), `+` written `_`.
_REVISION: Final = re.compile(
    r"(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)"
    r"(?:-(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
    r"(?:\.(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(?:_[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)

_MEMORY: Final = re.compile(r"[0-9]+(?:Mi|Gi|Ki)", re.ASCII)
_STORAGE: Final = re.compile(r"[0-9]+(?:Mi|Gi|Ki|Ti|Pi|Ei)", re.ASCII)
# The description's page lists three, the deployment schema five.
_ARCHITECTURES: Final = ("amd64", "arm64", "arm", "riscv64", "other")
_OPERATORS: Final = (
    "In",
    "NotIn",
    "Exists",
    "DoesNotExist",
    "Gt",
    "Lt",
    "ContainsAll",
    "ContainsAny",
)
_SELECTORS: Final = ("propertySelector", "labelSelector")
_EXPRESSION: Final = ("key", "operator", "values", "itemSelector")
_SETTING: Final = ("parameter", "name", "description", "immutable", "schema")
_DATA_TYPE: Final = re.compile(
    r"(?:string|integer|double|boolean)|array\[(?:string|integer|double|boolean)\]",
    re.ASCII,
)


def check_constraints(
    profile: Node, path: str, *, strict: bool, find: Findings
) -> None:
    """Check `deviceConstraints`, and `requiredResources` of the older generation."""
    old = find.mapping(profile, "requiredResources", path, required=False)
    if old is not None and not strict:
        _capacity(old, f"{path}.requiredResources", find)
    constraints = find.mapping(profile, "deviceConstraints", path, required=False)
    if constraints is None:
        return
    where = f"{path}.deviceConstraints"
    find.known(constraints, where, ("capacityRequirements", "eligibilityRules"))
    key = "capacityRequirements"
    capacity = find.mapping(constraints, key, where, required=False)
    if capacity is not None:
        find.known(capacity, f"{where}.{key}", ("cpu", "memory", "storage"))
        _capacity(capacity, f"{where}.{key}", find)
    for rule, at in find.items(constraints, "eligibilityRules", where, required=False):
        if find.is_mapping(rule, at):
            find.known(rule, at, _SELECTORS)
            for selector in _SELECTORS:
                node = find.mapping(rule, selector, at, required=False)
                if node is not None:
                    _expressions(node, join(at, selector), find)


def _capacity(node: Node, path: str, find: Findings) -> None:
    for key, pattern, expected in (
        ("memory", _MEMORY, 'a size like "512Mi" (Ki, Mi or Gi)'),
        ("storage", _STORAGE, 'a size like "10Gi" (Ki, Mi, Gi, Ti, Pi or Ei)'),
    ):
        find.text(node, key, path, expected=expected, pattern=pattern, required=False)
    cpu = find.mapping(node, "cpu", path, required=False)
    if cpu is None:
        return
    where = f"{path}.cpu"
    find.known(cpu, where, ("cores", "architectures"))
    cores = cpu.members.get("cores")
    if cores is not None and (cores.kind != "number" or cores.text[:1] in "-."):
        find.wrong(cores, f"{where}.cores", "a number of cores")
    for item, at in find.items(cpu, "architectures", where, required=False):
        if item.text not in _ARCHITECTURES:
            find.wrong(item, at, f"one of {', '.join(_ARCHITECTURES)}")


def _expressions(selector: Node, path: str, find: Findings) -> None:
    find.known(selector, path, ("matchExpressions",))
    for item, at in find.items(selector, "matchExpressions", path):
        if not find.is_mapping(item, at):
            continue
        find.known(item, at, _EXPRESSION)
        find.text(item, "key", at)
        expected = f"one of {', '.join(_OPERATORS)}"
        found = find.text(item, "operator", at, expected=expected)
        if found is not None and found not in _OPERATORS:
            find.wrong(item.members["operator"], f"{at}.operator", expected)
        inner = find.mapping(item, "itemSelector", at, required=False)
        if inner is not None:
            _expressions(inner, f"{at}.itemSelector", find)


def check_use(root: Node, find: Findings) -> None:
    """Check `parameters` and `configuration`, which refer to components by name."""
    components, profiles = _declared(root)
    parameters = find.mapping(root, "parameters", "", required=False)
    names: Collection[str] = ()
    if parameters is not None:
        names = parameters.members
        for name, node in parameters.members.items():
            path = join("parameters", name)
            if find.is_mapping(node, path):
                find.known(node, path, ("value", "targets"))
                _targets(node, path, components, profiles, find)
    configuration = find.mapping(root, "configuration", "", required=False)
    if configuration is not None:
        _configuration(configuration, names, find)


def _declared(root: Node) -> tuple[set[str], set[str]]:
    # Also of profiles that have errors of their own: each is said once.
    listed = root.members.get("deploymentProfiles")
    profiles = [] if listed is None else listed.items
    inner = [profile.members.get("components") for profile in profiles]
    names = [one.members.get("name") for node in inner if node for one in node.items]
    ids = [profile.members.get("id") for profile in profiles]
    return ({one.text for one in names if one}, {one.text for one in ids if one})


def _targets(
    parameter: Node,
    path: str,
    components: Collection[str],
    profiles: Collection[str],
    find: Findings,
) -> None:
    for target, at in find.items(parameter, "targets", path):
        if not find.is_mapping(target, at):
            continue
        find.known(target, at, ("pointer", "components"))
        find.text(target, "pointer", at)
        for item, where in find.items(target, "components", at):
            if item.kind != "text":
                find.wrong(item, where, "the name of a component")
            elif item.text not in components:
                profile = " (it is a profile's id)" if item.text in profiles else ""
                find.wrong(item, where, f"the name of a component{profile}")


def _configuration(
    configuration: Node, parameters: Collection[str], find: Findings
) -> None:
    where = "configuration"
    find.known(configuration, where, ("sections", "schema"))
    schemas: set[str] = set()
    for item, at in find.items(configuration, "schema", where, required=False):
        if not find.is_mapping(item, at):
            continue
        name = find.text(item, "name", at)
        if name in schemas:
            find.error(item.members["name"], f"{at}.name {quoted(name)} comes twice")
        schemas.update(() if name is None else (name,))
        found = find.text(item, "dataType", at)
        if found is not None and _DATA_TYPE.fullmatch(found) is None:
            node = item.members["dataType"]
            find.warning(node, f"{at}.dataType is {node.shown}, which is not Margo's")
    for section, at in find.items(configuration, "sections", where, required=False):
        if not find.is_mapping(section, at):
            continue
        find.known(section, at, ("name", "settings"))
        find.text(section, "name", at)
        for setting, path in find.items(section, "settings", at):
            if find.is_mapping(setting, path):
                _setting(setting, path, parameters, schemas, find)


def _setting(
    setting: Node,
    path: str,
    parameters: Collection[str],
    schemas: Collection[str],
    find: Findings,
) -> None:
    find.known(setting, path, _SETTING)
    find.text(setting, "name", path)
    for key, names, expected in (
        ("parameter", parameters, "the name of a parameter"),
        ("schema", schemas, "the name of a schema of this configuration"),
    ):
        found = find.text(setting, key, path, expected=expected)
        if found is not None and found not in names:
            find.wrong(setting.members[key], f"{path}.{key}", expected)
    immutable = setting.members.get("immutable")
    if immutable is not None and immutable.kind != "boolean":
        find.wrong(immutable, f"{path}.immutable", "true or false")


def check_repository(
    properties: Node, path: str, find: Findings, *, required: bool
) -> str | None:
    """Check where a component lies; return it as written."""
    found = find.text(
        properties,
        "repository",
        path,
        expected="oci://<registry>/<repository>",
        pattern=_REPOSITORY,
        required=required,
    )
    if found is not None and ("@" in found or ":" in found.rpartition("/")[2]):
        node = properties.members["repository"]
        find.warning(node, f"{path}.repository names a tag or digest; revision does")
    return found


def check_revision(
    properties: Node, path: str, find: Findings, *, old: bool, required: bool
) -> str | None:
    """Check a component's revision; return it as written."""
    expected = 'a version like "1.2.3" (SemVer 2.0, no leading v, + written _)'
    found = find.text(
        properties, "revision", path, expected=expected, required=required
    )
    if found is not None and _REVISION.fullmatch(found) is None:
        node = properties.members["revision"]
        # The older generation asked for a tag; its packages have `latest`.
        if old and TAG.fullmatch(found) is not None:
            text = f"{path}.revision is {node.shown}, expected {expected}"
            find.warning(node, text)
        else:
            find.wrong(node, f"{path}.revision", expected)
    return found


def check_waiting(properties: Node, path: str, find: Findings) -> None:
    """Check `wait` and `timeout`."""
    wait = properties.members.get("wait")
    if wait is not None and wait.kind != "boolean":
        find.wrong(wait, f"{path}.wait", "true or false")
    expected = 'minutes and seconds like "8m30s"'
    find.text(
        properties,
        "timeout",
        path,
        expected=expected,
        pattern=_TIMEOUT,
        required=False,
    )
