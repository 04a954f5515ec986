"""What a registry's answers mean: absent, not allowed, not in this form, not now.

Pure. Bodies and headers are unverified: a registry's own words come into messages only
when they are short and printable.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

from margo_supplychain.errors import (
    FetchError,
    FormatError,
    ManifestRefusedError,
    OciFormatError,
    RefusedError,
)
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.digests import Digest
from margo_supplychain.transport.oci_registry.tokens import login_hint

if TYPE_CHECKING:
    from margo_supplychain.transport.exchange import Answer

_MAX_ERRORS: Final = 64 << 10
_MAX_URL: Final = 8 << 10
_CODE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII)
_NEXT: Final = re.compile(r'<([^<>]{1,8192})>\s*;[^,]*\brel="?next"?', re.IGNORECASE)
_NOT_ALLOWED: Final = frozenset({"UNAUTHORIZED", "DENIED"})
_FORM: Final = frozenset(
    {"MANIFEST_INVALID", "UNSUPPORTED", "MANIFEST_UNVERIFIED", "NAME_INVALID"}
)
_IMMUTABLE: Final = re.compile("immutab|overwrit|already exists", re.IGNORECASE)


def codes(answer: Answer) -> tuple[str, ...]:
    """Return the error codes of an answer; none if it names none that are codes."""
    return tuple(
        code
        for one in _errors(answer)
        if isinstance(code := one.get("code"), str) and _CODE.fullmatch(code)
    )


def is_absent(answer: Answer) -> bool:
    """Say whether the registry answered that there is no such thing."""
    if answer.status not in {404, 410}:
        return False
    # Some hide what one may not see; that is no answer about what is there.
    said = set(codes(answer))
    return not said or not said <= _NOT_ALLOWED


def failure(answer: Answer, *, host: str, what: str) -> FetchError:
    """Return the error for an answer that is not the wanted one.

    Args:
        answer: with its unverified body.
        host: of the registry.
        what: names the thing that was asked for, with its URL.
    """
    status, hint = answer.status, None
    missing = is_absent(answer)
    text = "does not exist" if missing else f"answered {status}"
    if not codes(answer) or status in {401, 403}:
        hint = hint_of(status, answer.url, host=host)
    if 300 <= status < 400:
        text = f"answered {status} and sends its clients elsewhere, which is refused"
        hint = "name the registry by the host that it really has"
    return FetchError(
        f"{what} {text}{said(answer)}",
        url=what,
        status=status,
        missing=missing,
        hint=hint,
    )


def hint_of(status: int | None, url: str, *, host: str) -> str | None:
    """Return what a person can do about a status, where that is known.

    Args:
        url: what was asked; of the registry, with its scheme.
        host: of the registry, as an oci:// URL has it.
    """
    if status in {401, 403}:
        return login_hint(host)
    if status == 400 and url.startswith("http://"):
        # What servers in Go, and nginx, say to who speaks http where they speak TLS.
        return (
            f'it may speak TLS: set ca_file for it in [registry."{host}"], and no '
            "plain_http"
        )
    return None


def push_failure(answer: Answer, *, host: str, what: str) -> FetchError | RefusedError:
    """Return the error for a manifest that was not taken; names the setting."""
    status = answer.status
    words = said(answer)
    if status in {400, 403, 405, 409, 412} and _IMMUTABLE.search(words):
        return RefusedError(
            f"{what} is not replaced{words}",
            hint="let tags move in the registry's settings, or take them out of its "
            "tag immutability: `timestamp` has to move",
        )
    if status in {400, 405, 406, 415, 422} and (
        status in {406, 415} or not codes(answer) or set(codes(answer)) & _FORM
    ):
        return ManifestRefusedError(
            f"{what} was refused with {status}{words}",
            url=what,
            status=status,
            hint="let the registry take OCI artifacts: Quay's FEATURE_GENERAL_OCI_"
            "SUPPORT or ALLOWED_OCI_ARTIFACT_TYPES, or a repository of OCI format",
        )
    if status == 413:
        return RefusedError(
            f"{what} is too large for the registry, or for a proxy before it{words}",
            hint="raise its limit of a request's body (nginx: client_max_body_size)",
        )
    return failure(answer, host=host, what=what)


def delete_failure(
    answer: Answer, *, host: str, what: str
) -> FetchError | RefusedError:
    """Return the error for what was not deleted; names the setting."""
    if answer.status == 405 or "UNSUPPORTED" in codes(answer):
        return RefusedError(
            f"{what} can't be deleted: {host} answered {answer.status}{said(answer)}",
            hint="let the registry delete (docker-registry: storage.delete.enabled)",
        )
    return failure(answer, host=host, what=what)


def said(answer: Answer) -> str:
    """Return the registry's own words as an end of a message, or nothing."""
    for one in _errors(answer):
        code, message = one.get("code"), one.get("message")
        texts = [
            text
            for text in (code, message)
            if isinstance(text, str) and text and text.isprintable()
        ]
        if texts:
            return f": {' '.join(texts)[:160]}"
    return ""


