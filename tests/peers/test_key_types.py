"""Every kind of key signs what everybody accepts: our device, python-tuf, go-tuf.

For each kind there are two keys, in files or in a SoftHSM token, opened by the
product's own keyring. They sign a repository with all of its roles; nobody who
verifies it can tell where a key lies.
"""

from __future__ import annotations

import contextlib
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from tuf.api.metadata import Metadata, Root, Targets
from tuf.ngclient import Updater

from margo_supplychain.authoring.plan import RoleKeys, RootPlan
from margo_supplychain.authoring.repository import Repository
from margo_supplychain.authoring.testing import artifact_release
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.signing.keyring import generate_key, open_keyring
from margo_supplychain.signing.keys import describe, key_of
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.transport.opening import FixedContent
from margo_supplychain.verify.policy import Policy
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.peers.clients import serve
from tests.softhsm import soft_token
from tests.world.device import SIGNED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securesystemslib.signer import Signer

    from margo_supplychain.signing.keyring import Keyring
    from tests.peers.clients import PeerClient

NAME: Final = ReleaseName.parse("acme/pump-monitor")
RECORD: Final = "acme/releases/pump-monitor/1.0.0"
SECRET: Final = "correct horse battery staple"
FILES: Final = {
    "ecdsa-sha2-nistp256": "ecdsa P-256",
    "ecdsa-sha2-nistp384": "ecdsa P-384",
    "ed25519": "ed25519",
    "rsassa-pss-sha256": "rsa 3072",
}
TOKENS: Final = {
    "ecdsa-sha2-nistp256": "ecdsa P-256",
    "ecdsa-sha2-nistp384": "ecdsa P-384",
    "ed25519": "ed25519",
    "rsassa-pss-sha256-3072": "rsa 3072",
    "rsassa-pss-sha256-4096": "rsa 4096",
}
KINDS: Final = [
    *(("file", scheme) for scheme in FILES),
    *(("token", scheme) for scheme in TOKENS),
    ("proxied token", "ecdsa-sha2-nistp256"),
    ("mixed", "three kinds"),
]


class Signed(NamedTuple):
    """A repository that keys of one kind signed."""

    directory: Path
    root: bytes


def say(*, token: str, tries_left: int | None) -> str:
    """Be the PIN handler: tokens have PINs, files have passphrases."""
    del tries_left
    return "123456" if token.startswith("pkcs11:") else SECRET


@contextlib.contextmanager
def two_keys(place: Path, where: str, scheme: str) -> Iterator[tuple[Signer, Signer]]:
    """Make an offline and an online key of a kind, and open them."""
    with contextlib.ExitStack() as cleanup:
        uris = []
        module = None
        if where == "file":
            for name in ("offline", "online"):
                path = str(place / f"{name}.key")
                generate_key(path, scheme=scheme, pin=say)
                uris.append(path)
        else:
            proxy = where == "proxied token"
            token = cleanup.enter_context(soft_token(place, "both", proxy=proxy))
            module = token.module
            for number, name in enumerate(("offline", "online")):
                token.make_key(name, scheme=scheme, id=bytes([number]))
                uris.append(token.uri(name))
        keyring: Keyring = cleanup.enter_context(
            open_keyring(pin=say, pkcs11_module=module)
        )
        offline, online = (keyring.open(uri) for uri in uris)
        yield offline, online


def write_repository(place: Path, offline: Signer, online: Signer) -> Signed:
    """Make a repository as an author does, with one release."""
    plan = RootPlan.small(
        publisher="acme", offline=offline.public_key, online=online.public_key
    )
    keys = [offline, online]
    repository = Repository.create(place / "trust", plan=plan, keys=keys)
    return add_release(repository, place, keys, online)


def add_release(
    repository: Repository, place: Path, keys: list[Signer], online: Signer
) -> Signed:
    release = artifact_release(
        place / "built", name=NAME, version="1.0.0", content=b"pump monitor 1.0.0"
    )
    policy = PublisherPolicy(epoch=1, provenance="none")
    with repository.edit(keys) as edit:
        edit.add_application(NAME, [online.public_key], policy=policy)
        edit.add_release(release)
    return Signed(place / "trust", repository.root)


