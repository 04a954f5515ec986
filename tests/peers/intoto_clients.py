"""Runs in-toto-golang and in-toto-python's commands (`README.md` beside this file)."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from securesystemslib.signer import CryptoSigner

from tests.peers.clients import TIMEOUT, find_program

if TYPE_CHECKING:
    from collections.abc import Iterable

ALGORITHMS: Final = {
    "ecdsa-sha2-nistp256": CryptoSigner.generate_ecdsa,
    "ed25519": CryptoSigner.generate_ed25519,
    "rsassa-pss-sha256": CryptoSigner.generate_rsa,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody's key: as a signer, and in files that other tools read."""

    signer: CryptoSigner
    private: Path
    public: Path
    as_json: Path

    @property
    def keyid(self) -> str:
        return str(self.signer.public_key.keyid)

    @property
    def scheme(self) -> str:
        return str(self.signer.public_key.scheme)

    @property
    def for_layout(self) -> dict[str, Any]:
        """The public key as layouts have it."""
        found: dict[str, Any] = json.loads(self.as_json.read_bytes())
        return found


def person(directory: Path, name: str, scheme: str = "ecdsa-sha2-nistp256") -> Person:
    """Generate a key and write its files."""
    signer = ALGORITHMS[scheme]()
    directory.mkdir(parents=True, exist_ok=True)
    private, public, as_json = (
        directory / f"{name}{ending}" for ending in (".private", ".pub", ".json")
    )
    key = signer._private_key
    private.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    keyid = signer.public_key.keyid
    as_json.write_text(json.dumps({"keyid": keyid, **signer.public_key.to_dict()}))
    return Person(signer=signer, private=private, public=public, as_json=as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a tool said of a layout and its links, or of what it was to write."""

    ok: bool
    error: str
    keyid: str = ""


@dataclass(frozen=True, slots=True)
class GoInToto:
    """in-toto-golang."""

    program: Path

    def verify(self, layout: Path, links: Path, keys: Iterable[Person]) -> Answer:
        """Ask `InTotoVerify`; all of `keys` must have signed the layout."""
        return self.verify_files(layout, links, [one.as_json for one in keys])

    def verify_files(self, layout: Path, links: Path, keys: Iterable[Path]) -> Answer:
        """The same with keys in files, in the form that layouts have."""
        words = [f"--key={one}" for one in keys]
        return self._run("verify", f"--layout={layout}", f"--links={links}", *words)

    def link(
        self,
        step: str,
        who: Person,
        out: Path,
        *,
        base: Path,
        materials: Iterable[str],
        products: Iterable[str],
        hashes: Iterable[str] = ("sha256",),
    ) -> Answer:
        """Record files below `base` and sign a link."""
        return self._run(
            "link",
            f"--name={step}",
            f"--key={who.private}",
            f"--scheme={who.scheme}",
            f"--out={out}",
            f"--strip={base}/",
            *(f"--material={base / one}" for one in materials),
            *(f"--product={base / one}" for one in products),
            *(f"--hash={one}" for one in hashes),
        )

    def layout(self, said: dict[str, Any], who: Person, out: Path) -> Answer:
        """Write a layout as in-toto-golang's model has it, and sign it."""
        plain = out.with_suffix(".plain.json")
        plain.write_text(json.dumps(said))
        return self._run(
            "layout",
            f"--layout={plain}",
            f"--key={who.private}",
            f"--scheme={who.scheme}",
            f"--out={out}",
        )

    def keyid(self, who: Person) -> str:
        """Return the id by which in-toto-golang knows a key."""
        answer = self._run("keyid", f"--key={who.public}", f"--scheme={who.scheme}")
        assert answer.ok, answer.error
        return answer.keyid

    def _run(self, *words: str) -> Answer:
        done = subprocess.run(
            [str(self.program), *words],
            capture_output=True,
            check=False,
            timeout=TIMEOUT,
        )
        # in-toto-golang prints its warnings there, too: the answer is the last line.
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert (done.returncode == 0) == said["ok"], done.stderr
        return Answer(
            ok=said["ok"], error=said.get("error", ""), keyid=said.get("keyid", "")
        )


def find_go_in_toto() -> GoInToto:
    """Return in-toto-golang.

    Raises:
        PeerMissingError: it is not built.
    """
    return GoInToto(find_program("in-toto-peer"))


class PythonInToto:
    """in-toto-python's own commands, as people run them."""

    def verify(self, layout: Path, links: Path, keys: Iterable[Person]) -> Answer:
        """Run `in-toto-verify`; all of `keys` must have signed the layout."""
        return self.verify_files(layout, links, [one.public for one in keys])

    def verify_files(self, layout: Path, links: Path, keys: Iterable[Path]) -> Answer:
        """The same with keys in PEM files."""
        return self._run(
            "in-toto-verify",
            *("--layout", str(layout)),
            *("--link-dir", str(links)),
            *("--verification-keys", *(str(one) for one in keys)),
        )

    def link(
        self,
        step: str,
        who: Person,
        out: Path,
        *,
        base: Path,
        materials: Iterable[str],
        products: Iterable[str],
        command: Iterable[str] = (),
    ) -> Answer:
        """Run `in-toto-run` in `base`; the link lies in the directory `out`."""
        words = list(command)
        return self._run(
            "in-toto-run",
            *("--step-name", step),
            *("--signing-key", str(who.private)),
            *("--materials", *materials),
            *("--products", *products),
            *("--metadata-directory", str(out)),
            "--use-dsse",
            *(["--", *words] if words else ["--no-command"]),
            cwd=base,
        )

    def _run(self, command: str, *words: str, cwd: Path | None = None) -> Answer:
        done = subprocess.run(
            [str(Path(sys.executable).parent / command), *words],
            capture_output=True,
            check=False,
            timeout=TIMEOUT,
            cwd=cwd,
        )
        # 1 is its no; 2 would be a wrong argument of ours.
        assert done.returncode in (0, 1), done.stderr
        return Answer(ok=done.returncode == 0, error=done.stderr.decode())
