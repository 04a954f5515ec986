"""What a build was made from, as SLSA provenance says: all of it.

Rules name the repositories that a release may be built from, so nothing that was taken
is left out: what can't be read is an error, and what is not known to be a package or an
image counts as a source, by its address. Which revision was taken is not judged, but
for those of forks, which are told by their names.

Example:
    >>> repository("git+https://github.com/acme/pump.git@refs/tags/v1")
    'https://github.com/acme/pump'
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from margo_supplychain.errors import StatementFormatError
from margo_supplychain.formats.plain_text import quoted
from margo_supplychain.formats.predicates import PROVENANCE, PROVENANCE_V02
from margo_supplychain.provenance.foreign_json import object_in, objects_in, text_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from margo_supplychain.formats.statements import Statement

__all__ = ["repository", "sources_of"]

# What build types call the repository that a build was started from: SLSA's own
# example, GitLab's, GitHub's workflow, Google's, and older ones.
_PARAMETERS: Final = (
    "repository",
    "source",
    "workflow",
    "buildConfigSource",
    "configSource",
)
# Of these, what may also be a file's path in the repository that another one names.
_MAY_BE_PATHS: Final = frozenset(_PARAMETERS[2:])
_PATH: Final = re.compile(
    r"(?!/|.*\.\.)[A-Za-z0-9._/-]+\.(?:ya?ml|json|toml)", re.ASCII
)
_ADDRESSES: Final = ("repository", "uri", "url")
# What may stand beside an address, and says nothing of another one.
_BESIDE: Final = frozenset({"path", "ref", "entryPoint"})
# Names of what says something else of a repository than where it is.
_IS_BESIDE: Final = re.compile(
    r"(?:path|dir|directory|context|entry_?point|ref|branch|tag|commit|revision|sha"
    r"|depth)\Z",
    re.ASCII | re.IGNORECASE,
)
_NO_ADDRESS: Final = re.compile(r"true|false|[0-9]*", re.ASCII | re.IGNORECASE)
# What anybody may put into somebody else's repository.
_OF_FORKS: Final = re.compile(
    r"(?:\A|[@#?&=:])/?(?:refs/)?(?:pull|merge-requests)/[0-9]",
    re.ASCII | re.IGNORECASE,
)
# Names of parameters that other build types have for repositories.
_SOUNDS_LIKE_ONE: Final = re.compile(
    r"repo(?!rt)|source|checkout|scm|vcs|upstream|fork|git(?!lab|hub)", re.ASCII
)
_IS_GIT: Final = re.compile(
    r"git[+:]|(?:[a-z0-9+.-]*\+)?ssh:|[^/?#@]+@(?!sha[0-9])[^/?#@:]+:|[^?#]*\.git/?(?:[@?#]|\Z)",
    re.ASCII | re.IGNORECASE,
)
_GIT: Final = "git+"
_PACKAGE: Final = re.compile(r"pkg:/*([a-z][a-z0-9.+-]*)/", re.ASCII | re.IGNORECASE)
_IMAGE: Final = re.compile(
    r"(?:oci|docker|docker-image):(?:/{2})?(?!.*(?:://|\.git(?:[/:@]|\Z)))"
    r"[a-z0-9][a-z0-9._:/-]*(?:@sha(?:256|384|512):[0-9a-f]+)?",
    re.ASCII | re.IGNORECASE,
)
# Package URLs of these types are repositories, or whatever anybody likes.
_REPOSITORIES: Final = frozenset({"github", "gitlab", "bitbucket", "generic"})
_ORIGINS: Final = frozenset({"vcs_url", "download_url"})
# What in a query chooses a revision; anything else may choose the repository.
_REVISIONS: Final = frozenset({"ref", "rev", "branch", "tag", "commit", "depth"})
# A dot, a slash, a backslash, `@`, `%`, `?` and `#` that are not to be seen as such.
_HIDDEN: Final = re.compile(r"%(?:2[ef]|5c|40|25|3f|23|[01][0-9a-f])", re.IGNORECASE)


def sources_of(statement: Statement) -> tuple[str, ...]:
    """Return everything that a build was made from, sorted; packages and images not.

    Each as `repository` writes it: where the build was started from, and what it took
    besides. Empty for a statement that names none.

    Raises:
        StatementFormatError: provenance that names something in a way that can't be
            read, or has fields of another type than SLSA says.
    """
    what, predicate = "provenance", statement.predicate
    found: list[str] = []
    if statement.predicate_type == PROVENANCE:
        definition = object_in(predicate, "buildDefinition", what=what)
        parameters = object_in(definition, "externalParameters", what=what)
        for name in _PARAMETERS:
            found += _named(parameters.get(name), name, f"{what}.{name}")
        taken = objects_in(definition, "resolvedDependencies", what=what)
    elif statement.predicate_type == PROVENANCE_V02:
        invocation = object_in(predicate, "invocation", what=what)
        parameters = object_in(invocation, "parameters", what=what)
        config = object_in(invocation, "configSource", what=what)
        found += _named(config, "configSource", f"{what}.configSource")
        taken = objects_in(predicate, "materials", what=what)
    else:
        return ()
    found += _hinted(parameters, f"{what}.parameters")
    for one in taken:
        found += _taken(one, what)
    return tuple(sorted({repository(_readable(one, what)) for one in found}))


def repository(uri: str) -> str:
    """Return a repository's address as rules compare it.

    Without `git+` and what goes with it, `@<revision>`; without `#<revision>`, a query
    that chooses a revision, `.git` and a slash at the end, and with scheme and host in
    lower case (SPDX's and pip's `git+` URLs).
    """
    plain, _, query = uri.strip().partition("#")[0].partition("?")
    is_git = plain[: len(_GIT)].lower() == _GIT
    plain = plain[len(_GIT) :] if is_git else plain
    scheme, colon, rest = plain.partition("://")
    host, slash, path = rest.partition("/")
    if colon and slash:
        # A revision may hold slashes: refs/heads/main.
        path = path.partition("@")[0] if is_git else path
        path = path.rstrip("/").removesuffix(".git").rstrip("/")
        plain = f"{scheme.lower()}://{host.lower()}/{path}"
    elif plain[:4].lower() == "pkg:":
        plain, query = plain.partition("@")[0], ""
    chosen = [
        one
        for one in query.split("&")
        if one and (";" in one or one.partition("=")[0].lower() not in _REVISIONS)
    ]
    return f"{plain}?{'&'.join(chosen)}" if chosen else plain


def _readable(uri: str, what: str) -> str:
    """Return an address that means what it looks like.

    Raises:
        StatementFormatError: it goes up, or hides that it does; or leads to a fork.
    """
    is_odd = not uri.isprintable() or "\\" in uri or _HIDDEN.search(uri) is not None
    goes_up = not {".", ".."}.isdisjoint(re.split(r"[/@:]", uri))
    path = uri.partition("://")[2].partition("/")[2]
    is_split = uri.lower().startswith(_GIT) and ("/@" in uri or path.count("@") > 1)
    # check 4.57: what is cut off as a revision may lead to another repository
    if is_odd or goes_up or is_split:
        raise StatementFormatError(
            f"{what} names the source {quoted(uri)}, which may be another one than it "
            "looks like"
        )
    _require_own(uri, what)
    return uri


def _require_own(text: str, what: str) -> None:
    """Refuse what somebody else has put into a repository.

    Raises:
        StatementFormatError: it is a fork's.
    """
    # check 4.125: a proposal of anybody's lies under the address of the repository
    if _OF_FORKS.search(text):
        raise StatementFormatError(
            f"{what} names {quoted(text)}, which anybody may have proposed"
        )


def _named(value: object, name: str, what: str) -> Iterator[str]:
    """Yield where a parameter that is known says that a build was started from.

    Raises:
        StatementFormatError: it says so in a way that is not known.
    """
    if isinstance(value, str):
        text = value.strip()
        if text and not (name in _MAY_BE_PATHS and _PATH.fullmatch(text)):
            yield text
    elif isinstance(value, dict):
        places = [text_in(value, one, what=what) for one in _ADDRESSES]
        if not any(places) and not _BESIDE.issuperset(value):
            raise StatementFormatError(
                f"{what} has no {', '.join(_ADDRESSES[:-1])} or {_ADDRESSES[-1]}"
            )
        yield from filter(None, places)
    elif value is not None:
        raise StatementFormatError(f"{what} is neither text nor an object")


def _hinted(parameters: Mapping[str, Any], what: str) -> Iterator[str]:
    """Yield what may be a repository among parameters of any name and depth.

    Raises:
        StatementFormatError: a parameter names the revision of a fork.
    """
    waiting: list[tuple[str, Any, bool]] = [("", parameters, False)]
    while waiting:
        name, value, is_one = waiting.pop()
        if isinstance(value, dict):
            for key, inner in value.items():
                if _is_address(key):
                    yield key.strip()
                sounds = _SOUNDS_LIKE_ONE.search(key.lower()) is not None
                waiting.append((key, inner, is_one or sounds))
        elif isinstance(value, list):
            waiting += ((name, inner, is_one) for inner in value)
        elif isinstance(value, str):
            text = value.strip()
            _require_own(text, what)
            is_told = is_one and not _says_something_else(name, text)
            # check 4.126 (instead: pass): what may be an address is one, whatever its
            # parameter is called
            if is_told or _is_address(text):
                yield text


def _is_address(text: str) -> bool:
    return "://" in text or _IS_GIT.match(text.strip()) is not None


def _says_something_else(name: str, text: str) -> bool:
    """Tell whether a repository's parameter says anything else than where it is."""
    is_path = name in _MAY_BE_PATHS and _PATH.fullmatch(text) is not None
    is_beside = _IS_BESIDE.search(name) is not None
    return is_path or is_beside or _NO_ADDRESS.fullmatch(text) is not None


def _taken(value: Mapping[str, Any], what: str) -> Iterator[str]:
    """Yield the addresses of what a build took, unless it is a package or an image.

    Raises:
        StatementFormatError: it has none.
    """
    uris = [text_in(value, one, what=what) for one in ("uri", "downloadLocation")]
    digests = object_in(value, "digest", what=what)
    if not any(uris):
        raise StatementFormatError(
            f"{what} says that something was taken, and not from where"
        )
    # in-toto's DigestSet: gitCommit, gitTree, gitBlob and gitTag.
    is_git = any(one.lower().startswith("git") for one in digests)
    for uri in filter(None, uris):
        kind = _PACKAGE.match(uri)
        # check 4.127 (instead: pass): only what is nothing else is a package or image
        if is_git or not (kind or _IMAGE.fullmatch(uri)):
            yield uri
        elif kind is not None:
            yield from _of_package(uri, kind[1].lower())


def _of_package(uri: str, kind: str) -> Iterator[str]:
    query = uri.partition("#")[0].partition("?")[2]
    if kind in _REPOSITORIES:
        yield uri
    for one in query.split("&"):
        name, _, value = one.partition("=")
        if name.lower() in _ORIGINS and value:
            yield unquote(value)
