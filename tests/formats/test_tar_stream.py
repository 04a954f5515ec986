"""Headers that readers take differently, or that are damaged, end the reading."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import UnsafeArchiveError
from margo_supplychain.formats.tar_stream import ArchiveLimits, TarStream
from tests.formats.tars import END, check, entry, padded, pax, raw, refused, tar

# --- ambiguity -----------------------------------------------------------------------


def test_two_sizes_for_one_member() -> None:
    """A reader that prefers the other size sees other members (CVE-2025-62518)."""
    record = b"12 size=512\n"
    data = raw(b"p", b"x", len(record)) + padded(record)
    data += raw(b"web/a", b"0", 0) + raw(b"web/hidden") + END
    refused(data, "states two sizes")


def test_a_repeated_and_an_empty_pax_record() -> None:
    record = b"14 path=web/a\n"
    data = raw(b"p", b"x", 28) + padded(record * 2) + raw(b"x") + END
    refused(data, "has the pax record b'path' twice")
    data = raw(b"p", b"x", 8) + padded(b"8 path=\n") + raw(b"x") + END
    refused(data, "has the pax record b'path' without a value")


@pytest.mark.parametrize(
    "record",
    [
        b"nonsense",
        b"99 path=a\n",
        b"7 path\n",
        b"8 path=ab",
        b"0 path=a\n",
        b"-3 a=b\n",
    ],
)
def test_pax_records_that_are_none(record: bytes) -> None:
    data = raw(b"p", b"x", len(record)) + padded(record) + raw(b"x") + END
    refused(data, "a pax record is not LENGTH KEY=VALUE")


def test_extension_headers_that_readers_put_together_differently() -> None:
    """Go drops a pax header when another one comes, Python adds them up."""
    named = pax(b"path=web/a")
    long = raw(b"l", b"L", 6) + padded(b"web/b\0")
    target = raw(b"l", b"K", 2) + padded(b"b\0")
    also = pax(b"comment=hello")
    for first, second in (
        (named, long),
        (long, named),
        (named, also),
        (target, also),
        (named, pax(b"comment=hello", flag=b"g")),
        (long, pax(b"comment=hello", flag=b"g")),
        (long, long),
        (target, target),
    ):
        refused(first + second + raw(b"x") + END, "two extension headers that disagree")
    for fine in (
        named,
        long + raw(b"l", b"K", 2) + padded(b"b\0"),
        target + long,
        pax(b"comment=hello", flag=b"g") * 3 + named,
    ):
        assert len(check(fine + raw(b"x") + END)) == 1


@pytest.mark.parametrize("data", [b"", b"\0"])
@pytest.mark.parametrize("flag", [b"L", b"K"])
def test_a_long_name_of_no_length(flag: bytes, data: bytes) -> None:
    """Python takes the empty name, GNU puts "." in its place."""
    long = raw(b"././@LongLink", flag, len(data)) + padded(data)
    member = raw(b"web/l", b"2", link=b"compose.yaml")
    refused(long + member + END, "is damaged: a long name of no length")


@pytest.mark.parametrize("field", ["mode", "uid", "gid", "devmajor", "devminor"])
@pytest.mark.parametrize(
    "number", [b"zzzzzzz\0", b"000 644\0", b"644\0junk", b"-000001\0", b"\xff" * 8]
)
def test_numbers_that_are_none(field: str, number: bytes) -> None:
    """Python ends the archive there, GNU goes on: they see other members."""
    bad = raw(b"web/a", **{field: number}) + raw(b"web/b") + END
    refused(bad, f"is damaged: {field} is not octal")
    extension = pax(b"comment=hello", **{field: number})
    refused(extension + raw(b"web/a") + END, f"is damaged: {field} is not octal")


def test_numbers_that_are_blank() -> None:
    """All readers take NULs for 0; GNU makes an error of blanks."""
    nothing = raw(b"web/a", uid=bytes(8), mtime=bytes(12), devmajor=b" " * 8)
    assert len(check(nothing + END)) == 1
    refused(raw(b"web/a", uid=b" " * 8) + END, "uid is not octal")
    refused(raw(b"web/a", mtime=b" " * 12) + END, "mtime is not octal")


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_owners_that_octal_cannot_say(form: int) -> None:
    large = entry("web/a", uid=(1 << 32) - 1, gid=3_000_000)
    assert len(check(tar((large, b"1"), form=form))) == 1
    large.gid = 1 << 32
    refused(tar((large, b"1"), form=form), r"is damaged: gid .* (too large|no number)")


def test_a_time_beyond_all_time() -> None:
    refused(raw(b"web/a", mtime=b"\x80" + b"\xff" * 11) + END, "mtime is too large")


@pytest.mark.parametrize(
    "record",
    [
        b"mtime=abc",
        b"mtime=",
        b"mtime=1e3",
        b"mtime=1.",
        b"atime= 1",
        b"ctime=" + b"9" * 13,
        b"uid=" + b"9" * 30,
        b"uid=4294967296",
        b"gid=-1",
        b"gid=",
    ],
)
def test_pax_numbers_that_are_none(record: bytes) -> None:
    key = record.partition(b"=")[0].decode()
    why = f"is damaged: {key} .* in a pax record is no number"
    for flag in (b"x", b"g"):
        refused(pax(record, flag=flag) + raw(b"web/a") + END, why)


def test_pax_numbers_that_are_fine() -> None:
    fine = pax(b"mtime=-1.25", b"atime=1700000000", b"uid=4294967295", b"gid=0")
    assert len(check(fine + raw(b"web/a") + END)) == 1


@pytest.mark.parametrize(
    "record",
    [
        b"GNU.volume.filename=web/b",
        b"GNU.dumpdir=Ycompose.yaml",
        b"SCHILY.realsize=9",
        b"SCHILY.filetype=sparse",
    ],
)
def test_pax_records_that_some_readers_obey(record: bytes) -> None:
    key = record.partition(b"=")[0].decode()
    refused(pax(record) + raw(b"web/a") + END, f"has the pax record b'{key}'")


def test_pax_records_with_names_that_are_none() -> None:
    for record in (b"=value", b"a\0b=value"):
        refused(pax(record) + raw(b"web/a") + END, "is damaged: a pax record is called")
    refused(pax(b"uname=a\0b") + raw(b"web/a") + END, "has a NUL in the pax record")


def test_an_extension_header_of_an_older_format() -> None:
    why = "an extension header is neither ustar nor GNU"
    for magic in (bytes(8), b"ustar  \x00"):
        bad = pax(b"comment=hello", magic=magic) + raw(b"web/a") + END
        refused(bad, why)
    long = raw(b"l", b"L", 6, magic=bytes(8)) + padded(b"web/b\0")
    refused(long + raw(b"x") + END, why)
    unknown = pax(b"comment=hello", magic=b"whatever") + raw(b"web/a") + END
    refused(unknown, "neither ustar, GNU nor V7")


def test_an_own_name_that_a_pax_header_hides() -> None:
    """Python goes by the header's own name to tell a V7 file from a directory."""
    hidden = pax(b"path=web/a") + raw(b"web/", b"\0") + END
    refused(hidden, "'web/a' is a file with the name of a directory")
    unknown = pax(b"path=web/a") + raw(b"web/", magic=b"whatever") + END
    refused(unknown, "neither ustar, GNU nor V7")


