"""Examples in docstrings are run, module by module, in a directory of their own.

What an example takes for granted (a package, keys, a repository) is real and made by
`stage`; key ids and digests are compared as such. A few examples can't be run and are
pictures: each stands in `PICTURES` with the reason.
"""

from __future__ import annotations

import doctest
import re
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import TYPE_CHECKING, Any, Final

import pytest

import margo_supplychain
from margo_supplychain import Network, Pin, Policy, ReleaseName, TrustStore, Verifier
from margo_supplychain.authoring import Release, Repository, RootPlan
from margo_supplychain.authoring.testing import tiny_repository
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.formats.record import ReleaseRecord
from margo_supplychain.signing.files import generate, open_signer
from margo_supplychain.signing.keys import ECDSA_P256
from margo_supplychain.transport.directory import DirectorySink
from margo_supplychain.verify.clock import SystemClock
from margo_supplychain.verify.limits import Budget
from tests.fixtures import copy_package

if TYPE_CHECKING:
    from types import ModuleType

    from margo_supplychain.formats.digests import Descriptor

PICTURES: Final = {
    "margo_supplychain.authoring.accepting": "an inbox that two vendors have filled",
    "margo_supplychain.authoring.duties": "a repository that is days from a duty",
    "margo_supplychain.authoring.inbox": "a vendor's submission",
    "margo_supplychain.authoring.publish": "a repository with six releases before",
    "margo_supplychain.authoring.submitting": "an operator's repository on the web",
    "margo_supplychain.cli.arguments": "decorators without their function",
    "margo_supplychain.cli.author": "a command within its group",
    "margo_supplychain.cli.handing": "a command within its group",
    "margo_supplychain.cli.options": "a command within its group",
    "margo_supplychain.cli.output": "a value that nobody prints",
    "margo_supplychain.signing.pkcs11.tokens": "a token with a key in it",
    "margo_supplychain.transport.oci_registry.repository": "a registry that answers",
}
COPIES: Final = frozenset(
    f"authoring.{one}"
    for one in (
        *("closures", "content_look", "copying", "housekeeping", "repairing"),
        *("selection", "shelves", "survey"),
    )
)
FLAGS: Final = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
WORDS: Final = "correct horse battery staple"
NAME: Final = ReleaseName.parse("acme/pump-monitor")


