"""Files that other readers understand in another way, or that break a reader."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import MalformedError
from tests.attacks.scenes import (
    ON_THE_WAY,
    ROLES,
    refused,
    resign,
    running,
    serve_next,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from securesystemslib.signer import CryptoSigner

    Signers = Iterable[CryptoSigner]


def empty(data: bytes, signers: Signers) -> bytes:
    return b""


def utf_16(data: bytes, signers: Signers) -> bytes:
    return data.decode().encode("utf-16")


def byte_order_mark(data: bytes, signers: Signers) -> bytes:
    return b"\xef\xbb\xbf" + data


def cut(data: bytes, signers: Signers) -> bytes:
    return data[: len(data) // 2]


def a_list(data: bytes, signers: Signers) -> bytes:
    return b"[" + data + b"]"


def two_documents(data: bytes, signers: Signers) -> bytes:
    return data + data


def signed_twice(data: bytes, signers: Signers) -> bytes:
    """The honest part first, and another that most readers would take."""
    return b'{"signed": {"version": 9}, ' + data.lstrip()[1:]


def version_twice(data: bytes, signers: Signers) -> bytes:
    return re.sub(rb'"version": ?([0-9]+)', rb'"version": 9, "version": \1', data)


def without_signed(data: bytes, signers: Signers) -> bytes:
    return b'{"signatures": []}'


def deep_nesting(data: bytes, signers: Signers) -> bytes:
    # Below timestamp's limit of bytes, and the end of a reader that recurses.
    return b'{"signed": ' + b"[" * 7_000 + b"]" * 7_000 + b"}"


def deep_extra_field(data: bytes, signers: Signers) -> bytes:
    def change(signed: Any) -> None:
        field: list[Any] = []
        signed["x-deep"] = field
        for _ in range(80):
            field.append([])
            field = field[0]

    return resign(data, signers, change)


def with_field(name: str, value: Any) -> Callable[[bytes, Signers], bytes]:
    def spoil(data: bytes, signers: Signers) -> bytes:
        return resign(data, signers, lambda signed: signed.update({name: value}))

    spoil.__name__ = f"{name} {value!s:.24}"
    return spoil


def lone_surrogate(data: bytes, signers: Signers) -> bytes:
    return data.replace(b'"spec_version"', b'"x-odd": "\\ud800", "spec_version"')


def signatures_of_another_shape(data: bytes, signers: Signers) -> bytes:
    raw = json.loads(data)
    raw["signatures"] = {one["keyid"]: one["sig"] for one in raw["signatures"]}
    return json.dumps(raw).encode()


SPOILS: tuple[Callable[[bytes, Signers], bytes], ...] = (
    empty,
    utf_16,
    byte_order_mark,
    cut,
    a_list,
    two_documents,
    signed_twice,
    version_twice,
    without_signed,
    deep_nesting,
    deep_extra_field,
    lone_surrogate,
    signatures_of_another_shape,
    with_field("version", True),
    with_field("version", 1.5),
    with_field("version", 2**70),
    with_field("version", 0),
    with_field("version", "4"),
    with_field("x-number", float("nan")),
    with_field("x-number", float("inf")),
    with_field("expires", "2099-01-01"),
    with_field("expires", 4_070_908_800),
    with_field("spec_version", "2.0.0"),
    with_field("_type", "mirrors"),
)


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("role", ROLES)
def test_malformed_metadata(
    tmp_path: Path, role: str, spoil: Callable[[bytes, Signers], bytes]
) -> None:
    """Mallory, with every online key, serves a file that is no metadata, or that two
    readers would read differently; it is refused by its form and nothing moves."""
    plant = running(tmp_path)

    name = serve_next(
        plant.world, role, lambda data: spoil(data, plant.world.signers[role])
    )
    plant.serve()
    error = refused(
        plant.device,
        MalformedError,
        "malformed",
        f"^{re.escape(role)}",
        last=name,
        moved=ON_THE_WAY[role],
    )
    assert error.exit_status == 3


@pytest.mark.parametrize("role", ROLES)
def test_one_role_served_as_another(tmp_path: Path, role: str) -> None:
    """Mallory serves one role's valid file in another's place; types never mix."""
    plant = running(tmp_path)
    other = "snapshot" if role == "timestamp" else "timestamp"

    name = serve_next(
        plant.world, role, lambda _: plant.world.sign(other, plant.world.signers[role])
    )
    plant.serve()
    refused(
        plant.device,
        MalformedError,
        "malformed",
        f"^{role}: {role} is of type '{other}', expected",
        last=name,
        moved=ON_THE_WAY[role],
    )


@pytest.mark.parametrize("role", ROLES)
def test_unknown_fields_are_no_fault(tmp_path: Path, role: str) -> None:
    """Sanity: fields of a later specification are signed over and passed over."""
    plant = running(tmp_path)

    plant.world.roles[role].unrecognized_fields["x-later"] = {
        'caf\u00e9 "\\': [1, None, True, {"\u20ac": "a\tb\n"}]
    }
    serve_next(plant.world, role, lambda data: data)
    plant.serve()
    assert plant.device.version() == "1.1.0"
