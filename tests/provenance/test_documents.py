"""Builders, sources, SBOMs and support ends, as statements of others write them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from margo_supplychain.errors import StatementFormatError
from margo_supplychain.formats import predicates
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.statements import Statement, Subject
from margo_supplychain.provenance.documents import (
    Sbom,
    builder_of,
    repository,
    sbom_of,
    sources_of,
    support_end,
    vulnerabilities,
)

HEX = "ab" * 32


def about(predicate_type: str, predicate: dict[str, Any]) -> Statement:
    return Statement((Subject("", {"sha256": HEX}),), predicate_type, predicate)


def v1(
    builder: Any = None,
    parameters: dict[str, Any] | None = None,
    taken: list[Any] | None = None,
) -> Statement:
    definition = {
        "externalParameters": parameters,
        "resolvedDependencies": taken,
        "buildType": "https://example.com/type/v1",
    }
    return about(
        predicates.PROVENANCE,
        {"buildDefinition": definition, "runDetails": {"builder": builder}},
    )


def v02(builder: Any = None, config: Any = None, taken: Any = None) -> Statement:
    value = {
        "builder": builder,
        "invocation": {"configSource": config},
        "materials": taken,
    }
    return about(predicates.PROVENANCE_V02, value)


# --- builders ------------------------------------------------------------------------


@pytest.mark.parametrize("make", [v1, v02])
def test_builder(make: Any) -> None:
    uri = "https://github.com/actions/runner/github-hosted"
    assert builder_of(make({"id": uri, "version": {"a": "1"}})) == uri
    assert builder_of(make({"id": ""})) is None
    assert builder_of(make({})) is None
    assert builder_of(make(None)) is None
    with pytest.raises(StatementFormatError, match=r"provenance\.builder is no object"):
        builder_of(make("me"))
    with pytest.raises(
        StatementFormatError, match=r"provenance\.builder\.id is no text"
    ):
        builder_of(make({"id": 1}))


def test_builder_and_sources_of_what_is_no_provenance() -> None:
    for predicate_type in (predicates.CYCLONEDX, "https://slsa.dev/provenance/v1.0"):
        statement = about(predicate_type, {"builder": {"id": "x"}})
        assert builder_of(statement) is None
        assert sources_of(statement) == ()


# --- sources -------------------------------------------------------------------------

PUMP = "https://github.com/acme/pump"


@pytest.mark.parametrize(
    "statement",
    [
        v1(parameters={"repository": PUMP, "ref": "refs/heads/main"}),
        v1(parameters={"source": f"git+{PUMP}.git@refs/tags/v1", "entryPoint": "x"}),
        v1(parameters={"workflow": {"repository": PUMP, "path": "a.yml", "ref": "m"}}),
        v1(parameters={"workflow": ".github/a.yml", "repository": PUMP}),
        v1(parameters={"buildConfigSource": {"repository": PUMP, "path": "c.yaml"}}),
        v1(parameters={"configSource": {"uri": f"{PUMP}#refs/heads/main:dir"}}),
        v1(parameters={"source": {"uri": PUMP}, "configSource": {}, "workflow": None}),
        v1(parameters={"source": {"url": PUMP}, "workflow": {"path": "a", "ref": "b"}}),
        v1(parameters={"sourceToBuild": {"repository": PUMP, "dir": "x"}}),
        v1(parameters={"inputs": {"gitUrl": [{"deep": PUMP}], "site": "x.y"}}),
        v1(parameters={"any": f" {PUMP}.git ", "report": "x.y/z", "n": 1}),
        v1(parameters={"source": PUMP, "image": "alpine@sha256:0"}),
        v02(config={"uri": PUMP}),
        v1(taken=[{"downloadLocation": f"GIT+{PUMP}.git@v1", "digest": {}}]),
        v1(taken=[{"uri": f"git+{PUMP}@refs/heads/ab"}, {"uri": "pkg:pypi/a"}]),
        v1(parameters={"gitRef": "refs/heads/main", "source": PUMP, "gitLfs": "true"}),
        v1(parameters={"configSource": ".github/a.yml", "workflow": {"url": PUMP}}),
        v1(taken=[{"uri": PUMP, "digest": {"gitCommit": "ab" * 20}}]),
        v1(
            taken=[
                {"uri": PUMP, "digest": {"sha1": "ab" * 20}},
                {"uri": "pkg:docker/x", "digest": {"sha1": "ab" * 20}},
                {"uri": "PKG:npm/%40scope/x@1?arch=any", "digest": {"sha512": HEX}},
                {"uri": "oci://registry.example/x:1", "digest": {"sha256": HEX}},
            ]
        ),
        v02(config={"uri": f"git+{PUMP}@refs/tags/v1.2", "entryPoint": "a.yml"}),
        v02(taken=[{"uri": f"git+{PUMP}.git", "digest": {"sha1": "ab" * 20}}]),
    ],
)
def test_sources(statement: Statement) -> None:
    assert sources_of(statement) == (PUMP,)


def test_every_source_counts() -> None:
    """Whoever builds from somewhere else as well must not hide it."""
    statement = v1(
        parameters={"repository": PUMP, "source": "https://example.com/evil"},
        taken=[{"uri": "git+https://example.com/other@main"}],
    )
    assert sources_of(statement) == (
        "https://example.com/evil",
        "https://example.com/other",
        PUMP,
    )
    both = v02(config={"uri": PUMP}, taken=[{"uri": "git+https://example.com/evil"}])
    assert sources_of(both) == ("https://example.com/evil", PUMP)
    hidden = v02(config={"uri": PUMP})
    hidden.predicate["invocation"]["parameters"] = {"repo": "https://example.com/evil"}
    assert sources_of(hidden) == ("https://example.com/evil", PUMP)


@pytest.mark.parametrize(
    ("uri", "digest", "expected"),
    [
        ("git://example.com/evil.git", {}, "git://example.com/evil"),
        ("ssh://git@x.example/evil", {"sha256": HEX}, "ssh://git@x.example/evil"),
        ("GIT+https://x.example/evil.git", {"gitTree": "0"}, "https://x.example/evil"),
        ("https://x.example/a.tar.gz", {"sha256": HEX}, "https://x.example/a.tar.gz"),
        ("git@x.example:evil.git", {"sha256": HEX}, "git@x.example:evil.git"),
        ("file:///tmp/evil", {}, "file:///tmp/evil"),
        ("evil", {}, "evil"),
        ("pkg:github/evil/pump@v1", {}, "pkg:github/evil/pump"),
        ("pkg:/generic/evil@1?x=y#z", {}, "pkg:/generic/evil"),
        ("pkg:npm/evil@1", {"gitCommit": "0"}, "pkg:npm/evil"),
        (
            "pkg:npm/x@1?vcs_url=git%2Bhttps://x.example/evil.git%40v1&download_url=",
            {},
            "https://x.example/evil",
        ),
    ],
)
def test_whatever_a_build_took_is_a_source(
    uri: str, digest: dict[str, str], expected: str
) -> None:
    good = {"uri": f"git+{PUMP}", "digest": {"gitCommit": "0"}}
    statement = v1(taken=[good, {"uri": uri, "digest": digest}])
    assert sources_of(statement) == tuple(sorted([expected, PUMP]))


@pytest.mark.parametrize(
    "parameters",
    [
        {"workflow": {"path": "https://github.com/evil/pump/a.yml"}},
        {"inputs": {"repository": "evil/pump"}},
        {"inputs": {"source": {"owner": "evil", "name": "pump"}}},
        {"inputs": {"target": "https://github.com/evil/pump"}},
        {"inputs": {"https://github.com/evil/pump.git": "x"}},
        {"source_repo": "github.com/evil/pump"},
        {"source": f"{PUMP}?ref=a;repo=evil"},
    ],
)
def test_parameters_that_lead_elsewhere(parameters: dict[str, Any]) -> None:
    statement = v1(parameters=parameters, taken=[{"uri": f"git+{PUMP}"}])
    assert set(sources_of(statement)) > {PUMP}


@pytest.mark.parametrize(
    "uri",
    [
        "docker:https://github.com/evil/pump.git",
        "oci://github.com/evil/pump.git",
        "oci:git@github.com:evil/pump",
        "pkg:%67ithub/evil/pump",
        "pkg:evil",
    ],
)
def test_source_that_is_called_a_package(uri: str) -> None:
    statement = v1(taken=[{"uri": f"git+{PUMP}"}, {"uri": uri}])
    assert set(sources_of(statement)) > {PUMP}


@pytest.mark.parametrize(
    "statement",
    [
        v1(taken=[{"uri": f"git+{PUMP}@refs/pull/66/head"}]),
        v1(taken=[{"uri": f"git+{PUMP}#refs/merge-requests/6/head"}]),
        v1(parameters={"workflow": {"repository": PUMP, "ref": "refs/pull/6/merge"}}),
        v1(parameters={"source": PUMP, "inputs": {"ref": "pull/66/head"}}),
    ],
)
def test_source_that_anybody_proposed(statement: Statement) -> None:
    with pytest.raises(StatementFormatError, match="anybody may have proposed"):
        sources_of(statement)


@pytest.mark.parametrize("name", ["repository", "source", "workflow", "configSource"])
@pytest.mark.parametrize(
    "value",
    [
        "git@x.example:evil/pump.git",
        "x.example:evil/pump",
        "ssh://x.example/evil",
        "evil/pump/.github/workflows/a.yml@main",
        "evil/pump",
        "/evil/a.yml",
        "acme/pump.yml2",
        {"repository": "evil/pump"},
        {"repository": "https://github.com/acme/pump", "git": {"x": "ssh://evil"}},
    ],
)
def test_parameter_that_names_another_source(name: str, value: Any) -> None:
    statement = v1(parameters={name: value}, taken=[{"uri": f"git+{PUMP}"}])
    assert set(sources_of(statement)) > {PUMP}


@pytest.mark.parametrize(
    "uri",
    [
        f"git+{PUMP}@/../../evil/pump.git@refs/heads/main",
        f"git+{PUMP}@/%2e%2E/evil",
        f"git+{PUMP}@..",
        f"git+{PUMP}@v1#../../evil",
        f"git+{PUMP}@v1?x=/../evil",
        f"git+{PUMP}@v1/./x",
        f"git+{PUMP}/@evil/pump",
        f"git+{PUMP}@x/evil.git@main",
        f"git+{PUMP}@v1%2fx",
        f"git+{PUMP}@v1%5cx",
        f"git+{PUMP}@v1%252e",
        f"git+{PUMP}@.\\.",
        f"git+{PUMP}@v1\t.",
        f"git+{PUMP}@v1%0a",
        "https://github.com/acme/pump@/../../evil/pump.git",
        "git@github.com:../evil",
    ],
)
def test_source_that_may_be_another_one(uri: str) -> None:
    for statement in (
        v1(taken=[{"uri": uri}]),
        v1(parameters={"source": uri}),
        v1(parameters={"repository": {"url": uri}}),
        v02(config={"uri": uri}),
    ):
        with pytest.raises(StatementFormatError, match="may be another one than it lo"):
            sources_of(statement)


def test_no_source() -> None:
    for statement in (v1(), v02(), v1(parameters={"source": " "}), v02(taken=[])):
        assert sources_of(statement) == ()


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (v1(parameters=[]), "provenance.externalParameters is no object"),  # type: ignore[arg-type] # wrong on purpose
        (v1(taken={}), "provenance.resolvedDependencies is no list"),  # type: ignore[arg-type] # wrong on purpose
        (v1(taken=["x"]), "resolvedDependencies holds what is no object"),
        (v1(taken=[{"uri": 1}]), "provenance.uri is no text"),
        (v1(taken=[{"uri": "x", "digest": []}]), "provenance.digest is no object"),
        (v1(parameters={"source": {"uri": 1}}), "provenance.source.uri is no text"),
        (v1(parameters={"source": [PUMP]}), "source is neither text nor an object"),
        (v1(parameters={"workflow": 1}), "workflow is neither text nor an object"),
        (v1(parameters={"source": {"git": 1}}), "source has no repository, uri or url"),
        (v02(config={"digest": {"sha1": "0"}}), "configSource has no repository"),
        (v1(taken=[{}]), "something was taken, and not from where"),
        (v1(taken=[{"digest": {"gitCommit": "0"}}]), "taken, and not from where"),
        (v02(config=[]), "provenance.configSource is no object"),
        (v02(config={"uri": []}), "provenance.configSource.uri is no text"),
        (v02(taken={}), "provenance.materials is no list"),
    ],
)
def test_provenance_that_cant_be_read(statement: Statement, problem: str) -> None:
    with pytest.raises(StatementFormatError, match=problem):
        sources_of(statement)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (PUMP, PUMP),
        (f"  {PUMP}/ ", PUMP),
        (f"git+{PUMP}.git/@main", PUMP),
        (f"git+{PUMP}@refs/heads/a@b", PUMP),
        (f"{PUMP}.git#main:sub", PUMP),
        (f"{PUMP}?ref=main", PUMP),
        (f"{PUMP}?ref=main&r=evil&", f"{PUMP}?r=evil"),
        (f"{PUMP}@v1", f"{PUMP}@v1"),
        ("https://example.com/@acme/pump", "https://example.com/@acme/pump"),
        (f"GIT+{PUMP}.git@v1", PUMP),
        ("pkg:github/acme/pump@v1?x=y", "pkg:github/acme/pump"),
        ("HTTPS://GitHub.com/Acme/Pump", "https://github.com/Acme/Pump"),
        ("git+ssh://git@Host:22/a/b.git@v1", "ssh://git@host:22/a/b"),
        ("git+file:///srv/a.git", "file:///srv/a"),
        ("https://example.com", "https://example.com"),
        ("git@github.com:acme/pump.git", "git@github.com:acme/pump.git"),
        ("", ""),
    ],
)
def test_repository(uri: str, expected: str) -> None:
    assert repository(uri) == expected
    assert repository(expected) == expected


# --- SBOMs and support ---------------------------------------------------------------


def bom(**changes: Any) -> Statement:
    value = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, **changes}
    return about("https://cyclonedx.org/bom/v1.6", value)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (bom(), Sbom("cyclonedx", "1.6", 0)),
        (bom(components=[{"name": "a"}, {"name": "b"}]), Sbom("cyclonedx", "1.6", 2)),
        (
            about(predicates.SPDX, {"spdxVersion": "SPDX-2.3", "packages": [{}]}),
            Sbom("spdx", "2.3", 1),
        ),
        (
            about(
                "https://spdx.dev/Document/v3",
                {
                    "@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld",
                    "@graph": [{"type": "software_Package"}, {"type": "Tool"}, "x"],
                },
            ),
            Sbom("spdx", "3.0.1", 1),
        ),
        (
            about(
                predicates.SPDX,
                {"@context": [{}, "https://spdx.org/rdf/3.1/spdx-context.jsonld"]},
            ),
            Sbom("spdx", "3.1", 0),
        ),
        (about(predicates.OPENVEX, {"bomFormat": "CycloneDX"}), None),
        (about("https://example.com/x", {}), None),
    ],
)
def test_sbom(statement: Statement, expected: Sbom | None) -> None:
    assert sbom_of(statement) == expected


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (about(predicates.CYCLONEDX, {}), "has no bomFormat and specVersion of one"),
        (bom(bomFormat="SPDX"), "has no bomFormat"),
        (bom(specVersion=""), "has no bomFormat"),
        (bom(specVersion=1.6), "CycloneDX document.specVersion is no text"),
        (bom(components={}), "CycloneDX document.components is no list"),
        (about(predicates.SPDX, {}), "is neither SPDX 2 nor SPDX 3"),
        (about(predicates.SPDX, {"spdxVersion": "SPDX-1.2"}), "is neither SPDX 2 nor"),
        (about(predicates.SPDX, {"@context": "https://x"}), "is neither SPDX 2 nor"),
        (
            about(predicates.SPDX, {"spdxVersion": "SPDX-2.3", "packages": "all"}),
            "SPDX document.packages is no list",
        ),
        (
            about(
                predicates.SPDX,
                {"@context": "https://spdx.org/rdf/3.0.1/c.jsonld", "@graph": {}},
            ),
            "SPDX document.@graph is no list",
        ),
    ],
)
def test_what_is_called_an_sbom_and_is_none(statement: Statement, problem: str) -> None:
    with pytest.raises(StatementFormatError, match=problem):
        sbom_of(statement)


def ends(*values: str) -> list[dict[str, str]]:
    name = "cdx:lifecycle:milestone:endOfSupport"
    return [{"name": "other", "value": "x"}] + [
        {"name": name, "value": one} for one in values
    ]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, None),
        ({"component": {"properties": ends()}}, None),
        (
            {"component": {"properties": ends("2031-12-31")}},
            datetime(2031, 12, 31, tzinfo=UTC),
        ),
        (
            {"properties": ends("2031-12-31T23:59:59.5+02:00")},
            datetime(2031, 12, 31, 21, 59, 59, 500000, tzinfo=UTC),
        ),
        (
            {
                "properties": ends("2031-01-01"),
                "component": {"properties": ends("2032-01-01", "2030-01-01")},
            },
            datetime(2030, 1, 1, tzinfo=UTC),
        ),
    ],
)
def test_support_end(metadata: dict[str, Any], expected: datetime | None) -> None:
    parts = [{"name": "lib", "properties": ends("2020-01-01")}]
    assert support_end(bom(metadata=metadata, components=parts)) == expected


def test_support_end_of_what_is_no_bom() -> None:
    metadata = {"properties": ends("2031-12-31")}
    for predicate_type in (predicates.SPDX, predicates.OPENVEX, "https://x.example"):
        assert support_end(about(predicate_type, {"metadata": metadata})) is None


@pytest.mark.parametrize(
    "text", ["", "soon", "2031-02-30", "2031-1-1", "20311231", "2031-12-31T24:00:00Z"]
)
def test_support_end_that_is_no_time(text: str) -> None:
    with pytest.raises(StatementFormatError, match="endOfSupport is "):
        support_end(bom(metadata={"properties": ends(text)}))


def test_statements_that_say_nothing_of_vulnerabilities() -> None:
    digests = [Digest("sha256", HEX)]
    statements = [bom(), v1(), about("https://example.com/x", {"statements": [1]})]
    assert vulnerabilities(statements, digests) == ()
    assert vulnerabilities([], digests) == ()
