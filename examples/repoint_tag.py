# ruff: noqa: INP001  (a script, not a package)
"""What whoever runs a registry can do with a tag: look what it names, and move it.

    python repoint_tag.py HOST:PORT/REPOSITORY TAG            prints the digest
    python repoint_tag.py HOST:PORT/REPOSITORY TAG sha256:…   moves the tag there

The attacker of `quickstart.sh --registry`: plain http, no login.
"""

from __future__ import annotations

import hashlib
import sys
from http.client import HTTPConnection, HTTPException

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
PATIENCE = 10  # seconds


def manifest(repository: str, reference: str, new: bytes | None = None) -> bytes:
    """Return the bytes of a manifest, or put new ones there.

    Raises:
        OSError: no registry answers, or it answers with an error.
    """
    host, _, path = repository.partition("/")
    connection = HTTPConnection(host, timeout=PATIENCE)
    try:
        connection.request(
            "GET" if new is None else "PUT",
            f"/v2/{path}/manifests/{reference}",
            body=new,
            headers={"Accept": MANIFEST, "Content-Type": MANIFEST},
        )
        answer = connection.getresponse()
        data = answer.read()
    except HTTPException as why:
        raise OSError(f"{host} does not speak HTTP") from why
    finally:
        connection.close()
    if answer.status not in (200, 201):
        raise OSError(f"{host} answers {answer.status} for {path}:{reference}")
    return data


def main(repository: str, tag: str, digest: str | None = None) -> str:
    """Move the tag, if a digest is given, and return what it names."""
    if digest is not None:
        manifest(repository, tag, manifest(repository, digest))
    return f"sha256:{hashlib.sha256(manifest(repository, tag)).hexdigest()}"


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    try:
        sys.stdout.write(f"{main(*sys.argv[1:])}\n")
    except OSError as why:
        sys.exit(f"error: {why}")
