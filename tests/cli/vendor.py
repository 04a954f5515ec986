"""A vendor at the command line: keys in files, a repository, packages, a clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.signing import keys
from margo_supplychain.verify.clock import SystemClock
from tests.cli.running import Ran, run, validate
from tests.fixtures import copy_package

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

NAME: Final = "acme/pump-monitor"


class Vendor:
    """Somebody who works in `place` and types the passphrase of `secret`."""

    def __init__(self, place: Path, secret: str) -> None:
        self.place = place
        self.secret = secret

    def sign(self, *arguments: str) -> Ran:
        """Run a command that opens keys."""
        return run(*arguments, "--passphrase-file", self.secret)

    def sign_json(self, schema: str, *arguments: str) -> dict[str, Any]:
        """Run a command that opens keys, and validate its document."""
        document = run(
            "--format", "json", *arguments, "--passphrase-file", self.secret
        ).json
        validate(document, schema)
        return document

    def must(self, *arguments: str) -> Ran:
        """Run a command that opens keys and has to work."""
        ran = self.sign(*arguments)
        assert ran.status == 0, ran.err
        return ran

    def key(self, name: str, scheme: str = "ed25519") -> str:
        """Make a key; return the first digits of its id."""
        self.must("key", "generate", name, "--scheme", scheme)
        return self.key_id(name)[:12]

    def key_id(self, name: str) -> str:
        """Return the id of a key that lies in a file."""
        path = (self.place / name).with_suffix(".pub")
        return keys.parse_public_key(path.read_bytes(), what=name).keyid

    def init(self, profile: str = "small") -> Ran:
        """Make keys and a repository of the profile small or simple."""
        self.key("offline.key", "ecdsa-sha2-nistp256")
        self.key("ci.key")
        return self.must(
            *("repo", "init", "trust", "--profile", profile, "--publisher", "acme"),
            *("--offline-key", "offline.key", "--online-key", "ci.key"),
        )

    def application(self) -> None:
        """Make a repository of the profile small with the application NAME."""
        self.init()
        self.must("app", "add", NAME, "--release-key", "ci.pub")

    def package(self, name: str = "pump-monitor") -> Path:
        """Return a package directory of the vendor's own."""
        return copy_package(name, self.place)

    def build(self, version: str = "1.2.0", output: str = "dist") -> Path:
        """Build the package pump-monitor in a version."""
        package = self.place / "pump-monitor"
        if not package.exists():
            self.package()
        file = package / "margo.yaml"
        text = file.read_text()
        old = text.partition('\n  version: "')[2].partition('"')[0]
        file.write_text(text.replace(f'version: "{old}"', f'version: "{version}"'))
        ran = run("release", "build", "pump-monitor", "--output", output)
        assert ran.status == 0, ran.err
        return self.place / output

    def publish(self, version: str = "1.2.0") -> None:
        """Build and publish a version."""
        self.build(version, f"dist-{version}")
        self.must("release", "publish", f"dist-{version}")


def date(days: float) -> str:
    """Return the local date in so many days."""
    when = datetime.now(UTC) + timedelta(days=days)
    return when.astimezone().strftime("%Y-%m-%d")


def move_clock(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """Let the machine's clock be wrong, or later."""

    def now(self: SystemClock) -> datetime:
        return datetime.now(UTC) + timedelta(days=days)

    monkeypatch.setattr(SystemClock, "now", now)


def files_below(directory: Path) -> dict[str, bytes]:
    """Return every file's bytes, but for locks."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
