"""SoftHSM, the simulated HSM of tests: one directory of tokens for each test.

    with soft_token(tmp_path, "root-a") as token:
        token.uri("root")        # pkcs11:token=root-a;object=root
        token.pin_file           # a file with its PIN, 0600
        token.environment        # what a command in a process of its own needs

Several tokens of one test lie in one directory: they differ by their labels. While a
token is open, this process has its environment, too, and every PKCS#11 module that
was loaded is started again: SoftHSM reads its configuration, and which tokens there
are, only when it starts.

Keys are made in a process of their own, so this one stays logged out:

    python -m tests.softhsm MODULE TOKEN PIN-FILE OBJECT ID SCHEME [extractable]
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MODULES: Final = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/pkcs11/libsofthsm2.so"),
    Path("/usr/local/lib/softhsm/libsofthsm2.so"),
)
PROXIES: Final = (
    Path("/usr/lib/x86_64-linux-gnu/p11-kit-proxy.so"),
    Path("/usr/lib/aarch64-linux-gnu/p11-kit-proxy.so"),
    Path("/usr/lib64/p11-kit-proxy.so"),
)
SCHEMES: Final = {  # what this project signs with, by the names of its command line
    "ecdsa-sha2-nistp256": ("EC", "secp256r1"),
    "ecdsa-sha2-nistp384": ("EC", "secp384r1"),
    "ed25519": ("EC_EDWARDS", "edwards25519"),
    "rsassa-pss-sha256-3072": ("RSA", "3072"),
    "rsassa-pss-sha256-4096": ("RSA", "4096"),
    # Keys that nobody should be able to sign with here.
    "ecdsa-sha2-nistp521": ("EC", "secp521r1"),
    "rsassa-pss-sha256-2048": ("RSA", "2048"),
}
_SO_PIN: Final = "87654321"
_NAMES: Final = ("SOFTHSM2_CONF", "MARGO_SUPPLYCHAIN_PKCS11_MODULE")
_PATIENCE: Final = 60.0  # seconds; RSA 4096 takes a few


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftToken:
    """An initialised token.

    Attributes:
        label: its name; several tokens may have the same.
        serial: which one of those with the same label.
        module: the PKCS#11 module that shows it, an absolute path.
        environment: variables that every process needs to see it. With the module as
            setting of the command line; take that out to do without.
        directory: where SoftHSM keeps the tokens of this test.
    """

    label: str
    serial: str
    pin: str
    pin_file: Path
    module: Path
    environment: Mapping[str, str]
    directory: Path

    def uri(
        self,
        object: str | None = None,  # noqa: A002 - the attribute's name in RFC 7512
        *,
        id: bytes | None = None,  # noqa: A002 - likewise
        serial: bool = False,
        query: bool = False,
    ) -> str:
        """Return an RFC 7512 URI.

        Args:
            object: label of a key.
            id: CKA_ID of a key.
            serial: name the token by its serial number, too.
            query: with module-path and pin-source, as a stranger to this
                environment needs it.
        """
        path = [f"token={_escaped(self.label)}"]
        if serial:
            path.append(f"serial={_escaped(self.serial)}")
        if object is not None:
            path.append(f"object={_escaped(object)}")
        if id is not None:
            path.append("id=" + "".join(f"%{byte:02X}" for byte in id))
        module, file = (quote(str(one)) for one in (self.module, self.pin_file))
        asked = f"?module-path={module}&pin-source=file:{file}"
        return "pkcs11:" + ";".join(path) + (asked if query else "")

    def make_key(
        self,
        object: str,  # noqa: A002 - the attribute's name in RFC 7512
        *,
        scheme: str = "ecdsa-sha2-nistp256",
        id: bytes = b"\x01",  # noqa: A002 - likewise
        extractable: bool = False,
    ) -> None:
        """Make a key pair inside, by other means than this project's, even twice."""
        _run(
            [sys.executable, "-m", "tests.softhsm", str(self.module), self.serial],
            self.environment,
            str(self.pin_file),
            object,
            id.hex(),
            scheme,
            *["extractable"] * extractable,
        )
        restart_modules()

    def import_key(
        self,
        object: str,  # noqa: A002 - the attribute's name in RFC 7512
        pkcs8: bytes,
        *,
        id: bytes = b"\x01",  # noqa: A002 - likewise
    ) -> None:
        """Bring in a private key that was made elsewhere: PEM, PKCS#8, open."""
        file = self.directory.parent / f"insecure-{object}.pem"
        file.write_bytes(pkcs8)
        _run(
            ["softhsm2-util", "--import", str(file), "--serial", self.serial],
            self.environment,
            "--label",
            object,
            "--id",
            id.hex(),
            "--pin",
            self.pin,
        )
        file.unlink()
        restart_modules()

    def remove(self) -> None:
        """Pull it out: no process that starts from now on finds it."""
        _run(
            ["softhsm2-util", "--delete-token", "--serial", self.serial],
            self.environment,
        )
        restart_modules()


