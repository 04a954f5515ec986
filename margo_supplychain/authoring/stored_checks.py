"""What a device would say of a release's content, before anybody signs the release.

The checks need files. What lies in a layout on disk is looked at there; anything else
is fetched first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.authoring.fetched import FetchedContent
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import VerificationError
from margo_supplychain.storage.content_store import ContentStore
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.transport.oci_layout import LayoutSource
from margo_supplychain.verify.content_checks import check_stored

if TYPE_CHECKING:
    from margo_supplychain.authoring.place import Progress
    from margo_supplychain.authoring.work import NewRelease


def check_release(new: NewRelease, *, progress: Progress | None = None) -> None:
    """Refuse a release whose content no device would take.

    Raises:
        VerificationError: a device would refuse it.
        BudgetError: it is beyond the limits of devices.
        FetchError, StorageError: a part is missing, or can't be read.
    """
    record, release = new
    source = release.source
    if isinstance(source, (DirectorySource, LayoutSource)):
        store = ContentStore(source.directory)
    else:
        fetched = FetchedContent()
        for top in release.tops():
            fetched.fetch(source, top, shown=top.digest.short, progress=progress)
        store = fetched.store
    try:
        check_stored(record, store, limits=LIMITS, elsewhere=release.elsewhere)
    except VerificationError as why:
        why.hint = "nothing was published: every device would refuse the release"
        raise
