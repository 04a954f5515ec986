from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
import zlib
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import ApplicationFormatError, UnsafeArchiveError
from margo_supplychain.formats.archives import (
    build_compose_archive,
    check_archive,
    check_compose_archive,
    check_helm_chart,
)
from tests.fixtures import (
    CHARTS,
    component_files,
    copy_package,
    pack_chart,
    package_names,
)
from tests.formats.tars import END, check, entry, padded, raw, refused, tar

if TYPE_CHECKING:
    from pathlib import Path

COMPOSE = b"services: {web: {image: registry.example/acme/web:1}}\n"


# --- what is fine --------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_ordinary_archives_of_every_format(form: int) -> None:
    long = "web/" + "d" * 90 + "/" + "f" * 40
    data = tar(
        entry("web", tarfile.DIRTYPE, mode=0o755),
        (entry("web/compose.yaml", mode=0o100644, mtime=1.0), COMPOSE),
        (entry("web/run.sh", mode=0o755, uname="builder"), b"#!/bin/sh\n"),
        (entry(long), b"x" * 700),
        form=form,
    )
    found = check(gzip.compress(data))
    assert [(one.name, one.kind, one.size) for one in found] == [
        ("web", "directory", 0),
        ("web/compose.yaml", "file", len(COMPOSE)),
        ("web/run.sh", "file", 10),
        (long, "file", 700),
    ]
    assert [one.mode for one in found][:3] == [0o755, 0o644, 0o755]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_and_targets_too_long_for_ustar(form: int) -> None:
    name = "web/" + "/".join("n" * 60 for _ in range(5))
    data = tar(
        (entry(name), b"1"),
        entry("web/link", tarfile.SYMTYPE, linkname=name.removeprefix("web/")),
        form=form,
    )
    first, link = check(data)
    assert first.name == name
    assert link.target == name.removeprefix("web/")


def test_names_that_start_with_the_current_directory() -> None:
    data = tar(entry("./", tarfile.DIRTYPE), (entry("./web/compose.yaml"), COMPOSE))
    assert [one.name for one in check(data)] == ["web/compose.yaml"]


def test_a_comment_and_times_in_pax_headers_are_ignored() -> None:
    data = tar(
        (entry("web/a", pax_headers={"mtime": "1.5", "comment": "hello"}), b"1"),
        pax_headers={"comment": "made by git archive"},
    )
    assert [one.name for one in check(data)] == ["web/a"]


def test_links_that_stay_inside() -> None:
    data = tar(
        (entry("web/a/file"), b"1"),
        entry("web/a/up", tarfile.SYMTYPE, linkname="../b/./other"),
        entry("web/b/dangling", tarfile.SYMTYPE, linkname="..data"),
        entry("web/hard", tarfile.LNKTYPE, linkname="./web/a/file"),
    )
    found = check(data)
    assert [one.target for one in found] == [
        None,
        "../b/./other",
        "..data",
        "web/a/file",
    ]


def test_v7_archives_are_read() -> None:
    data = raw(b"web/a", b"\0", 1, magic=bytes(8)) + padded(b"1") + END
    assert [one.name for one in check(data)] == ["web/a"]


def test_short_reads_change_nothing() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(7, size or 0))

    data = gzip.compress(tar((entry("web/a"), b"x" * 2000), (entry("web/b"), b"")))
    assert len(check_archive(Slow(data))) == 2


# --- names ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/passwd", "is absolute"),
        (".//etc/passwd", "not a normalised path"),
        ("web/../../evil", r"leaves its directory by '\.\.'"),
        ("..", r"leaves its directory by '\.\."),
        ("web//a", "not a normalised path"),
        ("web/./a", "not a normalised path"),
        ("web\\..\\a", "backslash or a control character"),
        ("web/a\nb", "backslash or a control character"),
        ("web/a\u202eb", "backslash or a control character"),
        ("web/" + "x" * 256, "a step above 255"),
        ("/".join(["d"] * 40), "deeper than 32"),
        ("web/" + "é/" * 600 + "x", "name or target of 1205 characters"),
    ],
)
def test_names_that_leave_or_confuse(name: str, why: str) -> None:
    refused(tar((entry(name), b"")), why)


def test_a_name_that_is_not_utf8() -> None:
    refused(raw(b"web/\xff") + END, "a name that is not UTF-8")


def test_an_empty_name() -> None:
    refused(raw(b"") + END, "name or target of 0 characters")


