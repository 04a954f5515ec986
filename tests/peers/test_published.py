"""Other TUF clients read what we publish: every record by its target path.

python-tuf's `Updater`, go-tuf and tuf-js refresh the published directory, served as it
lies on disk, and fetch and verify a record by name.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from tuf.ngclient import Updater

from margo_supplychain.authoring.testing import TinyRepository, tiny_repository
from margo_supplychain.formats.record import ReleaseRecord
from tests.peers.clients import PeerClient, serve

if TYPE_CHECKING:
    from pathlib import Path

PATHS = (
    "acme/releases/pump-monitor/1.0.0",
    "acme/releases/pump-monitor/1.1.0",
    "acme/releases/pump-monitor/2.0.0-rc.1",
    "acme/policies/pump-monitor/1.json",
)


@pytest.fixture
def tiny(tmp_path: Path) -> TinyRepository:
    """Return a repository with three releases and a withdrawal."""
    tiny = tiny_repository(tmp_path / "author")
    tiny.publish("1.1.0", b"pump monitor 1.1.0")
    tiny.publish("2.0.0-rc.1", b"pump monitor 2.0.0-rc.1")
    tiny.withdraw("1.0.0", reason="leaks oil")
    return tiny


def expected(tiny: TinyRepository) -> dict[str, str]:
    """Return target path → sha256, from the files themselves."""
    found = {}
    for path in PATHS:
        directory, _, name = path.rpartition("/")
        for file in (tiny.directory / "targets" / directory).iterdir():
            sha256, _, rest = file.name.partition(".")
            if rest == name:
                assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256
                found[path] = sha256
    assert set(found) == set(PATHS)
    return found


def test_python_tuf_reads_it(tiny: TinyRepository, tmp_path: Path) -> None:
    with serve(tiny.directory) as url:
        (tmp_path / "cache").mkdir()
        (tmp_path / "targets").mkdir()
        updater = Updater(
            str(tmp_path / "cache"),
            f"{url}/metadata/",
            str(tmp_path / "targets"),
            f"{url}/targets/",
            bootstrap=tiny.root,
        )
        updater.refresh()
        for path, sha256 in expected(tiny).items():
            info = updater.get_targetinfo(path)
            assert info is not None
            data = (tmp_path / "targets" / "file").with_name(sha256)
            updater.download_target(info, str(data))
            assert hashlib.sha256(data.read_bytes()).hexdigest() == sha256
            if "/releases/" in path:
                assert ReleaseRecord.parse(data.read_bytes()).path == path
        assert updater.get_targetinfo("acme/releases/pump-monitor/9.9.9") is None


@pytest.mark.parametrize("peer", ["go_tuf", "tuf_js"])
def test_peers_read_it(
    peer: str, tiny: TinyRepository, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    client: PeerClient = request.getfixturevalue(peer)
    root = tmp_path / "root.json"
    root.write_bytes(tiny.root)
    with serve(tiny.directory) as url:
        answer = client.run(url, PATHS, root=root, directory=tmp_path / "peer")
        assert answer.ok, answer.error
        found = {
            one.path: hashlib.sha256(one.file.read_bytes()).hexdigest()
            for one in answer.targets
        }
        assert found == expected(tiny)

        unknown = "acme/releases/pump-monitor/9.9.9"
        none = client.run(url, [unknown], root=root, directory=tmp_path / "other")
        assert not none.ok