def write_mixed(place: Path) -> Signed:
    """Make a repository whose root needs three keys: of a file and of a token."""
    with contextlib.ExitStack() as cleanup:
        pair = [
            cleanup.enter_context(two_keys(directory, where, scheme))
            for directory, where, scheme in (
                (place / "a", "file", "ed25519"),
                (place / "b", "token", "rsassa-pss-sha256-3072"),
            )
        ]
        (offline, online), (first, second) = pair
        third = cleanup.enter_context(
            two_keys(place / "c", "file", "rsassa-pss-sha256")
        )
        root = RoleKeys(
            keys=tuple(one.public_key for one in (first, second, third[0])), threshold=3
        )
        plan = RootPlan.standard(
            root=root,
            targets=RoleKeys(keys=(offline.public_key,)),
            snapshot=RoleKeys(keys=(online.public_key,)),
            timestamp=RoleKeys(keys=(third[1].public_key,)),
        )
        keys = [offline, online, first, second, *third]
        repository = Repository.create(place / "trust", plan=plan, keys=keys)
        with repository.edit(keys) as edit:
            edit.add_publisher(
                "acme", [first.public_key, offline.public_key], threshold=2
            )
        return add_release(repository, place, keys, online)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that makes each kind's repository once."""

    @cache
    def make(where: str, scheme: str) -> Signed:
        place = tmp_path_factory.mktemp("signed")
        if where == "mixed":
            for name in "abc":
                (place / name).mkdir()
            return write_mixed(place)
        with two_keys(place, where, scheme) as (offline, online):
            kinds = FILES if where == "file" else TOKENS
            for signer in (offline, online):
                assert describe(key_of(_public(signer), what="a key")) == kinds[scheme]
            return write_repository(place, offline, online)

    return make


def _public(signer: Signer) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    text = signer.public_key.keyval["public"]
    if signer.public_key.scheme == "ed25519":
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    return load_pem_public_key(text.encode())


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]} {kind[1]}")
def signed(request: pytest.FixtureRequest, made: Any) -> Signed:
    """Return a repository for each kind of key."""
    found = made(*request.param)
    assert isinstance(found, Signed)
    return found


def test_our_device_accepts_it(signed: Signed, tmp_path: Path) -> None:
    source = DirectorySource(signed.directory)
    verifier = Verifier(
        store=TrustStore.create(
            tmp_path / "state", root=signed.root, publishers=frozenset({"acme"})
        ),
        source=source,
        content=FixedContent([source]),
        policy=Policy.from_toml(SIGNED),
    )
    release = verifier.verify(NAME, Pin.parse_argument("^1.0"))
    assert str(release.version) == "1.0.0"
    assert verifier.fetch(release, tmp_path / "staging").digests


def test_python_tuf_accepts_it(signed: Signed, tmp_path: Path) -> None:
    # Each role as python-tuf counts signatures, then all of it as its client does.
    root = Metadata[Root].from_bytes(signed.root)
    root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    for name in ("targets", "snapshot", "timestamp"):
        role = newest(signed, name)
        root.signed.verify_delegate(name, role.signed_bytes, role.signatures)
    for parent, child in (("targets", "acme"), ("acme", NAME.role)):
        delegator: Targets = newest(signed, parent).signed
        role = newest(signed, child)
        delegator.verify_delegate(child, role.signed_bytes, role.signatures)

    for name in ("cache", "targets"):
        (tmp_path / name).mkdir()
    with serve(signed.directory) as url:
        updater = Updater(
            str(tmp_path / "cache"),
            f"{url}/metadata/",
            str(tmp_path / "targets"),
            f"{url}/targets/",
            bootstrap=signed.root,
        )
        info = updater.get_targetinfo(RECORD)
        assert info is not None
        updater.download_target(info, str(tmp_path / "targets" / "record"))


def newest(signed: Signed, role: str) -> Metadata[Any]:
    """Return the newest file of a role."""
    place = signed.directory / "metadata"
    if role == "timestamp":
        return Metadata.from_bytes((place / "timestamp.json").read_bytes())
    found = place.glob(f"*.{role}.json")
    versions = {int(one.name.partition(".")[0]): one for one in found}
    return Metadata.from_bytes(versions[max(versions)].read_bytes())


def test_go_tuf_accepts_it(signed: Signed, go_tuf: PeerClient, tmp_path: Path) -> None:
    assert ask(go_tuf, signed, tmp_path) == ""


def test_tuf_js_accepts_it(
    signed: Signed, tuf_js: PeerClient, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    said = ask(tuf_js, signed, tmp_path)
    if "nistp384" in request.node.callspec.id:
        # It hashes with SHA-256 whatever the scheme says; docs/how-to/hsm.md tells.
        assert said == "root was signed by 0/1 keys"
    else:
        assert said == ""


def ask(client: PeerClient, signed: Signed, place: Path) -> str:
    """Let a peer fetch the record; return what it complains of."""
    root = place / "root.json"
    root.write_bytes(signed.root)
    with serve(signed.directory) as url:
        answer = client.run(url, [RECORD], root=root, directory=place / "peer")
    assert not answer.ok or [one.path for one in answer.targets] == [RECORD]
    return answer.error
