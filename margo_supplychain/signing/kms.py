"""Keys in key services: AWS KMS, Google Cloud KMS, Azure Key Vault, Vault's transit.

securesystemslib signs; this module knows which of its signers a URI belongs to, and
turns what their libraries raise into one kind of error. The libraries are extras,
imported when such a key is used. Who may use a key is decided by the ambient
credentials of each service, as its own tools read them; nobody is asked for a PIN.

A URI may come from a `.pub` file that somebody else wrote, so each kind has a narrow
grammar: it names a key and never a host, except `azurekms:`, where the host must be a
vault of Azure. Otherwise a file could lead credentials to its author. For the same
reason a service must answer with the key that was asked for, Vault's token does not
follow a redirection, and what a library says of a failure is not repeated: it may hold
the very credentials that could not be sent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

import securesystemslib.signer
from securesystemslib.exceptions import Error as SecuresystemslibError
from securesystemslib.exceptions import UnsupportedLibraryError

from margo_supplychain.errors import SignerError
from margo_supplychain.formats import strict_json
from margo_supplychain.signing import vault
from margo_supplychain.signing.checked import CheckedSigner
from margo_supplychain.signing.keys import parse_public_key
from margo_supplychain.signing.opened import OpenedSigner
from margo_supplychain.signing.public_files import KeyRecord
from margo_supplychain.signing.redacting import redacted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securesystemslib.signer import Key, Signature, Signer, SSlibKey

# Of the error codes that services answer; no credential looks like that.
_CODE: Final = re.compile(r"[A-Za-z]{3,64}", re.ASCII)


class _Service(NamedTuple):
    """One kind of URI.

    Args:
        name: for people.
        signer: the class in `securesystemslib.signer`.
        extra: what to install.
        grammar: its groups are what `import_` takes, and `version`, which some need.
        form: the grammar for people.
        failures: what the service's libraries raise, as `module:class`.
        secrets: environment variables with what its library sends in headers.
    """

    name: str
    signer: str
    extra: str
    grammar: re.Pattern[str]
    form: str
    failures: tuple[str, ...]
    secrets: tuple[str, ...] = ()


_SERVICES: Final = {
    "awskms": _Service(
        "AWS KMS",
        "AWSSigner",
        "aws",
        re.compile(r"awskms:([A-Za-z0-9][A-Za-z0-9:/_-]{0,2047})", re.ASCII),
        "awskms:KEY-ID, awskms:alias/NAME or awskms:ARN",
        ("botocore.exceptions:BotoCoreError", "botocore.exceptions:ClientError"),
        (
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_SECURITY_TOKEN",
        ),
    ),
    "gcpkms": _Service(
        "Google Cloud KMS",
        "GCPSigner",
        "gcp",
        re.compile(
            r"gcpkms:(projects/[a-z0-9][a-z0-9.:-]*/locations/[A-Za-z0-9-]+/keyRings/"
            r"[A-Za-z0-9_-]+/cryptoKeys/[A-Za-z0-9_-]+/cryptoKeyVersions/[0-9]+)",
            re.ASCII,
        ),
        "gcpkms:projects/…/locations/…/keyRings/…/cryptoKeys/…/cryptoKeyVersions/N",
        (
            "google.api_core.exceptions:GoogleAPIError",
            "google.auth.exceptions:GoogleAuthError",
        ),
    ),
    "azurekms": _Service(
        "Azure Key Vault",
        "AzureSigner",
        "azure",
        re.compile(
            r"azurekms://([A-Za-z0-9-]{3,24})\.vault\.azure\.net/keys/"
            r"([A-Za-z0-9-]{1,127})(?:/(?P<version>[A-Za-z0-9]{1,64}))?",
            re.ASCII,
        ),
        "azurekms://VAULT.vault.azure.net/keys/NAME[/VERSION]",
        (
            "azure.core.exceptions:AzureError",
            "securesystemslib.signer._azure_signer:UnsupportedKeyType",
        ),
        ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID"),
    ),
    "hv": _Service(
        "Vault",
        "VaultSigner",
        "vault",
        re.compile(
            r"hv:([A-Za-z0-9_-][A-Za-z0-9_.-]{0,254})(?:/(?P<version>[0-9]{1,9}))?",
            re.ASCII,
        ),
        "hv:NAME[/VERSION]",
        ("hvac.exceptions:VaultError", "requests.exceptions:RequestException"),
        ("VAULT_TOKEN", "VAULT_NAMESPACE"),
    ),
}
# What upstream's code raises when a service answers something else than it expects.
_ALWAYS: Final = (
    SecuresystemslibError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)
# They say nothing of the service, only that its library was not prepared.
_UNPREPARED: Final = (
    "AttributeError",
    "IndexError",
    "KeyError",
    "RecursionError",
    "TypeError",
    "ValueError",
)


def look(uri: str) -> KeyRecord:
    """Return the public key of a service's key, and its URI with the key's version.

    Args:
        uri: without a version the newest one is meant, where the service has any.

    Raises:
        KeyFormatError: a key of a scheme that is not used here.
        SignerError: no such key, no credentials, no answer, or no library.
    """
    service, found = _parse(uri)
    asked = found.groupdict().get("version")
    arguments = [each for each in found.groups() if each is not None]
    _check_secrets(service)
    with _explained(service, uri, "read"):
        full, key = _signer_class(service).import_(
            *(arguments[:-1] if asked else arguments)
        )
    _check_answer(service, uri, found, full)
    if asked and full.rpartition("/")[2] != asked:
        raise SignerError(
            f"{service.name} shows the newest version of a key only, and {uri} is not "
            f"{full}",
            hint="give the .pub file in which the older one was recorded",
        )
    return KeyRecord(key=_normal(key, what=uri), uri=full)


def installed(uri: str) -> bool:
    """Tell whether this machine has the libraries for a service's key.

    Raises:
        SignerError: a URI that names no key.
    """
    service, _ = _parse(uri)
    return len(_failures(service)) == len(service.failures) + len(_ALWAYS)


def open_signer(uri: str, *, expect: Key | None = None) -> CheckedSigner:
    """Return the signer of a service's key.

    Args:
        uri: as for `look`.
        expect: its public key; the service is then asked nothing before it signs.

    Raises:
        KeyFormatError, SignerError: as `look`.
    """
    service, found = _parse(uri)
    versioned = "version" not in found.groupdict() or found["version"] is not None
    if expect is None or not versioned:
        record = look(uri)
        key, uri = record.key, record.uri or uri
    else:
        key = _normal(expect, what=uri)
    _check_secrets(service)
    with _explained(service, uri, "open"):
        signer: Signer = _signer_class(service).from_priv_key_uri(uri, key)
    return CheckedSigner(_ServiceSigner(signer, service, uri))


@final
class _ServiceSigner(OpenedSigner):
    """A signer whose failures are of one kind."""

    def __init__(self, signer: Signer, service: _Service, uri: str) -> None:
        self._signer = signer
        self._service = service
        self._uri = uri

    @property
    def public_key(self) -> Key:
        return self._signer.public_key

    def sign(self, payload: bytes) -> Signature:
        with _explained(self._service, self._uri, "sign with"):
            return self._signer.sign(payload)


def _parse(uri: str) -> tuple[_Service, re.Match[str]]:
    kind, _, _ = uri.partition(":")
    service = _SERVICES.get(kind.lower())
    found = None if service is None else service.grammar.fullmatch(uri)
    if service is None or found is None:
        form = "a key service" if service is None else service.form
        raise SignerError(
            f"key {redacted(uri)!r} is not of the form {form}",
            hint="take it from the key service's own page of the key",
        )
    return service, found


def _check_answer(
    service: _Service, uri: str, asked: re.Match[str], full: object
) -> None:
    """Check that a service answered with the key, and the place, that was asked for."""
    found = service.grammar.fullmatch(full) if isinstance(full, str) else None
    if found is not None:
        if "version" not in found.groupdict():
            if full == uri:
                return
        elif found["version"] is not None:
            # The version comes last; Azure's names are those of hosts.
            names = [
                [part.casefold() for part in each.groups()[:-1]]
                for each in (asked, found)
            ]
            if names[0] == names[1]:
                return
    raise SignerError(
        f"{service.name} answers with another key than {uri}",
        hint="it is not used; check the address that its library is led to",
    )


def _check_secrets(service: _Service) -> None:
    """Check that what goes into headers can, before a library says why it can't."""
    for name in service.secrets:
        value = os.environ.get(name, "")
        if value != value.strip() or not value.isprintable():
            raise SignerError(
                f"{name} has white space around it, or a control character in it",
                hint="set it again without the end of the line",
            )


