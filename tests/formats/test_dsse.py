"""Envelopes: strict, with every freedom that DSSE gives, and nothing is re-encoded."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import EnvelopeFormatError
from margo_supplychain.formats import dsse
from margo_supplychain.formats.dsse import Envelope, EnvelopeSignature, is_in_toto

PAYLOAD = b'{"_type":"link"}\xff\xfe>>?'


def written(**changes: Any) -> bytes:
    value: dict[str, Any] = {
        "payloadType": dsse.PAYLOAD,
        "payload": base64.b64encode(PAYLOAD).decode(),
        "signatures": [{"keyid": "k", "sig": base64.b64encode(b"s>>?").decode()}],
    }
    value |= changes
    return json.dumps({k: v for k, v in value.items() if v is not None}).encode()


def parse(data: bytes, **options: Any) -> Envelope:
    return Envelope.parse(data, what="build.link", **options)


def test_envelope() -> None:
    found = parse(written())
    assert found.payload_type == "application/vnd.in-toto+json"
    assert found.payload == PAYLOAD
    assert found.signatures == (EnvelopeSignature(keyid="k", sig=b"s>>?"),)


def test_what_is_signed() -> None:
    """The example of DSSE's protocol.md."""
    found = Envelope("http://example.com/HelloWorld", b"hello world", ())
    assert found.pae == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert dsse.pae("t", b"") == b"DSSEv1 1 t 0 "


def test_both_alphabets_of_base64() -> None:
    plain = base64.b64encode(PAYLOAD).decode()
    safe = base64.urlsafe_b64encode(PAYLOAD).decode()
    assert plain != safe
    assert parse(written(payload=safe)).payload == PAYLOAD
    sig = base64.urlsafe_b64encode(b"s>>?").decode()
    found = parse(written(signatures=[{"keyid": "k", "sig": sig}]))
    assert found.signatures[0].sig == b"s>>?"


@pytest.mark.parametrize("extra", [{}, {"keyid": ""}])
def test_key_ids_may_be_missing(extra: dict[str, str]) -> None:
    found = parse(written(signatures=[{"sig": "AAAA", **extra}]))
    assert found.signatures[0].keyid is None


def test_fields_that_dsse_does_not_define_are_skipped() -> None:
    signature = {"sig": "AAAA", "cert": "x", "extension": {"kind": 1}}
    found = parse(written(signatures=[signature], note="x"))
    assert found.signatures == (EnvelopeSignature(keyid=None, sig=b"\0\0\0"),)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"payloadType": None}, "payload type None, expected a media type"),
        ({"payloadType": 1}, "payload type 1"),
        ({"payloadType": ""}, "payload type ''"),
        ({"payloadType": "a b"}, "payload type 'a b'"),
        ({"payloadType": "a\u00e9"}, "payload type 'aé'"),
        ({"payloadType": "a" * 256}, "payload type 'aaa"),
        ({"payload": None}, "payload of build.link is None, expected base64"),
        ({"payload": 7}, "payload of build.link is 7"),
        ({"payload": ""}, "payload of build.link is empty"),
        ({"payload": "AAA"}, "payload of build.link is not base64"),
        ({"payload": "AA=A"}, "not base64"),
        ({"payload": "AAAA\n"}, "not base64"),
        ({"payload": " AAAA"}, "not base64"),
        ({"payload": "AAAA===="}, "not base64"),
        ({"payload": "AAé="}, "not base64"),
        ({"payload": "+-AA"}, "mixes two alphabets of base64"),
        ({"payload": "_/AA"}, "mixes two alphabets of base64"),
        ({"signatures": None}, "has no list of signatures, expected 1 to 64"),
        ({"signatures": {}}, "has no list of signatures"),
        ({"signatures": []}, "has 0 signatures, expected 1 to 64"),
        ({"signatures": [{"sig": "AAAA"}] * 65}, "has 65 signatures"),
        ({"signatures": ["AAAA"]}, "signature 1 of build.link is no object"),
        ({"signatures": [{"sig": "AAAA"}, {}]}, "signature 2 of build.link is None"),
        ({"signatures": [{"sig": ""}]}, "signature 1 of build.link is empty"),
        ({"signatures": [{"sig": "zz"}]}, "signature 1 of build.link is not base64"),
        ({"signatures": [{"sig": "AAAA", "keyid": None}]}, "the key id None"),
        ({"signatures": [{"sig": "AAAA", "keyid": 1}]}, "the key id 1, expected text"),
        ({"signatures": [{"sig": "AAAA", "keyid": "k" * 1025}]}, "the key id 'kkk"),
        ({"signatures": [{"sig": "AAAA" * 5462}]}, "has 16386 bytes, more than"),
    ],
)
def test_what_is_no_envelope(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(EnvelopeFormatError, match=problem):
        parse(written(**changes))


@pytest.mark.parametrize(
    ("data", "problem", "hint"),
    [
        (b'{"signed":{},"signatures":[]}', "older form of metadata", "--use-dsse"),
        (b'{"mediaType":"x","dsseEnvelope":{}}', "is a sigstore bundle", "its field"),
        (b'{"_type":"https://in-toto.io/Statement/v1"}', "is not signed", "attest add"),
    ],
)
def test_other_forms(data: bytes, problem: str, hint: str) -> None:
    with pytest.raises(EnvelopeFormatError, match=problem) as caught:
        parse(data)
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"\xff", "is not UTF-8 at byte 0"),
        (written() + b"x", "is not JSON: Extra data"),
        (written()[:-1] + b',"payload":"AAAA"}', "names 'payload' twice"),
        (
            b'{"signatures":[{"sig":"AAAA","sig":"AAAA"}]}',
            "names 'sig' twice",
        ),
        (b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", "nested deeper than 64"),
        (b'{"a":[' + b"{}," * 5000 + b"{}]}", "holds more than 1038 values"),
    ],
)
def test_what_is_no_strict_json(data: bytes, problem: str) -> None:
    with pytest.raises(EnvelopeFormatError, match=problem):
        parse(data)


