"""What a vendor's pipeline leaves behind: links, a layout and statements, all by hand.

Neither in-toto's models nor this package's writers are used, so that the device is
judged by an independent hand, and Mallory may write whatever she likes.

    build     src/*  →  out/pump.wasm                        signed by `builder`
    test      out/*  →  report/tests.json                    signed by `tester`
    package   out/*, report/*  →  release/manifest, record   signed by `packager`
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.record import AttestationReference
from tests.world.repository import GENERIC, key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from margo_supplychain.formats.record import Component, Image

    Json = dict[str, Any]

LINK: Final = "https://in-toto.io/attestation/link/v0.3"
SLSA: Final = "https://slsa.dev/provenance/v1"
CYCLONEDX: Final = "https://cyclonedx.org/bom"
SPDX: Final = "https://spdx.dev/Document/v2.3"
OPENVEX: Final = "https://openvex.dev/ns/v0.2.0"
SUMMARY: Final = "https://slsa.dev/verification_summary/v1"
STATEMENT: Final = "https://in-toto.io/Statement/v1"
PAYLOAD: Final = "application/vnd.in-toto+json"
ENVELOPE: Final = "application/vnd.dsse.envelope.v1+json"
EXPIRES: Final = "2028-11-21T10:00:00Z"
MANIFEST: Final = "release/manifest"
RECORD: Final = "release/record"


class Document(NamedTuple):
    """An envelope, and what a record says of it.

    Args:
        type: predicate type.
        step: of a link.
        data: the envelope's bytes.
    """

    type: str
    step: str | None
    data: bytes

    @property
    def what(self) -> Descriptor:
        return Descriptor.of(self.data, ENVELOPE)

    def reference(self) -> AttestationReference:
        return AttestationReference(
            type=self.type,
            step=self.step,
            digest=self.what.digest,
            size=self.what.size,
        )


# --- envelopes -----------------------------------------------------------------------


def encode(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def envelope(
    payload: object,
    *signers: str | tuple[str, str | None],
    payload_type: str = PAYLOAD,
) -> bytes:
    """Return a DSSE envelope.

    Args:
        payload: bytes as they are, or what they say as JSON.
        signers: names of keys, or pairs of a name and the key id that its signature
            shall have; None for no key id.
        payload_type: what the envelope says that it holds.
    """
    data = payload if isinstance(payload, bytes) else encode(payload)
    pairs = [(one, keyid(one)) if isinstance(one, str) else one for one in signers]
    kind = payload_type.encode()
    # DSSE v1: what is signed is the type and the payload, each behind its length.
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(data), data)
    signatures = []
    for name, known_as in pairs:
        made: Json = {"sig": _base64(bytes.fromhex(key(name).sign(signed).signature))}
        if known_as is not None:
            made["keyid"] = known_as
        signatures.append(made)
    return encode(
        {
            "payloadType": payload_type,
            "payload": _base64(data),
            "signatures": signatures,
        }
    )


def reopened(data: bytes, change: Callable[[Json], object]) -> bytes:
    """Return an envelope changed after it was signed."""
    raw = json.loads(data)
    change(raw)
    return encode(raw)


def payload_of(data: bytes) -> Any:
    """Return what an envelope says."""
    return json.loads(base64.b64decode(json.loads(data)["payload"]))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def keyid(name: str) -> str:
    """Return the id of the key called `name`."""
    return str(key(name).public_key.keyid)


# --- layouts -------------------------------------------------------------------------


def step(
    name: str,
    *functionaries: str,
    materials: Sequence[Sequence[str]],
    products: Sequence[Sequence[str]],
    threshold: int = 1,
) -> Json:
    """Return one step of a layout; functionaries are names of keys."""
    return {
        "_type": "step",
        "name": name,
        "pubkeys": [keyid(one) for one in functionaries],
        "threshold": threshold,
        "expected_materials": [list(rule) for rule in materials],
        "expected_products": [list(rule) for rule in products],
        "expected_command": [],
    }


CLOSED: Final = ("DISALLOW", "*")


def steps() -> list[Json]:
    """Return the three steps of the pipeline."""
    built = ("MATCH", "out/*", "WITH", "PRODUCTS", "FROM", "build")
    tested = ("MATCH", "report/*", "WITH", "PRODUCTS", "FROM", "test")
    return [
        step(
            "build",
            "builder",
            materials=[("ALLOW", "src/*"), CLOSED],
            products=[("CREATE", "out/pump.wasm"), CLOSED],
        ),
        step(
            "test",
            "tester",
            materials=[built, CLOSED],
            products=[("CREATE", "report/tests.json"), CLOSED],
        ),
        step(
            "package",
            "packager",
            materials=[built, tested, CLOSED],
            products=[("REQUIRE", MANIFEST), ("CREATE", "release/*"), CLOSED],
        ),
    ]


FUNCTIONARIES: Final = ("builder", "tester", "packager")


def layout(
    with_steps: Iterable[Json] | None = None,
    *,
    functionaries: Iterable[str] = FUNCTIONARIES,
    expires: str = EXPIRES,
    **changes: Any,
) -> Json:
    """Return a layout.

    Args:
        with_steps: the pipeline's by default.
        functionaries: names of the keys that it holds.
        expires: when it ends.
        changes: fields that say something else.
    """
    keys: Json = {}
    for one in functionaries:
        public = key(one).public_key
        keys[public.keyid] = {"keyid": public.keyid, **public.to_dict()}
    return {
        "_type": "layout",
        "steps": list(with_steps) if with_steps is not None else steps(),
        "inspect": [],
        "keys": keys,
        "expires": expires,
        "readme": "",
        **changes,
    }


# --- what a run of the pipeline recorded ---------------------------------------------


def sha256(text: str | bytes) -> dict[str, str]:
    """Return the digests of an artifact as a link has them."""
    data = text if isinstance(text, bytes) else text.encode()
    return {"sha256": hashlib.sha256(data).hexdigest()}


def link(
    name: str,
    *,
    materials: Mapping[str, Mapping[str, str]],
    products: Mapping[str, Mapping[str, str]],
) -> Json:
    """Return what a step's functionary says that went in and came out."""
    return {
        "_type": "link",
        "name": name,
        "materials": {path: dict(one) for path, one in materials.items()},
        "products": {path: dict(one) for path, one in products.items()},
        "command": [],
        "byproducts": {},
        "environment": {},
    }