class _Checker(doctest.OutputChecker):
    """Compares output with every key id and digest called the same."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        def called(text: str) -> str:
            return re.sub(r"\b[0-9a-f]{12}\b", "<12 hex>", text)

        return super().check_output(called(want), called(got), optionflags)


def modules() -> list[str]:
    names = [
        one.name
        for one in walk_packages(margo_supplychain.__path__, "margo_supplychain.")
        if not one.name.endswith("__main__")
    ]
    return ["margo_supplychain", *names]


def examples_of(module: ModuleType) -> list[doctest.DocTest]:
    """Return the examples of a module and of what it defines."""
    return [one for one in doctest.DocTestFinder().find(module) if one.examples]


# --- what examples stand on ----------------------------------------------------------


def _keys() -> dict[str, Any]:
    for name in ("offline.key", "ci.key"):
        generate(Path(name), scheme=ECDSA_P256, passphrase=WORDS)
    opened = [
        open_signer(Path(name), passphrase=WORDS) for name in ("offline.key", "ci.key")
    ]
    return {"offline": opened[0], "ci": opened[1], "keys": opened}


def _plan(keys: dict[str, Any]) -> RootPlan:
    return RootPlan.small(
        publisher="acme",
        offline=keys["offline"].public_key,
        online=keys["ci"].public_key,
    )


def _release() -> Release:
    copy_package("pump-monitor", Path.cwd())
    return Release.from_package(
        Path("pump-monitor"), publisher="acme", output=Path("built")
    )


def _repository() -> dict[str, Any]:
    keys = _keys()
    repository = Repository.create(Path("trust"), plan=_plan(keys), keys=keys["keys"])
    policy = PublisherPolicy(epoch=1, provenance="none")
    with repository.edit(keys["keys"]) as edit:
        edit.add_application(NAME, [keys["ci"].public_key], policy=policy)
    return {**keys, "repository": repository, "release": _release()}


def _artifact() -> dict[str, Any]:
    tiny = tiny_repository(Path("tiny"))

    def read(what: Descriptor) -> bytes:
        with tiny.source().blob(what) as stream:
            return stream.read()

    return {"package": tiny.artifact, "read": read}


def _copies() -> dict[str, Any]:
    tiny = tiny_repository(Path("tiny"))
    record = Path("tiny/trust/targets/acme/releases/pump-monitor")
    (data,) = (one.read_bytes() for one in record.iterdir())
    return {
        "source": tiny.source(),
        "store": TrustStore.unsafe_without_memory(root=tiny.root),
        "shelf": DirectorySink(Path("mirror")),
        "record": ReleaseRecord.parse(data),
        "name": tiny.name,
        "clock": SystemClock(),
        "budget": Budget(None),
    }


def _resources() -> dict[str, Any]:
    place = Path("pump-monitor") / "resources"
    place.mkdir(parents=True)
    for name in ("pump.png", "description.md"):
        (place / name).write_bytes(b"content")
    return {}


def stage(name: str) -> dict[str, Any]:
    """Return the names that a module's examples use; files go where the test is."""
    part = name.removeprefix("margo_supplychain.")
    found: dict[str, Any] = {"Path": Path, "timedelta": timedelta}
    if part in COPIES:
        found |= _copies()
    elif part == "authoring.placement":
        found["record"] = _release().record(datetime.now(UTC))
    elif part == "authoring.edit":
        found |= _repository()
    elif part == "authoring.plan":
        keys = _keys()
        found |= {"offline": keys["offline"].public_key, "ci": keys["ci"].public_key}
    elif part == "authoring.release":
        _release()
    elif part == "authoring.repository":
        keys = _keys()
        policy = PublisherPolicy(epoch=1, provenance="none")
        found |= {**keys, "plan": _plan(keys), "name": NAME, "policy": policy}
    elif part == "authoring.source_files":
        found |= _resources()
    elif part == "authoring.testing":
        policy_ = Policy.from_toml(b'[policy."acme/*"]\nrequire = ["signed"]\n')
        found |= {"tmp_path": Path.cwd(), "policy": policy_}
        found |= {"Pin": Pin, "TrustStore": TrustStore, "Verifier": Verifier}
    elif part == "formats.closure":
        found |= _artifact()
    elif part == "formats.record":
        found["data"] = _release().record(datetime.now(UTC)).to_bytes()
    elif part == "signing.files":
        found["words"] = WORDS
    elif part == "signing.keyring":
        found["public_key"] = _keys()["offline"].public_key
        found["ask"] = lambda *, token, tries_left: WORDS
    elif part == "signing.keys":
        _keys()
    elif part == "signing.public_files":
        found["key"] = _keys()["offline"].public_key
    elif part == "transport.oci_registry.client":
        found["Network"] = Network
    elif part == "verify.policy":
        found["ReleaseName"] = ReleaseName
    return found


@pytest.mark.parametrize("name", [one for one in modules() if one not in PICTURES])
def test_examples_do_what_they_show(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = examples_of(import_module(name))
    if not tests:
        return
    monkeypatch.chdir(tmp_path)
    names = stage(name)
    runner = doctest.DocTestRunner(checker=_Checker(), optionflags=FLAGS)
    said: list[str] = []
    for one in tests:
        one.globs.update(names)
        runner.run(one, out=said.append)
    assert runner.failures == 0, "".join(said)


def test_pictures_are_modules_with_examples() -> None:
    for name, reason in PICTURES.items():
        assert name in modules()
        assert examples_of(import_module(name)), name
        assert len(reason) > 5
