"""A pipeline of our own commands, from the template to the links, for in-toto's tools.

`layout build`, `layout sign` and `attest run` are run as vendors do; then in-toto's
`in-toto-verify` and in-toto-golang are asked whether a release may be made of it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from margo_supplychain.signing.keys import parse_public_key
from tests.cli.running import PASSPHRASE, run
from tests.house.tree import ROOT
from tests.peers.intoto_clients import PythonInToto

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.intoto_clients import GoInToto

STEPS: Final = ("build", "test", "package")
SUFFIX: Final = ".link.dsse.json"


def ours(*arguments: str) -> None:
    """Run one of our commands; it must end well."""
    done = run(*arguments)
    assert done.status == 0, done.err + done.out


def git(*arguments: str) -> None:
    name = ("-c", "user.name=acme", "-c", "user.email=ci@acme.example")
    subprocess.run(["git", *name, *arguments], check=True, capture_output=True)


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the pipeline; return the directory with keys, layout and links."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "passphrase"
    secret.write_text(PASSPHRASE)
    secret.chmod(0o600)
    opened = ("--passphrase-file", str(secret))
    for one in ("offline", *STEPS):
        ours("key", "generate", f"{one}.key", *opened)
    by = [word for one in STEPS for word in ("--by", f"{one}={one}.pub")]
    ours("layout", "build", "--template", "build-test-package", *by)
    ours("layout", "build", "layout.toml")
    ours("layout", "sign", "layout.json", "--key", "offline.key", "--yes", *opened)

    work = tmp_path / "work"
    shutil.copytree(ROOT / "examples" / "pump-monitor", work / "app")
    monkeypatch.chdir(work)
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "Pump Monitor")

    def attest(step: str, *arguments: str) -> None:
        key = ("--key", str(tmp_path / f"{step}.key"), *opened)
        output = ("--output", str(tmp_path / "links"))
        ours("attest", "run", "--step", step, "--git", ".", *key, *output, *arguments)

    attest("build", "--products", "package", "--", "cp", "-R", "app", "package")
    # What git does not track is no change of what it does.
    (work / ".git" / "info" / "exclude").write_text("package\ndist\n")
    attest("test", "--materials", "package", "--", "test", "-f", "package/margo.yaml")
    ours("release", "build", "package", "--output", "dist", "--publisher", "acme")
    attest("package", "--materials", "package", "--release", "dist", "--", "true")
    return tmp_path


def for_tools(pipeline: Path) -> Path:
    """Give the links the names that in-toto's tools look for."""
    links = pipeline / "links"
    for path in links.glob(f"*{SUFFIX}"):
        path.rename(path.with_name(path.name.removesuffix(SUFFIX) + ".link"))
    assert len(list(links.glob("*.link"))) == len(STEPS)
    return links


def test_in_toto_verify_takes_our_pipeline(pipeline: Path) -> None:
    links = for_tools(pipeline)
    tool, keys = PythonInToto(), [pipeline / "offline.pub"]
    said = tool.verify_files(pipeline / "layout.json", links, keys)
    assert said.ok, said.error

    (dropped,) = links.glob("test.*")
    dropped.unlink()
    assert not tool.verify_files(pipeline / "layout.json", links, keys).ok


def test_in_toto_golang_takes_our_pipeline(
    go_in_toto: GoInToto, pipeline: Path
) -> None:
    links = for_tools(pipeline)
    layout, key = pipeline / "layout.json", pipeline / "offline.json"
    public = parse_public_key((pipeline / "offline.pub").read_bytes(), what="key")
    key.write_text(json.dumps({"keyid": public.keyid, **public.to_dict()}))
    said = go_in_toto.verify_files(layout, links, [key])
    assert said.ok, said.error

    (dropped,) = links.glob("test.*")
    dropped.unlink()
    assert not go_in_toto.verify_files(layout, links, [key]).ok
