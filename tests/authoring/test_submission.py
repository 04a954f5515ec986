from __future__ import annotations

import hashlib
import tarfile
from typing import TYPE_CHECKING

from margo_supplychain.authoring.submission_file import (
    is_submission,
    open_submission,
    submission_size,
)
from tests.authoring.submissions import submission, tar_of

if TYPE_CHECKING:
    from pathlib import Path


def test_submission_is_the_same_after_a_round_trip(tmp_path: Path) -> None:
    one = submission(blobs=[b"layer", b"", b"x" * 3000], note="the first")
    path = tmp_path / "one.tar"
    path.write_bytes(tar_of(one))
    with open_submission(path) as again:
        assert again.unsigned() == one.unsigned()
        assert [x.data for x in again.roles] == [x.data for x in one.roles]
        for what in again.content:
            with again.source.blob(what) as stream:
                assert hashlib.sha256(stream.read()).hexdigest() == what.digest.hex
        assert tar_of(again) == tar_of(one)
    assert path.stat().st_size == submission_size(one)
    assert is_submission(path.read_bytes()[:64])
    with tarfile.open(path) as tar:
        assert tar.getnames()[0] == "submission.json"