def test_a_nul_in_a_long_name() -> None:
    long = raw(b"long", b"L", 8) + padded(b"web/a\0b\0") + raw(b"x") + END
    refused(long, "has a NUL in its name")
    record = b"18 path=web/a\0bcd\n"
    assert len(record) == 18
    pax = raw(b"p", b"x", len(record)) + padded(record) + raw(b"x") + END
    refused(pax, "has a NUL in its name")


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["web/a", "web/a"], "'web/a' comes twice"),
        (["./web/a", "web/a"], "'web/a' comes twice"),
        (["web/A", "web/a"], "'web/a' clashes with 'web/A'"),
        (["web/é", "web/e\u0301"], "clashes with"),
        (["web/straße", "web/STRASSE"], "clashes with"),
        (["web/a/x", "web/A/y"], "'web/A/y' clashes with 'web/a'"),
        (["web/a", "web/a/b"], "lies below the file 'web/a'"),
        (["web/a/b", "web/a"], "'web/a' replaces a directory"),
    ],
)
def test_names_that_clash(names: list[str], why: str) -> None:
    refused(tar(*((entry(name), b"") for name in names)), why)


def test_a_directory_twice_and_a_file_with_a_directory_name() -> None:
    twice = tar(entry("web", tarfile.DIRTYPE), entry("web/", tarfile.DIRTYPE))
    refused(twice, "'web' comes twice|'web/' comes twice")
    refused(raw(b"web/") + END, "is a file with the name of a directory")


# --- kinds of members ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "why"),
    [
        (b"3", "is a character device"),
        (b"4", "is a block device"),
        (b"6", "is a named pipe"),
        (b"7", "is a contiguous file"),
        (b"S", "is a sparse file"),
        (b"Z", "is of the unknown type b'Z'"),
    ],
)
def test_members_that_are_no_files(flag: bytes, why: str) -> None:
    refused(raw(b"web/a", flag) + END, why)


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1755])
def test_setuid_setgid_and_sticky(mode: int) -> None:
    refused(tar((entry("web/a", mode=mode), b"")), "is setuid, setgid or sticky")
    directory = entry("web", tarfile.DIRTYPE, mode=mode)
    refused(tar(directory), "is setuid, setgid or sticky")


@pytest.mark.parametrize(
    ("name", "target", "why"),
    [
        ("web/l", "/etc/passwd", "links to the absolute path '/etc/passwd'"),
        ("web/l", "../other", "outside its top-level directory"),
        ("web/l", "..", "outside its top-level directory"),
        ("web/a/l", "../../x", "outside its top-level directory"),
        ("l", "web", "outside its top-level directory"),
        # `b` may be a link to a place that is less deep than it looks.
        ("web/a/l", "b/../../c", "outside its top-level directory"),
        ("web/l", "a\\b", "backslash"),
    ],
)
def test_symbolic_links_that_leave(name: str, target: str, why: str) -> None:
    refused(tar(entry(name, tarfile.SYMTYPE, linkname=target)), why)


def test_an_empty_link_target() -> None:
    refused(raw(b"web/l", b"2") + END, "name or target of 0 characters")


def test_a_member_below_a_link() -> None:
    link = entry("web/l", tarfile.SYMTYPE, linkname="a")
    below = (entry("web/l/evil"), b"1")
    refused(tar(link, below), "lies below the symbolic link 'web/l'")
    refused(tar(below, link), "'web/l' replaces a directory")
    other = (entry("web/L/evil"), b"1")
    refused(tar(link, other), "lies below the symbolic link 'web/l'")


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("web/missing", "links to 'web/missing', which is no earlier file"),
        ("/etc/passwd", "is absolute"),
        ("../etc/passwd", r"leaves its directory by '\.\.'"),
        ("web/soft", "which is no earlier file"),
        ("other/file", "outside its top-level directory"),
        ("loose", "outside its top-level directory"),
    ],
)
def test_hard_links_that_leave(target: str, why: str) -> None:
    data = tar(
        (entry("other/file"), b"1"),
        (entry("loose"), b"1"),
        entry("web/soft", tarfile.SYMTYPE, linkname="file"),
        entry("web/hard", tarfile.LNKTYPE, linkname=target),
    )
    refused(data, why)


def test_links_and_directories_with_data() -> None:
    refused(raw(b"web/l", b"2", 512, link=b"a") + bytes(512) + END, "with 512 bytes")
    refused(raw(b"web", b"5", 1) + bytes(512) + END, "a directory with 1 bytes of data")


def test_sparse_files_by_pax_records() -> None:
    records = {"GNU.sparse.major": "1", "GNU.sparse.name": "web/b"}
    refused(tar((entry("web/a", pax_headers=records), b"")), "has a sparse file")


