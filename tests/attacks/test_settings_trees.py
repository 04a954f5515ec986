"""T-140 to T-142: the tree that somebody works in, wherever it was checked out, and
what people write into the names of keys by mistake.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from margo_supplychain.cli import settings_file
from margo_supplychain.cli.settings import FILE_NAME, Settings
from margo_supplychain.cli.settings_file import check_module
from margo_supplychain.errors import FormatError
from margo_supplychain.signing.keyring import generate_key
from tests.cli.running import PASSPHRASE, run
from tests.signing.asking import Asked

PIN = "424242"
MODULE = "/usr/lib/softhsm/libsofthsm2.so"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in; the environment says nothing."""
    for name in list(os.environ):
        if name.startswith("MARGO_SUPPLYCHAIN_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(directory: Path, text: str) -> Settings:
    (directory / FILE_NAME).write_text(text + "\n")
    return Settings(directory, {})


# --- T-140: code ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tree", "module"),
    [
        ("/usr/src/app-x", "/usr/src/app-x/evil.so"),
        ("/usr/src/app-x", "/usr/src/app-x/lib/evil.so"),
        ("/usr/local/src/x", "/usr/local/src/x/evil.so"),
        ("/opt/x", "/opt/x/evil.so"),
        ("/opt/x", "/opt/x/lib/evil.so"),
        ("/opt/x/docs", "/opt/x/lib/evil.so"),
        ("/usr/lib/x/docs", "/usr/lib/x/evil.so"),
        ("/usr/local/lib/x", "/usr/local/lib/x/evil.so"),
        ("/usr/local", "/usr/local/lib/evil.so"),
        ("/", "/usr/lib/evil.so"),
        ("/srv/x", "/usr/lib/../src/x/evil.so"),
        ("/srv/x", "/usr/library/evil.so"),
        ("/srv/x", "/usr/lib"),
    ],
)
def test_tree_below_the_directories_of_the_system(tree: str, module: str) -> None:
    """A container's work lies in /usr/src or /opt, and root owns all of it."""
    good = Path(MODULE)
    check_module(good, base=Path("/srv/x"), what="x")
    with pytest.raises(FormatError, match="names the PKCS#11 module") as caught:
        check_module(Path(module), base=Path(tree), what="x")
    assert f"MARGO_SUPPLYCHAIN_PKCS11_MODULE={module}" in str(caught.value.hint)
    vendor = Path("/opt/vendor/lib64/module.so")
    check_module(vendor, base=Path("/srv/x"), what="x")


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that counts as the system's, and this user as root."""
    place = tmp_path / "lib"
    place.mkdir()
    monkeypatch.setattr(
        settings_file,
        "_LIBRARIES",
        re.compile(rf"(?P<place>{re.escape(str(place))})/.+|(?P<vendor>-)"),
    )
    monkeypatch.setattr(settings_file, "_ROOT", os.geteuid())
    # Directories above a test's may be anybody's.
    real = settings_file._changeable
    monkeypatch.setattr(
        settings_file,
        "_changeable",
        lambda path: real(path) if path.is_relative_to(place) else None,
    )
    return place


@pytest.mark.parametrize("what", ["file", "directory", "owner"])
@pytest.mark.parametrize(
    "setting",
    [
        'pkcs11-module = "{module}"',
        'online-key = "pkcs11:token=a;object=b?module-path={module}"',
    ],
)
def test_library_that_others_than_root_may_change(
    libraries: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    setting: str,
) -> None:
    """A group of users may write to /usr/local/lib, as Debian has it by default."""
    below = libraries / "below"
    below.mkdir()
    module = below / "module.so"
    module.write_bytes(b"\x7fELF")
    tree = tmp_path / "tree"
    tree.mkdir()
    text = setting.format(module=module)
    found = settings(tree, text)
    _ = found.pkcs11_module, found.find("online-key")
    if what == "file":
        module.chmod(0o664)
    elif what == "directory":
        below.chmod(0o777)
    else:
        monkeypatch.setattr(settings_file, "_ROOT", os.geteuid() + 1)
        monkeypatch.setattr(os, "geteuid", lambda: tree.stat().st_uid)
    found = Settings(tree, {})
    with pytest.raises(FormatError, match=r"may be changed|not belong to root"):
        _ = found.pkcs11_module, found.find("online-key")


# --- T-141: whose settings, and whose files -------------------------------------------


def test_tree_that_has_a_file_of_ours_sent_to_a_token(tmp_path: Path) -> None:
    """Any file of mode 0600 would be sent as a PIN, and take a try of the token."""
    secret = tmp_path / "secret"
    secret.write_text("not a PIN\n")
    secret.chmod(0o600)
    honest = 'online-key = "pkcs11:token=root-a;object=root"'
    assert settings(tmp_path, honest).find("online-key") is not None
    hers = f'{honest[:-1]}?pin-source=file:{secret}"'
    for text in (hers, hers.replace("pkcs11:", "PKCS11:")):
        found = settings(tmp_path, text)
        for name in ("online-key", "repo"):
            with pytest.raises(FormatError, match="as the file with the PIN of pkcs"):
                found.find(name)
    # Whoever names the settings on purpose wrote them.
    chosen = {"MARGO_SUPPLYCHAIN_SETTINGS": str(tmp_path / FILE_NAME)}
    assert Settings(tmp_path, chosen).find("online-key") is not None


