"""`attest show`: what an envelope says, in plain words. Nothing of it is verified."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from margo_supplychain.cli import describe
from margo_supplychain.cli.files import read_named
from margo_supplychain.cli.output import Result
from margo_supplychain.errors import (
    EnvelopeFormatError,
    FormatError,
    ProvenanceError,
)
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.dsse import MAX_ENVELOPE, Envelope, is_in_toto
from margo_supplychain.formats.predicates import LINK, kind_of
from margo_supplychain.formats.statements import SPREAD, STATEMENTS, statement_of
from margo_supplychain.provenance.links import parse_link

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from margo_supplychain.formats.statements import Statement
    from margo_supplychain.provenance.artifacts import Hashes

_UNVERIFIED: Final = "UNVERIFIED: no signature was checked, nothing here is known"
_MANY: Final = 8  # files on one screen
_KINDS: Final = {
    "link": "a link of one step",
    "provenance": "SLSA provenance: how it was built",
    "sbom-cyclonedx": "a CycloneDX SBOM: what is in it",
    "sbom-spdx": "an SPDX SBOM: what is in it",
    "vex-openvex": "OpenVEX: which vulnerabilities matter",
    "vex-csaf": "a CSAF document: which vulnerabilities matter",
    "test-result": "test results",
    "review": "a review by people",
    "summary": "a verification summary: what somebody found",
}


class _Said(NamedTuple):
    """What a payload says.

    Args:
        kind: `link`, `statement`, `layout` or `unknown`.
        data: for JSON, beside what every envelope has.
        rows: for people.
    """

    kind: str
    data: Mapping[str, Any]
    rows: list[tuple[str, str]]


def show_envelope(file: str) -> Result:
    """Show what a signed envelope, or a payload that nobody signed, says."""
    data = read_named(Path(file), limit=MAX_ENVELOPE, what="an attestation")
    envelope = _envelope(data, file)
    payload = data if envelope is None else envelope.payload
    said = _read(payload, envelope, file)
    signatures = () if envelope is None else envelope.signatures
    rows = [*said.rows, ("signed", _signers([one.keyid for one in signatures]))]
    return Result(
        data={
            "verified": False,
            "kind": said.kind,
            "payloadType": None if envelope is None else envelope.payload_type,
            "signatures": [{"keyId": one.keyid} for one in signatures],
            "digest": str(Digest.of(data)),
            "size": len(data),
            "link": None,
            "statement": None,
            **said.data,
        },
        lines=[_UNVERIFIED, *describe.table(rows)],
    )


def _envelope(data: bytes, file: str) -> Envelope | None:
    """Return the envelope; None for what may be a payload without one."""
    try:
        return Envelope.parse(data, what=file)
    except EnvelopeFormatError:
        raw = strict_json.parse(
            data, what=file, limit=MAX_ENVELOPE, spread=SPREAD, fractions=True
        )
        if "_type" not in raw:
            raise
        return None


def _read(payload: bytes, envelope: Envelope | None, file: str) -> _Said:
    kind = "application/vnd.in-toto+json"
    if envelope is not None:
        kind = envelope.payload_type
        if not is_in_toto(kind):
            return _Said("unknown", {}, [("payload", f"{kind}: not of in-toto")])
    raw = strict_json.parse(
        payload, what=file, limit=MAX_ENVELOPE, spread=SPREAD, fractions=True
    )
    if raw.get("_type") == "layout":
        shown = f"a layout: margo-supplychain layout show {shlex.quote(file)}"
        return _Said("layout", {}, [("payload", shown)])
    if raw.get("_type") == "link" or raw.get("predicateType") == LINK:
        return _link(payload, kind, raw, file)
    if raw.get("_type") in STATEMENTS:
        return _statement(statement_of(raw, what=file))
    raise FormatError(
        f"{file} holds {raw.get('_type')!r:.80}, expected a link, layout or Statement"
    )


# --- links ---------------------------------------------------------------------------


def _link(payload: bytes, kind: str, raw: Mapping[str, Any], file: str) -> _Said:
    try:
        link = parse_link(payload, payload_type=kind, what=file)
    except ProvenanceError as why:
        raise FormatError(f"{why}", where=file, hint=why.hint) from why
    predicate = raw.get("predicate")
    inner = predicate if isinstance(predicate, dict) else raw
    byproducts, environment = (
        value if isinstance(value, dict) else {}
        for value in (inner.get("byproducts"), inner.get("environment"))
    )
    rows = [
        ("step", link.name),
        ("ran", shlex.join(link.command)[:200] or "nothing, or it does not say what"),
        *_files("materials", link.materials),
        *_files("products", link.products),
        *((f"  {name}", _short(value)) for name, value in byproducts.items()),
        *((f"  {name}", _short(value)) for name, value in environment.items()),
    ]
    return _Said(
        "link",
        {
            "link": {
                "step": link.name,
                "command": list(link.command),
                "materials": _digests(link.materials),
                "products": _digests(link.products),
                "byproducts": byproducts,
                "environment": environment,
            }
        },
        rows,
    )


def _files(what: str, files: Mapping[str, Hashes]) -> Iterable[tuple[str, str]]:
    yield what, str(len(files))
    for name, hashes in sorted(files.items())[:_MANY]:
        yield "", f"{_listed(hashes)[0][:19]}  {name}"
    if len(files) > _MANY:
        yield "", f"and {len(files) - _MANY} more: --format json lists them"


def _digests(files: Mapping[str, Hashes]) -> dict[str, list[str]]:
    return {name: _listed(hashes) for name, hashes in files.items()}


def _listed(hashes: Hashes) -> list[str]:
    return [f"sha256:{hashes}"] if isinstance(hashes, str) else list(hashes)


# --- statements ----------------------------------------------------------------------


def _statement(found: Statement) -> _Said:
    kind = kind_of(found.predicate_type)
    subjects = [
        {
            "name": one.name,
            "digests": sorted(f"{key}:{value}" for key, value in one.digests.items()),
        }
        for one in found.subjects
    ]
    says = _SAYS.get(kind or "", _nothing)(found.predicate)
    what = _KINDS.get(kind or "", "of a type that no rule is about")
    rows = [
        ("says", what),
        ("type", found.predicate_type),
        *(
            ("about" if not number else "", f"{one['digests'][0]}  {one['name']}")
            for number, one in enumerate(subjects[:_MANY])
        ),
        *says.items(),
    ]
    data = {
        "predicateType": found.predicate_type,
        "kind": kind,
        "subjects": subjects,
        "says": says,
    }
    return _Said("statement", {"statement": data}, rows)


def _nothing(_: Mapping[str, Any]) -> dict[str, str]:
    return {}


def _provenance(predicate: Mapping[str, Any]) -> dict[str, str]:
    return _some(
        {
            "builder": _at(predicate, "runDetails", "builder", "id")
            or _at(predicate, "builder", "id"),
            "build type": _at(predicate, "buildDefinition", "buildType")
            or _at(predicate, "buildType"),
        }
    )


def _sbom(predicate: Mapping[str, Any]) -> dict[str, str]:
    parts = [
        value
        for name in ("components", "packages", "@graph")
        if isinstance(value := predicate.get(name), list)
    ]
    return _some(
        {
            "version": _at(predicate, "specVersion") or _at(predicate, "spdxVersion"),
            "parts": str(sum(map(len, parts))) if parts else None,
        }
    )


def _openvex(predicate: Mapping[str, Any]) -> dict[str, str]:
    statements = predicate.get("statements")
    counts = Counter(
        _at(one, "status") or "no status"
        for one in (statements if isinstance(statements, list) else [])
    )
    return _some(
        {
            "author": _at(predicate, "author"),
            "issued": _at(predicate, "timestamp"),
            "statuses": ", ".join(f"{many} {one}" for one, many in counts.items()),
        }
    )


def _csaf(predicate: Mapping[str, Any]) -> dict[str, str]:
    found = predicate.get("vulnerabilities")
    return _some(
        {
            "title": _at(predicate, "document", "title"),
            "category": _at(predicate, "document", "category"),
            "vulnerabilities": str(len(found)) if isinstance(found, list) else None,
        }
    )


def _test_result(predicate: Mapping[str, Any]) -> dict[str, str]:
    lists = {
        name: str(len(value))
        for name in ("passedTests", "warnedTests", "failedTests")
        if isinstance(value := predicate.get(name), list)
    }
    return _some({"result": _at(predicate, "result"), **lists})


def _review(predicate: Mapping[str, Any]) -> dict[str, str]:
    found = predicate.get("reviewers")
    names = [
        _at(one, "name") or _at(one, "uri") or "somebody without a name"
        for one in (found if isinstance(found, list) else [])
    ]
    return _some({"reviewers": ", ".join(names), "when": _at(predicate, "reviewTime")})


def _summary(predicate: Mapping[str, Any]) -> dict[str, str]:
    return _some(
        {
            "result": _at(predicate, "verificationResult"),
            "verifier": _at(predicate, "verifier", "id"),
            "when": _at(predicate, "timeVerified"),
            "resource": _at(predicate, "resourceUri"),
        }
    )


_SAYS: Final = {
    "provenance": _provenance,
    "sbom-cyclonedx": _sbom,
    "sbom-spdx": _sbom,
    "vex-openvex": _openvex,
    "vex-csaf": _csaf,
    "test-result": _test_result,
    "review": _review,
    "summary": _summary,
}


# --- words ---------------------------------------------------------------------------


def _signers(keyids: list[str | None]) -> str:
    if not keyids:
        return "by nobody: this is no envelope"
    names = ", ".join("a key without a name" if not one else one[:12] for one in keyids)
    return f"by {names}, as the envelope says"


def _some(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value[:200] for name, value in values.items() if value}


def _at(value: Any, *path: str) -> str | None:
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else strict_json.canonical({"": value})
    shown = text if isinstance(text, str) else text.decode()[4:-2]
    shown = " ".join(shown.split())
    return shown if len(shown) <= 100 else f"{shown[:99]}…"
