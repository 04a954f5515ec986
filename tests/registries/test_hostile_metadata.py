"""What a registry may do to the manifests around trust metadata, which nobody signs.

Reference §6, "Digests, sizes", "JSON" and "TUF level": a device that runs 1.1.0 asks
for news, and gets an error of a known kind; what it trusts and offers does not move.
"""

from __future__ import annotations

import base64
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from margo_supplychain.errors import (
    FetchError,
    InconclusiveError,
    SupplyChainError,
    VerificationError,
)
from tests.attacks.standing import refused, stands
from tests.registries import lies
from tests.registries.hostile import IMAGE, INDEX, HostileRegistry, digest_of
from tests.registries.plant import EMPTY_TYPE, METADATA, TRUST, plant_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.registries.hostile import Lie
    from tests.registries.plant import Plant

EMPTY: Final = {"mediaType": EMPTY_TYPE, "digest": digest_of(b"{}"), "size": 2}


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with HostileRegistry() as registry:
        plant = plant_on(registry, tmp_path)
        plant.world.release("1.2.0")
        plant.world.publish()
        yield plant


def wrapper(content: bytes, **change: Any) -> dict[str, Any]:
    """Return the manifest around `data`, with members of its layer changed."""
    layer = {
        "mediaType": METADATA,
        "digest": digest_of(content),
        "size": len(content),
    }
    return {
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "artifactType": METADATA,
        "config": EMPTY,
        "layers": [{**layer, **change}],
    }


def layers(*found: dict[str, Any]) -> Callable[[bytes], bytes]:
    return lambda data: dump({**wrapper(data), "layers": list(found)})


def dump(document: Any) -> bytes:
    return json.dumps(document).encode()


def layer(**change: Any) -> Callable[[bytes], bytes]:
    return lambda data: dump(wrapper(data, **change))


def whole(**change: Any) -> Callable[[bytes], bytes]:
    return lambda data: dump({**wrapper(data), **change})


def inline(other: bytes) -> Callable[[bytes], bytes]:
    return layer(data=base64.b64encode(other).decode())


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


ZEROS: Final = f"sha256:{'0' * 64}"
# What stands where the manifest around timestamp.json should be.
WRAPPERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "nothing": lambda _: b"",
    "no document": lambda _: b"<html>",
    "a list": lambda _: b"[]",
    "no text": lambda data: dump(wrapper(data)).replace(b"vnd.tuf", b"vnd\xff.tuf"),
    "duplicate keys": lambda data: dump(wrapper(data))[:-1] + b',"layers":[]}',
    "nan": lambda data: dump({**wrapper(data), "annotations": {}})[:-1] + b',"n":NaN}',
    "deep": lambda _: nested(100_000),
    "huge number": lambda data: dump(wrapper(data))[:-1] + b',"n":1%s}' % (b"0" * 5000),
    "larger than the limit": lambda data: dump(wrapper(data)) + b" " * (5 << 20),
    "digest with a way out": layer(digest="sha256:../../../../../../etc/passwd"),
    "digest an absolute path": layer(digest="/etc/passwd"),
    "digest in upper case": lambda data: dump(
        wrapper(data, digest="sha256:" + digest_of(data)[7:].upper())
    ),
    "digest too short": layer(digest="sha256:00"),
    "digest unknown": layer(digest="md5:" + "0" * 32),
    "digest with a null": layer(digest="sha256:\0" + "0" * 63),
    "digest with other digits": layer(digest="sha256:" + "\u0660" * 64),
    "digest no text": layer(digest=7),
    "digest of nothing there": layer(digest=ZEROS),
    "size smaller": lambda data: dump(wrapper(data, size=len(data) - 1)),
    "size negative": layer(size=-1),
    "size 2^63": layer(size=1 << 63),
    "size text": lambda data: dump(wrapper(data, size=str(len(data)))),
    "size true": layer(size=True),
    "size null": layer(size=None),
    "inline of something else": inline(b"{}"),
    "inline longer": lambda data: inline(data + b" ")(data),
    "inline no base64": layer(data="%%%%"),
    "inline no text": layer(data=7),
    "inline very long": layer(data=base64.b64encode(bytes(1 << 20)).decode()),
    "no layers": layers(),
    "two layers": lambda data: dump(
        {**wrapper(data), "layers": wrapper(data)["layers"] * 2}
    ),
    "layers no list": whole(layers=7),
    "another type": whole(artifactType="application/wasm"),
    "an index": lambda _: dump(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
    ),
    "an index that lists itself": lambda _: dump(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [{"mediaType": INDEX, "digest": ZEROS, "size": 200}],
        }
    ),
    "docker's": whole(mediaType="application/vnd.docker.distribution.manifest.v2+json"),
}


def timestamp_wrapped(plant: Plant, make: Callable[[bytes], bytes]) -> None:
    """Serve the next state, but `make` around its timestamp."""
    plant.serve()
    held = plant.registry.of(TRUST)
    data = plant.world.files.metadata["timestamp.json"]
    held.add_manifest(make(data), tag="timestamp")