@contextlib.contextmanager
def soft_token(
    place: Path, label: str, *, pin: str = "123456", proxy: bool = False
) -> Iterator[SoftToken]:
    """Make a token; skips where SoftHSM is not installed.

    Args:
        place: directory of the test. All of its tokens lie in it.
        label: at most 32 characters.
        pin: what logs in, 4 to 255 characters.
        proxy: show it by p11-kit's proxy, as a second way to the same token.
    """
    module = soft_module(proxy=proxy)
    environment = {
        "SOFTHSM2_CONF": str(_configuration(place)),
        "MARGO_SUPPLYCHAIN_PKCS11_MODULE": str(module),
    }
    directory = place / "softhsm" / "tokens"
    before = {entry.name for entry in directory.iterdir()}
    _run(
        ["softhsm2-util", "--init-token", "--free", "--label", label],
        environment,
        "--pin",
        pin,
        "--so-pin",
        _SO_PIN,
    )
    (made,) = {entry.name for entry in directory.iterdir()} - before
    serial = made.replace("-", "")[-16:]
    pin_file = place / "softhsm" / f"{label}-{serial}.pin"
    pin_file.touch(0o600)
    pin_file.write_text(f"{pin}\n", "utf-8")
    outside = {name: os.environ.get(name) for name in _NAMES}
    os.environ.update(environment)
    restart_modules()
    try:
        yield SoftToken(
            label=label,
            serial=serial,
            pin=pin,
            pin_file=pin_file,
            module=module,
            environment=environment,
            directory=directory,
        )
    finally:
        for name, value in outside.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        restart_modules()


def soft_module(*, proxy: bool = False) -> Path:
    """Return SoftHSM's module, or p11-kit's proxy to it; skips without them."""
    if shutil.which("softhsm2-util") is None:
        pytest.skip("no SoftHSM here: apt install softhsm2")
    module = next((path for path in MODULES if path.is_file()), None)
    if module is None:
        pytest.skip("no libsofthsm2.so here: apt install softhsm2")
    if not proxy:
        return module
    found = next((path for path in PROXIES if path.is_file()), None)
    if found is None:
        pytest.skip("no p11-kit-proxy.so here: apt install p11-kit-modules")
    return found


def restart_modules() -> None:
    """Let every loaded PKCS#11 module forget sessions, logins and what tokens it saw.

    The next `pkcs11.lib(path)` starts it again, with the environment of then.
    """
    if "pkcs11" not in sys.modules:
        return
    import pkcs11

    for library in pkcs11._loaded.values():
        if library.initialized:
            library.finalize()


def _configuration(place: Path) -> Path:
    """Return the test's softhsm2.conf, made when it is asked for first."""
    home = place / "softhsm"
    file = home / "softhsm2.conf"
    if not file.exists():
        (home / "tokens").mkdir(parents=True, mode=0o700)
        file.write_text(
            f"directories.tokendir = {home / 'tokens'}\n"
            "objectstore.backend = file\n"
            "log.level = ERROR\n",
            "utf-8",
        )
    return file


def _escaped(value: str) -> str:
    return quote(value, safe="-._~:[]@!$'()*+,=")  # RFC 7512 §2.3


def _run(command: list[str], environment: Mapping[str, str], *words: str) -> None:
    done = subprocess.run(
        [*command, *words],
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        # An empty entry of `sys.path` is the directory that a test may have left.
        cwd=Path(__file__).parents[1],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}"


def _make_key(library: Any, words: list[str]) -> None:
    """Make a key pair; `library` is untyped where python-pkcs11 is not installed."""
    from pkcs11 import Attribute, KeyType, MechanismFlag
    from pkcs11.util.ec import encode_named_curve_parameters

    serial, pin_file, label, identifier, scheme, *extractable = words
    kind, size = SCHEMES[scheme]
    (token,) = [one for one in library.get_tokens() if one.serial == serial.encode()]
    pin = Path(pin_file).read_text("utf-8").removesuffix("\n")
    with token.open(rw=True, user_pin=pin) as session:
        named: dict[str, Any] = {
            "id": bytes.fromhex(identifier),
            "label": label,
            "store": True,
            "capabilities": MechanismFlag.SIGN | MechanismFlag.VERIFY,
        }
        if extractable:
            named["private_template"] = {
                Attribute.EXTRACTABLE: True,
                Attribute.SENSITIVE: False,
            }
        if kind == "RSA":
            session.generate_keypair(KeyType.RSA, int(size), **named)
            return
        encoded = (
            b"\x13\x0c" + size.encode()  # a PrintableString, PKCS #11 v3.0 §2.3.10
            if kind == "EC_EDWARDS"
            else encode_named_curve_parameters(size)
        )
        parameters = session.create_domain_parameters(
            KeyType[kind], {Attribute.EC_PARAMS: encoded}, local=True
        )
        parameters.generate_keypair(**named)


if __name__ == "__main__":
    import pkcs11

    _make_key(pkcs11.lib(sys.argv[1]), sys.argv[2:])