def test_limit() -> None:
    data = written()
    assert parse(data, limit=len(data))
    with pytest.raises(EnvelopeFormatError, match=f"has {len(data)} bytes, more than"):
        parse(data, limit=len(data) - 1)


@given(
    st.builds(
        Envelope,
        st.from_regex(r"[!-~]{1,255}", fullmatch=True),
        st.binary(min_size=1),
        st.lists(
            st.builds(
                EnvelopeSignature,
                st.none() | st.text("abc0", min_size=1, max_size=64),
                st.binary(min_size=1, max_size=200),
            ),
            min_size=1,
            max_size=64,
        ).map(tuple),
    )
)
def test_what_is_written_is_read_back(envelope: Envelope) -> None:
    data = envelope.to_bytes()
    assert parse(data) == envelope
    assert parse(data).to_bytes() == data


@pytest.mark.parametrize("count", [0, 65])
def test_what_would_not_be_read_is_not_written(count: int) -> None:
    signatures = (EnvelopeSignature(keyid="k", sig=b"s"),) * count
    with pytest.raises(EnvelopeFormatError, match=f"would have {count} signatures"):
        Envelope("t", b"p", signatures).to_bytes()


def test_too_large_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dsse, "MAX_ENVELOPE", 100)
    envelope = Envelope("t", b"p" * 100, (EnvelopeSignature(keyid="k", sig=b"s"),))
    with pytest.raises(EnvelopeFormatError, match="more than the limit of 100"):
        envelope.to_bytes()


@pytest.mark.parametrize(
    ("payload_type", "expected"),
    [
        ("application/vnd.in-toto+json", True),
        ("application/vnd.in-toto.link+json", True),
        ("application/vnd.in-toto.test-result+json", True),
        ("application/vnd.in-toto.+json", False),
        ("application/vnd.in-toto", False),
        ("application/vnd.in-toto+json2", False),
        ("application/vnd.in-toto.a/b+json", False),
        ("application/vnd.in-toto+json\n", False),
        ("Application/vnd.in-toto+json", False),
        ("application/vnd.in-totolink+json", False),
        ("text/plain", False),
    ],
)
def test_payload_types_of_in_toto(payload_type: str, expected: bool) -> None:
    assert is_in_toto(payload_type) is expected