def test_capabilities_and_other_character_sets() -> None:
    capability = {"SCHILY.xattr.security.capability": "x"}
    why = "has the pax record b'SCHILY.xattr.security.capability'"
    refused(tar((entry("web/a", pax_headers=capability), b"")), why)
    record = b"21 hdrcharset=BINARY\n"
    data = raw(b"p", b"x", len(record)) + padded(record) + raw(b"web/a") + END
    refused(data, "has the pax record b'hdrcharset'")


# --- bombs ---------------------------------------------------------------------------


def test_too_many_members() -> None:
    data = tar(*((entry(f"web/{number}"), b"") for number in range(11)))
    assert len(check(data, members=11)) == 11
    refused(data, "has more than 10 members", members=10)


def test_too_many_directories_for_the_archive_itself() -> None:
    data = raw(b"./", b"5") * 11 + END
    refused(data, "has more than 10 members", members=10)


def test_too_long_names_together() -> None:
    data = tar(*((entry(f"web/{number:050}"), b"") for number in range(10)))
    refused(data, "has names of more than 500 bytes", names=500)


def test_a_member_and_a_total_that_are_too_large() -> None:
    data = tar((entry("web/a"), b"x" * 2000))
    refused(data, "has 2000 bytes, more than 1999", member_size=1999)
    refused(data, "archive holds more than 2048 bytes", total=2048)


def test_a_bomb_of_zeros() -> None:
    """250 MiB out of 250 kB: refused long before the end, in constant memory."""
    size = 250 << 20
    packer = zlib.compressobj(9, wbits=31)
    packed = packer.compress(raw(b"web/zeros", b"0", size))
    packed += b"".join(packer.compress(bytes(1 << 20)) for _ in range(250))
    packed += packer.compress(END) + packer.flush()
    assert len(packed) < 300_000
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeArchiveError, match="expands more than 200-fold"):
            check(packed)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_members() -> None:
    """A member's content is never held, compressed or not."""
    data = tar((entry("web/a"), bytes(12 << 20)))
    stream, packed = io.BytesIO(data), io.BytesIO(gzip.compress(data, 1))
    tracemalloc.start()
    try:
        check_archive(stream)
        check_archive(packed)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_a_pax_header_bomb() -> None:
    refused(raw(b"p", b"x", 70_000) + bytes(70_144) + END, "extension header of 70000")
    refused(raw(b"p", b"L", 70_000) + bytes(70_144) + END, "extension header of 70000")
    endless = raw(b"p", b"g", 0) * 1000
    refused(endless, "has more than 4 extension headers for one member")
    assert len(check(raw(b"p", b"g", 0) * 4 + raw(b"web/a") + END)) == 1


def test_an_endless_gzip_header() -> None:
    """A name of any length may stand before the first byte of data."""
    header = b"\x1f\x8b\x08\x08" + bytes(4) + b"\x00\xff"
    data = header + b"n" * (1 << 20)
    with pytest.raises(UnsafeArchiveError, match="holds more than 262144 bytes"):
        check(data, total=1 << 18)


# --- components ----------------------------------------------------------------------


def component(*names: str) -> io.BytesIO:
    data = tar(*((entry(name), COMPOSE) for name in names))
    return io.BytesIO(gzip.compress(data))


def test_a_compose_archive() -> None:
    found = check_compose_archive(component("web/compose.yaml", "web/sub/compose.yaml"))
    assert (found.top, found.main) == ("web", COMPOSE)
    assert len(found.members) == 2


def test_a_helm_chart() -> None:
    found = check_helm_chart(component("chart/Chart.yaml", "chart/values.yaml"))
    assert (found.top, found.main) == ("chart", COMPOSE)


@pytest.mark.parametrize("name", package_names())
def test_the_fixtures_components(name: str, tmp_path: Path) -> None:
    """Every component of every package is one that a device would take."""
    package = copy_package(name, tmp_path)
    for directory in (package / "components").iterdir():
        charts = list(directory.glob("*.tgz"))
        if charts:
            packed = charts[0].read_bytes()
            found = check_helm_chart(io.BytesIO(packed))
            assert found.top == charts[0].stem
            assert pack_chart(CHARTS / found.top) == packed
        else:
            data = build_compose_archive(component_files(directory), directory.name)
            assert check_compose_archive(io.BytesIO(data)).top == directory.name


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["compose.yaml"], "has compose.yaml at its top, expected exactly one"),
        (["web/compose.yaml", "README"], "has README, web at its top"),
        (["web/compose.yaml", "__MACOSX/x"], "has __MACOSX, web at its top"),
        (["web/sub/compose.yaml"], "has no file web/compose.yaml"),
        (["web/compose.yml"], "no file web/compose.yaml but web/compose.yml"),
        (["web/Compose.yaml"], "no file web/compose.yaml but web/Compose.yaml"),
        (["web/docker-compose.yml"], "but web/docker-compose.yml"),
    ],
)
def test_archives_that_are_no_compose_archive(names: list[str], why: str) -> None:
    with pytest.raises(UnsafeArchiveError, match=why):
        check_compose_archive(component(*names))