def test_link_of_somebody_else_to_settings_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own file applies in her directory, and its paths would lead into it."""
    ours, shared = tmp_path / "ours", tmp_path / "shared"
    for each in (ours, shared, shared / "work"):
        each.mkdir()
    found = settings(ours, 'repo = "trust"').find("repo")
    assert found is not None
    link = shared / FILE_NAME
    link.symlink_to(ours / FILE_NAME)
    # A link of our own: its paths start where the file is.
    found = Settings(shared / "work", {}).find("repo")
    assert found is not None
    assert found.values == (str(ours / "trust"),)
    real = Path.lstat

    def hers(path: Path) -> os.stat_result:
        status = list(real(path))
        if path == link:
            status[4] = os.geteuid() + 1
        return os.stat_result(status)

    monkeypatch.setattr(Path, "lstat", hers)
    with pytest.raises(FormatError, match="is a link that belongs to another user"):
        Settings(shared / "work", {}).find("repo")


def test_settings_that_a_group_may_write(tmp_path: Path) -> None:
    found = settings(tmp_path, 'repo = "trust"')
    assert found.find("repo") is not None
    for mode, whom in ((0o664, "its group"), (0o646, "everybody")):
        (tmp_path / FILE_NAME).chmod(mode)
        with pytest.raises(FormatError, match=f"may be written by {whom}"):
            Settings(tmp_path, {}).find("repo")
    (tmp_path / FILE_NAME).chmod(0o644)
    assert Settings(tmp_path, {}).find("repo") is not None


def init(place: Path) -> None:
    (place / "words").write_text(PASSPHRASE + "\n")
    (place / "words").chmod(0o600)
    for name in ("offline.key", "ci.key"):
        generate_key(name, pin=Asked(PASSPHRASE))
    made = run(
        *("repo", "init", "trust", "--profile", "small", "--publisher", "acme"),
        *("--offline-key", "offline.key", "--online-key", "ci.key"),
        *("--passphrase-file", "words"),
    )
    assert made.status == 0, made.err


# --- T-142: PINs in names of keys -----------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        f"pkcs11:token=a;object=b?pin-value={PIN}",
        f"pkcs11:token=a;pin-value={PIN}",
        f"pkcs11:token=a;{PIN}",
        f"pkcs11:token=ü?pin-value={PIN}",
        f"hv:a?pin-value={PIN}",
        f"https://me:{PIN}@example/key?pin-value={PIN}",
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ("key", "show", "{uri}"),
        ("-v", "key", "show", "{uri}"),
        ("--format", "json", "key", "show", "{uri}"),
        ("key", "generate", "{uri}"),
        ("key", "generate", "--uri", "{uri}", "--out", "a.pub"),
        ("key", "import", "{uri}", "--out", "a.pub"),
        ("key", "show", "a.pub"),
        ("-v", "release", "publish", "dist"),
        ("-v", "repo", "refresh", "--repo", "trust", "--passphrase-file", "words"),
    ],
)
def test_pin_in_the_name_of_a_key(
    place: Path, monkeypatch: pytest.MonkeyPatch, uri: str, command: tuple[str, ...]
) -> None:
    """Whoever wrote it there by mistake is told so, and the log does not have it."""
    init(place)
    sane = run("-v", "repo", "refresh", "--passphrase-file", "words")
    assert sane.status == 0
    good = (place / "ci.pub").read_bytes()
    (place / "a.pub").write_bytes(f"uri: {uri}\n".encode() + good)
    for name in ("RELEASE_KEY", "ONLINE_KEY"):
        monkeypatch.setenv(f"MARGO_SUPPLYCHAIN_{name}", uri)
    ran = run(*(each.format(uri=uri) for each in command))
    assert ran.status != 0
    assert PIN not in ran.out + ran.err
    assert not (place / "a.pub").read_bytes().startswith(good)


@pytest.mark.parametrize("pin", [f"?pin-value={PIN}", f";pin-value={PIN}"])
def test_pin_in_a_settings_file(place: Path, pin: str) -> None:
    init(place)
    refresh = ("repo", "refresh", "--repo", "trust", "--passphrase-file", "words")
    settings(place, 'online-key = "pkcs11:token=a;object=b"')
    sane = run(*refresh)
    assert "online-key pkcs11:token=a;object=b can't be used (no PKCS#11" in sane.err
    settings(place, f'online-key = "pkcs11:token=a;object=b{pin}"')
    for verbose in ((), ("-v",)):
        ran = run(*verbose, *refresh)
        assert "holds a PIN (pin-value)" in ran.err
        assert ran.status == 6
        assert PIN not in ran.out + ran.err