def _signer_class(service: _Service) -> Any:  # each has another `import_`
    if service.signer == "VaultSigner":
        return vault
    return getattr(securesystemslib.signer, service.signer)


def _normal(key: Key, *, what: str) -> SSlibKey:
    """Return a key as all keys are here, with a computed id and a known scheme."""
    return parse_public_key(strict_json.canonical(key.to_dict()), what=what)


@contextmanager
def _explained(service: _Service, uri: str, verb: str) -> Iterator[None]:
    try:
        yield
    except UnsupportedLibraryError as why:
        raise SignerError(
            f"keys in {service.name} need a library that is not installed",
            hint=f"install it: pip install 'margo-supplychain[{service.extra}]'",
        ) from why
    except _failures(service) as why:
        raise SignerError(
            f"cannot {verb} key {uri}: {_reason(why)}",
            hint=f"check the key's name, the credentials and the region or address "
            f"that {service.name}'s own tools use",
        ) from why


def _failures(service: _Service) -> tuple[type[Exception], ...]:
    """Return what the service's libraries raise, as far as they are installed."""
    found: list[type[Exception]] = [*_ALWAYS]
    for each in service.failures:
        module, _, name = each.partition(":")
        try:
            found.append(getattr(import_module(module), name))
        except ImportError:
            continue
    return tuple(found)


def _reason(why: Exception) -> str:
    """Name a failure by its class and codes alone; see the module docstring."""
    name = type(why).__name__
    if name in _UNPREPARED:
        return f"an answer, or credentials, that its library can't use ({name})"
    said = [name]
    for each in _codes(why):
        if isinstance(each, int) and 100 <= each <= 599:
            said.append(str(int(each)))
        elif isinstance(each, str) and _CODE.fullmatch(each):
            said.append(each)
    return " ".join(said)


def _codes(why: Exception) -> Iterator[object]:
    """Return where the libraries of the services keep status and error code."""
    yield getattr(why, "status_code", None)  # Azure
    yield getattr(getattr(why, "error", None), "code", None)
    yield getattr(why, "code", None)  # Google
    answer = getattr(why, "response", None)
    if isinstance(answer, Mapping):  # Amazon
        for part, field in (("ResponseMetadata", "HTTPStatusCode"), ("Error", "Code")):
            inner = answer.get(part)
            yield inner.get(field) if isinstance(inner, Mapping) else None