def check_digest_header(answer: Answer, found: Digest, *, what: str) -> None:
    """Compare `Docker-Content-Digest`, when it is there, with our own digest.

    Args:
        found: of the bytes that were sent or received.

    Raises:
        FetchError: the header says something else.
    """
    text = answer.headers.get("Docker-Content-Digest")
    if text is None:
        return
    try:
        stated = Digest.parse(text.strip())
    except OciFormatError as why:
        raise FetchError(f"{what} came with no digest: {why}", url=what) from why
    # Another algorithm than ours is not comparable without the bytes.
    if stated.algorithm == found.algorithm and stated != found:
        raise FetchError(
            f"{what} has the digest {found}, but its header says {stated}", url=what
        )


def location(answer: Answer, *, origin: str, what: str) -> str:
    """Return the URL that an upload goes on at.

    Args:
        origin: `https://host:port` of the registry; nobody else gets the bytes.

    Raises:
        FetchError: there is none, or it is somewhere else.
    """
    given = answer.headers.get("Location", "")
    to = _join(answer.url, given)
    if to is None or not given:
        raise FetchError(f"{what} came with no usable Location", url=what)
    if same_origin(to, origin):
        return to
    # Not repeated as a whole: it may carry somebody's credentials.
    parts = urlsplit(to)
    there = f"{parts.scheme}://{(parts.hostname or '')[:80]}"
    raise FetchError(
        f"{what} would go on at {there}, expected {origin}",
        url=what,
        hint="the registry must name itself by the URL that clients use: set its "
        "http.host, or X-Forwarded-Proto and -Host in the proxy before it",
    )


def next_page(answer: Answer, *, origin: str, what: str) -> str | None:
    """Return the URL of a list's next page, if there is one.

    Raises:
        FetchError: it is at another origin.
    """
    found = _NEXT.search(answer.headers.get("Link", "")[:_MAX_URL])
    if found is None:
        return None
    to = _join(answer.url, found[1])
    if to is None or not same_origin(to, origin):
        raise FetchError(
            f"{what} goes on at another origin, expected {origin}", url=what
        )
    return to


def same_origin(url: str, origin: str) -> bool:
    """Say whether a URL is one of `origin`, without credentials in it."""
    return url.startswith(f"{origin}/")


def _join(base: str, given: str) -> str | None:
    if len(given) > _MAX_URL or not given.isascii() or not given.isprintable():
        return None
    try:
        parts = urlsplit(urljoin(base, given))
        port = parts.port
    except ValueError:
        return None
    if "@" in parts.netloc or " " in given:
        return None
    usual = {"https": 443, "http": 80}.get(parts.scheme)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    netloc = host if port in {None, usual} else f"{host}:{port}"
    # One spelling of a host's top: a query may follow it without a slash.
    path = parts.path or "/"
    return parts._replace(netloc=netloc, path=path, fragment="").geturl()


def _errors(answer: Answer) -> list[dict[str, Any]]:
    if len(answer.body) > _MAX_ERRORS or not answer.body.startswith(b"{"):
        return []
    try:
        members = strict_json.parse(answer.body, what="it", limit=_MAX_ERRORS)
    except FormatError:
        return []
    found = members.get("errors")
    if not isinstance(found, list):
        return []
    return [one for one in found[:8] if isinstance(one, dict)]