def test_a_global_header_that_renames() -> None:
    record = b"14 path=web/a\n"
    data = raw(b"p", b"g", 14) + padded(record) + raw(b"x") + END
    refused(data, "a global header that renames or resizes")


def test_a_prefix_in_a_gnu_header() -> None:
    """Python joins it to the name, Go takes it for times."""
    data = raw(b"a", magic=b"ustar  \x00", prefix=b"web") + END
    refused(data, "has a prefix that readers disagree about")


def test_a_header_of_no_known_format() -> None:
    refused(raw(b"a", magic=b"whatever") + END, "neither ustar, GNU nor V7")
    refused(raw(b"a", tail=bytes(8) + b"tar\0") + END, "neither ustar, GNU nor V7")


def test_data_after_the_end() -> None:
    good = tar((entry("web/a"), b"1"))
    refused(good + b"x", "has data after its end")
    refused(good + raw(b"web/b") + END, "has data after its end")
    one = raw(b"web/a") + bytes(512) + raw(b"web/b") + END
    refused(one, "one empty block, then more members")


def test_data_after_the_gzip_member() -> None:
    good = gzip.compress(tar((entry("web/a"), b"1")))
    for more in (b"x", b"\0", good):
        with pytest.raises(UnsafeArchiveError, match="has data after its gzip member"):
            check(good + more)


