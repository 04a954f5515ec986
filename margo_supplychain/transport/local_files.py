"""Files that a local source names, opened as what they are: unverified, maybe hostile.

Only regular files are opened: a pipe or device would hang the reader, and a link as the
last step would show a file that is none of the source's.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from margo_supplychain.errors import FetchError, StorageError
from margo_supplychain.storage.durable import open_regular
from margo_supplychain.transport.bounded import BoundedStream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor


def open_untrusted(path: Path, *, root: Path) -> BinaryIO:
    """Open a file that a source names.

    Args:
        path: the file.
        root: the directory without which the whole source is unreachable.

    Raises:
        FetchError: not there (`missing`), no source there (`unreachable`), not a
            regular file, or not readable.
    """
    try:
        return open_regular(path, follow=False)
    except FileNotFoundError as why:
        reachable = root.is_dir()
        raise FetchError(
            f"{path} does not exist" if reachable else f"{root} is not a directory",
            url=str(path),
            missing=reachable,
            unreachable=not reachable,
        ) from why
    except StorageError as why:
        raise FetchError(str(why), url=str(path)) from why


@contextmanager
def open_content(
    path: Path, what: Descriptor, *, start: int, root: Path
) -> Iterator[BinaryIO]:
    """Open a file that should be `what` from byte `start`, bounded by its size.

    Raises:
        FetchError: as `open_untrusted`, or the file is shorter than `start`.
    """
    url = str(path)
    with open_untrusted(path, root=root) as file:
        if os.fstat(file.fileno()).st_size < start:
            raise FetchError(f"{url} has fewer than {start} bytes", url=url)
        file.seek(start)
        # typeshed: BinaryIO does not tell of readinto, which every real file has.
        read_into = file.readinto  # type: ignore[attr-defined]  # BinaryIO does not name it
        stream = BoundedStream(read_into, left=what.size - start, url=url)
        yield stream.as_binary()
