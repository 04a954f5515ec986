"""Settings: flag, environment, file, in this order; nobody else's file."""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.cli import settings_file
from margo_supplychain.cli.invocation import Invocation, pass_invocation
from margo_supplychain.cli.key import key
from margo_supplychain.cli.options import setting_option
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.settings import (
    DEVICE_NAMES,
    FILE_NAME,
    NAMES,
    Setting,
    Settings,
    parse,
    render,
    variable_of,
)
from margo_supplychain.errors import FormatError, SignerError
from tests.cli.running import Ran, run

if TYPE_CHECKING:
    from pathlib import Path


def write(directory: Path, text: str) -> Path:
    path = directory / FILE_NAME
    path.write_text(text)
    return path


def find(directory: Path, name: str, **environment: str) -> Setting | None:
    return Settings(directory, environment).find(name)


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'repo = "trust"\n')
    assert find(tmp_path, "repo") == Setting(values=("trust",), origin=str(path))
    assert find(tmp_path, "repo", MARGO_SUPPLYCHAIN_REPO="other") == Setting(
        values=("other",), origin="MARGO_SUPPLYCHAIN_REPO"
    )
    assert find(tmp_path, "repo", MARGO_SUPPLYCHAIN_REPO="") == Setting(
        values=("trust",), origin=str(path)
    )
    assert find(tmp_path, "state") is None


def test_the_file_of_a_parent_applies_with_paths_relative_to_it(
    tmp_path: Path,
) -> None:
    write(
        tmp_path,
        'repo = "trust"\npublisher = "acme"\n'
        'offline-key = "file:k/offline.key"\n'
        'online-key = ["/srv/ci.key", "pkcs11:token=a;object=b"]\n',
    )
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    found = {
        name: setting.values
        for name in NAMES
        if (setting := find(below, name)) is not None
    }
    assert found == {
        "repo": (str(tmp_path / "trust"),),
        "publisher": ("acme",),
        "offline-key": (str(tmp_path / "k/offline.key"),),
        "online-key": ("/srv/ci.key", "pkcs11:token=a;object=b"),
    }