# --- damage --------------------------------------------------------------------------


def test_archives_that_end_early() -> None:
    good = raw(b"web/a", b"0", 600) + bytes(1024)
    for data in (b"", b"\x1f", good[:300], good[:900], good, good + bytes(512)):
        with pytest.raises(UnsafeArchiveError, match="is damaged: it ends early"):
            check(data)
    packed = gzip.compress(good + END)
    for size in (2, 5, len(packed) // 2, len(packed) - 1):
        with pytest.raises(UnsafeArchiveError, match="is damaged: its gzip data ends"):
            check(packed[:size])


def test_damaged_gzip() -> None:
    packed = bytearray(gzip.compress(tar((entry("web/a"), b"1" * 5000))))
    packed[-8] ^= 1
    with pytest.raises(UnsafeArchiveError, match=r"is damaged: .*incorrect data check"):
        check(bytes(packed))


def test_damaged_headers() -> None:
    refused(raw(b"web/a", sum=b"0000000\0") + END, "header's checksum is wrong")
    refused(raw(b"web/a", sum=b"99999999") + END, "checksum is not octal")
    refused(raw(b"web/a", mode=b"rw-r--r-") + END, "mode is not octal")
    # Base-256: above 8 GiB, or a negative size.
    refused(raw(b"web/a", b"0", b"\xff" * 12) + END, "is not octal")


def test_an_extension_header_without_a_member() -> None:
    record = b"14 path=web/a\n"
    data = raw(b"p", b"x", 14) + padded(record) + END
    refused(data, "is damaged: it ends after an extension header")
    refused(pax(b"comment=x") + END, "is damaged: it ends after an extension header")
    refused(pax(b"comment=x", flag=b"g") + END, "archive holds nothing")


def test_an_archive_of_nothing() -> None:
    refused(END, "archive holds nothing")
    refused(tar(entry("./", tarfile.DIRTYPE)), "archive holds nothing")


# --- random damage -------------------------------------------------------------------

SEED = tar(
    entry("web", tarfile.DIRTYPE),
    (entry("web/compose.yaml"), b"services: {}"),
    (entry("web/" + "é" * 70), b"x" * 600),
    entry("web/link", tarfile.SYMTYPE, linkname="compose.yaml"),
)


@given(
    st.lists(st.tuples(st.integers(0, len(SEED) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, len(SEED)),
)
def test_damage_never_raises_anything_else(
    changes: list[tuple[int, int]], size: int
) -> None:
    data = bytearray(SEED)
    for at, value in changes:
        data[at] = value
    for bad in (bytes(data), bytes(data[:size]), gzip.compress(bytes(data))[:size]):
        try:
            check(bad)
        except UnsafeArchiveError:
            continue


EIGHT = st.sampled_from(
    [
        b"0000755\0",
        bytes(8),
        b" " * 8,
        b"  644  \0",
        b"\x80" + bytes(6) + b"\7",
        b"\xff" * 8,
        b"644\0junk",
        b"0000008\0",
        b"\0" + b"0000644",
        b"1777777\0",
    ]
)
NAME = st.sampled_from([b"web/a", b"web/b", b"web/", b"web", b"./", b"", b"web/c/d"])
RECORD = st.one_of(
    NAME.map(b"path=".__add__),
    st.sampled_from([b"size=0", b"size=3", b"mtime=1.5", b"mtime=x", b"uid=7", b"uid="])
    | st.sampled_from([b"linkpath=a", b"comment=\n", b"uname=\xff", b"=", b"a=b=c"]),
)
EXTENSION = st.one_of(
    st.builds(
        lambda records, flag: pax(*records, flag=flag),
        st.lists(RECORD, max_size=3),
        st.sampled_from([b"x", b"x", b"g"]),
    ),
    st.builds(
        lambda data, flag, magic: (
            raw(b"l", flag, len(data), magic=magic) + padded(data)
        ),
        NAME.map(lambda name: name + b"\0"),
        st.sampled_from([b"L", b"K"]),
        st.sampled_from([b"ustar  \0", b"ustar\x0000"]),
    ),
)
MEMBER = st.builds(
    lambda name, flag, magic, prefix, numbers: raw(
        name, flag, 0, link=b"a", magic=magic, prefix=prefix, **numbers
    ),
    NAME,
    st.sampled_from([b"0", b"\0", b"1", b"2", b"5"]),
    st.sampled_from([b"ustar\x0000", b"ustar  \0", bytes(8)]),
    st.sampled_from([b"", b"", b"web"]),
    st.dictionaries(st.sampled_from(["mode", "uid", "gid", "devmajor"]), EIGHT),
)
KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.LNKTYPE: "hard link",
    tarfile.SYMTYPE: "symbolic link",
}


@given(st.lists(st.one_of(EXTENSION, MEMBER), min_size=1, max_size=5))
def test_what_is_accepted_is_what_another_reader_sees(parts: list[bytes]) -> None:
    data = b"".join(parts) + END
    try:
        found = check(data)
    except UnsafeArchiveError:
        return
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        theirs = [
            (one.name.removeprefix("./"), KINDS[one.type], one.size, one.mode & 0o777)
            for one in archive
            if one.name.removeprefix("./") not in ("", ".")
        ]
    assert [(one.name, one.kind, one.size, one.mode) for one in found] == theirs


@given(st.binary(max_size=2000))
def test_noise_never_raises_anything_else(data: bytes) -> None:
    for bad in (data, b"\x1f\x8b\x08" + data):
        with pytest.raises(UnsafeArchiveError):
            check(bad)


# --- passing over members ------------------------------------------------------------


def members(data: bytes, *, skip: bool) -> list[tuple[str, int, int]]:
    stream = TarStream(io.BytesIO(data), ArchiveLimits(), skip=skip)
    found = []
    while (header := stream.next()) is not None:
        found.append((header.name, stream.offset, header.size))
    return found


@given(st.lists(st.integers(0, 200_000), max_size=6))
def test_members_that_are_passed_over_are_where_they_are(sizes: list[int]) -> None:
    data = tar(
        *((entry(f"m{n}"), bytes([n + 1]) * size) for n, size in enumerate(sizes))
    )
    found = members(data, skip=True)
    assert found == members(data, skip=False)
    assert [size for _, _, size in found] == sizes
    for number, (_, offset, size) in enumerate(found):
        assert data[offset : offset + size] == bytes([number + 1]) * size


def test_passing_over_reads_next_to_nothing() -> None:
    data = tar((entry("large"), b"x" * (8 << 20)), (entry("small"), b"y"))
    limits = ArchiveLimits(total=1 << 20)
    stream = TarStream(io.BytesIO(data), limits, skip=True)
    found = [stream.next(), stream.next(), stream.next()]
    assert [header and header.name for header in found] == ["large", "small", None]


@pytest.mark.parametrize("size", [512, 1 << 19, (1 << 20) + 511, (1 << 20) + 512])
def test_a_member_that_is_cut_off_is_not_passed_over(size: int) -> None:
    data = tar((entry("large"), b"x" * (1 << 20)))
    with pytest.raises(UnsafeArchiveError, match="it ends early"):
        members(data[:size], skip=True)


def test_compressed_members_are_read() -> None:
    data = gzip.compress(tar((entry("a"), b"x" * 100_000), (entry("b"), b"y")))
    assert [name for name, _, _ in members(data, skip=True)] == ["a", "b"]