class Run:
    """One run of the pipeline: the links that it recorded, to be signed.

    Args:
        version: sources, program and report differ from version to version.
        artifact: the manifest that was released.
        name: of the application.
        said: what else the record says, as `releases` takes it.

    Attributes:
        links: payload by step; Mallory changes them where she holds a key.
        identity: what the last step recorded that the record says.
        signers: whose keys sign each step's links.
    """

    def __init__(
        self,
        version: str,
        artifact: Descriptor,
        name: str = "acme/pump-monitor",
        **said: Any,
    ) -> None:
        source = {"src/pump.c": sha256(f"source {version}")}
        program = {"out/pump.wasm": sha256(f"program {version}")}
        report = {"report/tests.json": sha256(f"report {version}")}
        self.version = version
        self.artifact = artifact
        self.links = {
            "build": link("build", materials=source, products=program),
            "test": link("test", materials=program, products=report),
            "package": link(
                "package",
                materials={**program, **report},
                products={MANIFEST: {"sha256": artifact.digest.hex}},
            ),
        }
        self.name = name
        self.releases(**said)
        self.signers: dict[str, tuple[str, ...]] = {
            "build": ("builder",),
            "test": ("tester",),
            "package": ("packager",),
        }

    def releases(
        self,
        *,
        kind: str | None = GENERIC,
        components: Iterable[Component] = (),
        images: Iterable[Image] = (),
        **said: Any,
    ) -> None:
        """Let the last step record this release: its components, and what it is.

        Args:
            kind: `artifactType`.
            components: all of them.
            images: all of them.
            said: other fields of the record, as JSON.
        """
        named, listed = list(components), list(images)
        self.links["package"]["products"] |= {
            f"release/components/{one.profile}/{one.name}": {
                "sha256": one.content.digest.hex
            }
            for one in named
        }
        publisher, name = self.name.split("/")
        artifact = _described(self.artifact)
        if kind is not None:
            artifact["artifactType"] = kind
        record = {
            "format": 1,
            "publisher": publisher,
            "name": name,
            "version": self.version,
            "artifact": artifact,
            "components": [
                {
                    "name": one.name,
                    "profile": one.profile,
                    "profileType": one.profile_type,
                    "repository": one.repository,
                    "revision": one.revision,
                    **_described(one.content),
                }
                for one in named
            ],
            "images": [
                {
                    "component": one.component,
                    "reference": one.reference,
                    "platforms": list(one.platforms),
                    **({} if one.digest is None else {"digest": str(one.digest)}),
                }
                for one in listed
            ],
            "closure": "complete",
            **said,
        }
        text = json.dumps(
            record, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        self.identity = f"{text}\n".encode()
        self.links["package"]["products"][RECORD] = sha256(self.identity)

    @property
    def release(self) -> Digest:
        """What a publisher policy names this release by."""
        return Digest.of(self.identity)

    def copy(self) -> Run:
        return copy.deepcopy(self)

    def documents(self) -> dict[str, Document]:
        """Return the signed links by step."""
        return {
            name: linked(name, payload, *self.signers[name])
            for name, payload in self.links.items()
        }

    def statement(
        self, type_: str, predicate: Json, *signers: str, **changes: Any
    ) -> Document:
        """Return a signed statement about the artifact of this run."""
        return Document(
            type_, None, envelope(self.said(type_, predicate, **changes), *signers)
        )

    def said(self, type_: str, predicate: Json, **changes: Any) -> Json:
        """Return a Statement v1 about the artifact of this run."""
        digest = {"sha256": self.artifact.digest.hex}
        return {
            "_type": STATEMENT,
            "subject": [{"name": MANIFEST, "digest": digest}],
            "predicateType": type_,
            "predicate": predicate,
            **changes,
        }


def _described(what: Descriptor) -> Json:
    return {
        "mediaType": what.media_type,
        "digest": str(what.digest),
        "size": what.size,
    }


def linked(
    name: str, payload: object, *signers: str | tuple[str, str | None]
) -> Document:
    """Return a link as a record names it, under any step."""
    return Document(LINK, name, envelope(payload, *signers))


# --- summaries -----------------------------------------------------------------------


def summed_up(
    run: Run,
    *,
    record: bytes,
    layout_file: bytes,
    when: str,
    name: str = "acme/pump-monitor",
    functionaries: Iterable[str] = FUNCTIONARIES,
    **changes: Any,
) -> Json:
    """Return a verification summary of a run, as a Statement.

    Args:
        run: what was verified.
        record: bytes of the record that names it.
        layout_file: bytes of the layout that it was judged by.
        when: the time of the verification.
        name: of the application.
        functionaries: names of the keys that signed its links.
        changes: fields of the predicate that say something else.
    """
    documents = run.documents()
    predicate = {
        "verifier": {"id": "https://verifier.acme.example"},
        "timeVerified": when,
        "resourceUri": f"margo-supplychain:{name}@{run.version}",
        "policy": {"uri": "https://acme.example/policy", "digest": sha256("policy")},
        "inputAttestations": [
            {"uri": "the record", "digest": sha256(record)},
            {"uri": "the layout", "digest": sha256(layout_file)},
            *({"digest": sha256(one.data)} for one in documents.values()),
        ],
        "verificationResult": "PASSED",
        "verifiedLevels": [],
        "x-functionaries": sorted(keyid(one) for one in functionaries),
        **changes,
    }
    return run.said(SUMMARY, predicate)