def test_nearest_file_is_the_one_and_the_environment_may_name_it(
    tmp_path: Path,
) -> None:
    write(tmp_path, 'repo = "far"\nstate = "far"\n')
    below = tmp_path / "below"
    below.mkdir()
    write(below, 'repo = "near"\n')
    assert find(below, "repo") == Setting(
        values=("near",), origin=str(below / FILE_NAME)
    )
    assert find(below, "state") is None
    named = find(below, "state", MARGO_SUPPLYCHAIN_SETTINGS=str(tmp_path / FILE_NAME))
    assert named is not None
    assert named.values == (str(tmp_path / "far"),)
    assert find(below, "repo", MARGO_SUPPLYCHAIN_SETTINGS="") is None


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("repo = x\n", r"is not TOML: invalid value \(at line 1, column 8\)"),
        ('repos = "x"', r"has the unknown setting 'repos', expected one of repo, "),
        ('[repo]\na = "x"', r": repo is not a text"),
        ('repo = ["a"]', r": repo is not a text"),
        ("repo = 7", r": repo is not a text"),
        ('repo = ""', r": repo is not a text"),
        (r'repo = "a\u0007"', r": repo is not a text"),
        ("offline-key = [1]", r": offline-key is not a text or a list of texts"),
        ("offline-key = []", r"offline-key lists 0 keys, expected 1 to 32"),
        (
            f"offline-key = {['k'] * 33}",
            r"offline-key lists 33 keys, expected 1 to 32",
        ),
        ('passphrase = "x"', r"has the unknown setting 'passphrase'"),
        ("#" * 65537, r"has more than 65536 bytes"),
        ("[" * 5000, r"is not TOML: "),
        (f"repo = {'1' * 4301}", r"is not TOML: exceeds the limit \(4300"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, match: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(FormatError, match=match) as caught:
        find(tmp_path, "repo")
    assert caught.value.where == str(path)
    assert str(caught.value).startswith(str(path))


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(FormatError, match="is not a regular file"):
        find(tmp_path, "repo")
    (tmp_path / FILE_NAME).rmdir()
    (tmp_path / FILE_NAME).symlink_to("nowhere")
    with pytest.raises(FormatError, match="no such file or directory"):
        find(tmp_path, "repo")
    (tmp_path / FILE_NAME).unlink()
    (tmp_path / FILE_NAME).write_bytes(b"\xff")
    with pytest.raises(FormatError, match="is not TOML: 'utf-8' codec"):
        find(tmp_path, "repo")


def test_a_file_that_others_wrote_or_could_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mallory leaves a settings file in a shared parent directory; it is not used."""
    path = write(tmp_path, 'state = "mallory"\n')
    assert find(tmp_path, "state") is not None  # sane
    path.chmod(0o666)
    with pytest.raises(FormatError, match="may be written by everybody") as caught:
        find(tmp_path, "state")
    assert caught.value.hint is not None
    assert f"MARGO_SUPPLYCHAIN_SETTINGS={path}" in caught.value.hint
    path.chmod(0o664)
    with pytest.raises(FormatError, match="may be written by its group"):
        find(tmp_path, "state")
    path.chmod(0o644)
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    monkeypatch.setattr(settings_file, "_ROOT", owner + 2)
    with pytest.raises(FormatError, match=rf"belongs to another user \(uid {owner}\)"):
        find(tmp_path, "state")
    # Named on purpose, it is used.
    named = find(tmp_path, "state", MARGO_SUPPLYCHAIN_SETTINGS=str(path))
    assert named is not None


def test_unknown_names_are_mistakes_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'colour' is not a setting"):
        find(tmp_path, "colour")
    with pytest.raises(ValueError, match="not settings: colour"):
        render({"colour": "red"})
    with pytest.raises(FormatError, match="is not printable text for a TOML file"):
        render({"repo": "a\nb"})


PRINTABLE = st.text(min_size=1, max_size=30).filter(str.isprintable)


@given(repo=PRINTABLE, keys=st.lists(PRINTABLE, min_size=1, max_size=5))
def test_what_is_rendered_is_read_again(repo: str, keys: list[str]) -> None:
    data = render({"offline-key": keys, "repo": repo})
    assert parse(data, what="x") == {"repo": (repo,), "offline-key": tuple(keys)}
    assert list(tomllib.loads(data.decode())) == ["repo", "offline-key"]


def test_variables() -> None:
    assert variable_of("repo") == "MARGO_SUPPLYCHAIN_REPO"
    assert variable_of("offline-key") == "MARGO_SUPPLYCHAIN_OFFLINE_KEY"
    assert all("passphrase" not in name and "pin" not in name for name in NAMES)


@pytest.fixture
def probe(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command `key probe` with two options that are settings."""

    @click.command()
    @setting_option("repo", help="the repository")
    @setting_option("release-key", flag="--key", help="a key", multiple=True)
    @setting_option("publisher", help="whose", required=False)
    @pass_invocation
    def command(
        invocation: Invocation, repo: str, key: tuple[str, ...], publisher: str | None
    ) -> Result:
        return Result(
            data={}, lines=[f"{repo} {' '.join(key)} {publisher} {invocation.form}"]
        )

    monkeypatch.setitem(key.commands, "probe", command)
    return place


def ask(*options: str, verbose: bool = False) -> Ran:
    return run(*(["-v"] if verbose else []), "key", "probe", *options)


def test_flag_environment_file(probe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(probe, 'repo = "from-file"\nrelease-key = ["a", "b"]\n')
    assert ask().out == "from-file a b None text\n"
    assert ask(verbose=True).err == (
        f"note: repo is from-file ({path})\nnote: release-key is a, b ({path})\n"
    )
    monkeypatch.setenv("MARGO_SUPPLYCHAIN_REPO", "from-environment")
    assert ask().out == "from-environment a b None text\n"
    assert "repo is from-environment (MARGO_SUPPLYCHAIN_REPO)" in ask(verbose=True).err
    assert ask("--repo", "flag", "--key", "k").out == "flag k None text\n"


def test_a_file_that_is_not_needed_is_not_read(probe: Path) -> None:
    write(probe, "broken")
    given = ["--repo", "r", "--key", "k", "--publisher", "p"]
    assert ask(*given).out == "r k p text\n"
    ran = ask("--key", "k")
    assert ran.status == 2
    assert "is not TOML" in ran.err
    assert "[format]" in ran.err


def test_missing_and_too_many(probe: Path) -> None:
    ran = ask("--key", "k")
    assert ran.status == 2
    assert ran.err == (
        "error: --repo is missing, and neither MARGO_SUPPLYCHAIN_REPO nor a "
        "margo-supplychain.toml here or above gives it [usage]\n"
        "hint: see `margo-supplychain key probe --help`\n"
    )
    assert ask("--repo", "r").err.startswith("error: --key is missing")


def test_several_keys_where_one_is_wanted(
    probe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    @setting_option("release-key", flag="--key", help="a key")
    def command(key: str) -> Result:
        return Result(data={}, lines=[key])

    monkeypatch.setitem(key.commands, "probe", command)
    path = write(probe, 'release-key = ["a", "b"]\n')
    ran = ask()
    assert ran.status == 2
    assert f"{path} gives 2 values for release-key, expected one [usage]" in ran.err
    assert ask("--key", "c").out == "c\n"


def test_help_does_not_look_for_settings(probe: Path) -> None:
    write(probe, "broken")
    ran = ask("--help")
    assert ran.status == 0
    assert "--key KEY" in ran.out
    assert "--repo PLACE" in ran.out


def test_lost_current_directory_is_told(
    probe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = probe / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    ran = ask("--key", "k")
    os.chdir(probe)
    assert ran.status == 4
    assert "no such file or directory [storage]" in ran.err


@pytest.mark.parametrize("name", DEVICE_NAMES)
def test_a_devices_settings_come_from_the_environment_alone(
    tmp_path: Path, name: str
) -> None:
    """A file in some working directory chooses neither memory, source nor policy."""
    write(tmp_path, 'state = "elsewhere"\n')
    settings = Settings(tmp_path, {})
    assert settings.find(name, device=True) is None
    named = Settings(tmp_path, {variable_of(name): "mine"}).find(name, device=True)
    assert named is not None
    assert named.values == ("mine",)


@pytest.mark.parametrize("name", ["source", "policy"])
def test_a_device_setting_in_the_file_is_an_error(tmp_path: Path, name: str) -> None:
    write(tmp_path, f'{name} = "elsewhere"\n')
    with pytest.raises(FormatError, match=f"unknown setting '{name}'"):
        Settings(tmp_path, {}).find("repo")


# --- registries ----------------------------------------------------------------------


def test_tables_of_registries_are_those_of_devices(tmp_path: Path) -> None:
    write(
        tmp_path,
        'repo = "oci://registry.example/acme/trust"\n'
        "[mirrors]\n"
        '"oci://registry.example" = ["oci-layout:stick"]\n'
        '[registry."registry.example"]\n'
        'ca_file = "ca.pem"\n',
    )
    below = tmp_path / "below"
    below.mkdir()
    found = Settings(below, {})
    place = found.find("repo")
    assert place is not None
    assert place.values == ("oci://registry.example/acme/trust",)
    assert found.registries.network is not None
    access = found.registries.network.registries["registry.example"]
    assert access.ca_file == tmp_path / "ca.pem"
    assert found.registries.mirrors.places("oci://registry.example/acme/x") == (
        f"oci-layout:{tmp_path / 'stick'}",
    )


def test_no_file_names_no_registry(tmp_path: Path) -> None:
    found = Settings(tmp_path, {}).registries
    assert (found.network, bool(found.mirrors)) == (None, False)


def test_a_table_that_is_wrong_is_told_when_it_is_needed(tmp_path: Path) -> None:
    path = write(tmp_path, '[registry."a"]\npassword = "secret"\n')
    found = Settings(tmp_path, {})
    assert found.find("repo") is None
    with pytest.raises(FormatError, match="unknown key 'password'") as why:
        _ = found.registries
    assert str(path) in str(why.value)
    assert "docker login" in str(why.value.hint)


def test_a_root_and_a_layout_are_relative_to_the_file(tmp_path: Path) -> None:
    write(tmp_path, 'repo = "oci-layout:copy"\nroot = "keys/1.root.json"\n')
    below = tmp_path / "below"
    below.mkdir()
    found = Settings(below, {})
    for name, value in (
        ("repo", f"oci-layout:{tmp_path / 'copy'}"),
        ("root", str(tmp_path / "keys/1.root.json")),
    ):
        setting = found.find(name)
        assert setting is not None
        assert setting.values == (value,)


# --- the PKCS#11 module ---------------------------------------------------------------


def test_the_module_from_environment_and_file(tmp_path: Path) -> None:
    assert Settings(tmp_path, {}).pkcs11_module is None
    module = "/usr/lib/softhsm/libsofthsm2.so"
    write(tmp_path, f'pkcs11-module = "{module}"\n')
    assert str(Settings(tmp_path, {}).pkcs11_module) == module
    below = tmp_path / "below"
    below.mkdir()
    assert str(Settings(below, {}).pkcs11_module) == module
    named = {"MARGO_SUPPLYCHAIN_PKCS11_MODULE": "relative.so"}
    # Whether it can be loaded is judged by who loads it.
    assert str(Settings(tmp_path, named).pkcs11_module) == "relative.so"


def test_a_file_may_name_installed_modules_alone(tmp_path: Path) -> None:
    write(tmp_path, 'pkcs11-module = "/srv/module.so"\n')
    with pytest.raises(FormatError, match="expected one below /usr/lib,") as caught:
        _ = Settings(tmp_path, {}).pkcs11_module
    assert caught.value.hint == (
        "name it on purpose: MARGO_SUPPLYCHAIN_PKCS11_MODULE=/srv/module.so"
    )
    write(tmp_path, 'pkcs11-module = "libsofthsm2.so"\n')
    with pytest.raises(FormatError, match="so', expected its whole path") as caught:
        _ = Settings(tmp_path, {}).pkcs11_module
    assert "MARGO_SUPPLYCHAIN" not in str(caught.value.hint)
    write(tmp_path, 'online-key = "pkcs11:token=a;object=b?module-path=/srv/m.so"\n')
    with pytest.raises(FormatError, match="names the PKCS#11 module '/srv/m"):
        Settings(tmp_path, {}).find("online-key")
    text = "pkcs11:token=a;object=b?module-path=/usr/lib/m.so"
    write(tmp_path, f'online-key = "{text}"\n')
    setting = Settings(tmp_path, {}).find("online-key")
    assert setting is not None
    assert setting.values == (text,)
    write(tmp_path, 'pkcs11-module = "m.so"\n')
    with pytest.raises(FormatError, match="expected its whole path"):
        _ = Settings(tmp_path, {}).pkcs11_module


def test_a_file_names_a_pin_source_only_where_it_was_chosen(tmp_path: Path) -> None:
    text = "pkcs11:token=a;object=b?pin-source=file:/srv/pin"
    path = write(tmp_path, f'online-key = "{text}"\n')
    with pytest.raises(FormatError, match="'/srv/pin' as the file with the PIN of"):
        Settings(tmp_path, {}).find("online-key")
    chosen = find(tmp_path, "online-key", MARGO_SUPPLYCHAIN_SETTINGS=str(path))
    assert chosen is not None
    assert chosen.values == (text,)


def test_a_pin_in_a_settings_file(tmp_path: Path) -> None:
    for pin in ("?pin-value=1234", ";pin-value=1234"):
        write(tmp_path, f'online-key = "pkcs11:token=a{pin}"\n')
        with pytest.raises(SignerError, match="holds a PIN") as caught:
            Settings(tmp_path, {}).find("online-key")
        assert "1234" not in str(caught.value)