def test_a_compose_file_that_is_a_link() -> None:
    link = entry("web/compose.yaml", tarfile.SYMTYPE, linkname="other.yaml")
    data = gzip.compress(tar((entry("web/other.yaml"), COMPOSE), link))
    with pytest.raises(UnsafeArchiveError, match=r"has no file web/compose\.yaml"):
        check_compose_archive(io.BytesIO(data))


def test_a_compose_file_that_is_too_large() -> None:
    data = gzip.compress(tar((entry("web/compose.yaml"), bytes((1 << 20) + 1))))
    with pytest.raises(UnsafeArchiveError, match="has more than 1048576 bytes"):
        check_compose_archive(io.BytesIO(data))


def test_a_component_that_is_not_compressed() -> None:
    data = tar((entry("chart/Chart.yaml"), b""))
    with pytest.raises(UnsafeArchiveError, match="is not gzip"):
        check_helm_chart(io.BytesIO(data))


# --- building ------------------------------------------------------------------------

BUILT = "648b500c3f3e965bcf7ad2947963a871af1bc62aa5008b7e7af6abe2c4267c4c"
FILES = {
    "compose.yaml": COMPOSE,
    "env/web.env": b"A=1\n",
    "config/" + "n" * 90 + "/Größe.conf": b"x" * 70_000,
    "run.sh": b"#!/bin/sh\n",
}


def test_a_built_archive_is_read_by_others_and_by_us() -> None:
    data = build_compose_archive(FILES, "web-stack", executables={"run.sh"})
    found = check_compose_archive(io.BytesIO(data))
    assert found.main == COMPOSE
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        members = archive.getmembers()
        read = {
            one.name.removeprefix("web-stack/"): archive.extractfile(one).read()  # type: ignore[union-attr]  # regular files only
            for one in members
            if one.isreg()
        }
    assert read == FILES
    assert [one.name for one in members] == [one.name for one in found.members]
    assert {one.mtime for one in members} == {0}
    assert {one.uid for one in members} == {0}
    assert {one.name: one.mode for one in members if one.isreg()}[
        "web-stack/run.sh"
    ] == 0o755


def test_a_built_archive_is_the_same_bytes_everywhere() -> None:
    """The digest is written down: no compressor, order or clock has a say."""
    files = {"compose.yaml": COMPOSE, "env/web.env": b"A=1\n"}
    data = build_compose_archive(files, "web-stack")
    assert data == build_compose_archive(dict(reversed(files.items())), "web-stack")
    assert sha256(data).hexdigest() == BUILT


@pytest.mark.parametrize(
    ("files", "top", "why"),
    [
        ({}, "web", "component 'web': archive holds nothing"),
        ({"compose.yml": b""}, "web", "has no file web/compose.yaml but"),
        ({"compose.yaml": b"", "../x": b""}, "web", "leaves its directory"),
        ({"compose.yaml": b""}, "a/b", "has no file a/compose.yaml"),
        ({"compose.yaml": b"", "x\udcff": b""}, "web", "control character"),
        ({"compose.yaml": b"", "a": b"", "a/b": b""}, "web", "a file and a directory"),
        ({"compose.yaml": b"", "A": b"", "a": b""}, "web", "clashes with"),
    ],
)
def test_what_cannot_be_built(files: dict[str, bytes], top: str, why: str) -> None:
    with pytest.raises(ApplicationFormatError, match=why):
        build_compose_archive(files, top)


STEP = st.text("ab.é-_ ", min_size=1, max_size=120)


@given(
    st.dictionaries(
        st.lists(STEP, min_size=1, max_size=3).map("/".join),
        st.binary(max_size=1100),
        max_size=5,
    )
)
def test_what_is_built_is_what_is_read(files: dict[str, bytes]) -> None:
    files = {**files, "compose.yaml": COMPOSE}
    try:
        data = build_compose_archive(files, "web")
    except ApplicationFormatError:
        return
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        read = {
            one.name: archive.extractfile(one).read()  # type: ignore[union-attr]  # regular files only
            for one in archive
            if one.isreg()
        }
    assert read == {f"web/{path}": content for path, content in files.items()}