@pytest.mark.parametrize("name", WRAPPERS)
def test_manifest_around_the_timestamp(name: str, plant: Plant, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    timestamp_wrapped(plant, WRAPPERS[name])
    with refused_somehow(plant):
        plant.device.verify()
    assert plant.registry.sent < 32 << 20
    assert len(plant.registry.seen) <= 6
    assert set(tmp_path.iterdir()) == before
    plant.serve()
    assert plant.device.install() == "1.2.0"


@contextlib.contextmanager
def refused_somehow(plant: Plant) -> Iterator[None]:
    """Demand an error of ours, not a success and not a crash; nothing moved."""
    before = plant.device.memory, stands(plant.device)
    with pytest.raises((VerificationError, InconclusiveError)):
        yield
    assert (plant.device.memory, stands(plant.device)) == before


def test_urls_of_a_layer_are_not_followed(plant: Plant) -> None:
    """Docker's foreign layers name other places; nobody goes there."""
    with HostileRegistry() as stranger:
        url = f"{stranger.url}/timestamp.json"
        timestamp_wrapped(plant, layer(urls=[url]))
        assert plant.device.install() == "1.2.0"
        assert stranger.seen == []


@pytest.mark.parametrize("form", ["inline", "layer", "1.0"])
def test_forms_that_are_right(form: str, plant: Plant) -> None:
    if form == "1.0":
        config = {"mediaType": METADATA, "digest": digest_of(b"{}"), "size": 2}

        def older(data: bytes) -> bytes:
            document = {**wrapper(data), "config": config}
            del document["artifactType"]
            return dump(document)

        timestamp_wrapped(plant, older)
    else:
        plant.serve(inline=form == "inline")
    assert plant.device.install() == "1.2.0"


# --- bytes on their way --------------------------------------------------------------

LIES: Final[dict[str, Lie]] = {
    "tampered": lies.tampered,
    "truncated": lies.truncated,
    "cut": lies.cut,
    "trailing": lies.trailing,
    "endless": lies.endless,
    "endless chunks": lies.endless_chunks,
    "dripping": lies.dripping,
    "silent": lies.silent,
    "silent after headers": lies.silent_after_headers,
    "not http": lies.no_http,
    "gzip": lies.gzipped,
    "bomb": lies.bomb,
    "unauthorized": lies.status(401),
    "forbidden": lies.status(403),
    "not allowed": lies.status(405),
    "broken": lies.status(500),
    "busy": lies.status(429, Retry_After="31536000"),
}


# Who gives no answer at all is not there: what is known is good until it expires.
NO_ANSWER: Final = {"silent", "not http"}


@pytest.mark.parametrize("name", LIES)
@pytest.mark.parametrize("where", ["manifests/timestamp", "blobs/"])
def test_lie_about_metadata(name: str, where: str, plant: Plant) -> None:
    """Of a manifest that holds the file, and of the layer when it does not."""
    plant.serve(inline=where.startswith("manifests"))
    plant.registry.lies(f"GET .*/{TRUST}/{where}", LIES[name])
    if name in NO_ANSWER:
        memory = plant.device.memory
        assert plant.device.version() == "1.1.0"
        assert plant.device.memory == memory
    else:
        with refused_somehow(plant):
            plant.device.verify()
    assert plant.registry.sent < 48 << 20
    assert len(plant.registry.seen) <= 25
    plant.registry.is_honest_again()
    assert plant.device.install() == "1.2.0"


@pytest.mark.parametrize("number", [401, 403, 405, 500, 503])
def test_refusal_is_not_the_end_of_the_root_chain(number: int, plant: Plant) -> None:
    """Only 404 means "no newer root"; a device must not be kept on an old one."""
    plant.serve()
    plant.registry.lies("GET .*/manifests/2.root", lies.status(number))
    with refused(plant.device, FetchError, "fetch", match=str(number)):
        plant.device.verify()
    assert not plant.registry.asked("timestamp")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>not found</html>",
        b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}',
        b'{"errors":[{"code":"NAME_UNKNOWN"}]}',
    ],
)
def test_absence_is_the_end_of_the_root_chain(body: bytes, plant: Plant) -> None:
    plant.serve()
    plant.registry.lies("GET .*/manifests/2.root", lambda talk: talk.say(404, body))
    assert plant.device.install() == "1.2.0"


def test_up_to_date_device_asks_twice(plant: Plant) -> None:
    plant.serve()
    assert plant.device.install() == "1.2.0"
    plant.registry.seen.clear()
    plant.device.refresh()
    asked = [(one.method, one.path) for one in plant.registry.seen]
    assert asked == [
        ("GET", f"/v2/{TRUST}/manifests/2.root"),
        ("GET", f"/v2/{TRUST}/manifests/timestamp"),
    ]


def test_verification_asks_for_no_list(plant: Plant) -> None:
    """No listing of tags or referrers is ever believed, so none is asked for."""
    plant.serve()
    assert plant.device.install() == "1.2.0"
    assert not plant.registry.asked("tags/list|referrers/")


def test_errors_name_the_registry(plant: Plant) -> None:
    plant.serve()
    plant.registry.lies("manifests/timestamp", lies.status(403))
    with pytest.raises(SupplyChainError, match=TRUST) as caught:
        plant.device.verify()
    assert caught.value.hint
