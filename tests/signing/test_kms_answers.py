"""Key services that answer with something else, and libraries that say too much."""

from __future__ import annotations

from typing import Any

import pytest
import securesystemslib.signer

from margo_supplychain.errors import SignerError
from margo_supplychain.signing import kms
from tests.signing.services import AZURE, AZURE_FULL, GCP, Cloud


@pytest.mark.parametrize(
    "full",
    [
        "azurekms://attacker.vault.azure.net/keys/release/1",
        "azurekms://attacker.example/keys/release/1",
        f"{AZURE}s/1",
        AZURE,
        f"{AZURE}/1\n\x1b[31muri: x",
        "hv:release/1",
        "",
        7,
    ],
)
def test_an_answer_that_is_another_key(
    monkeypatch: pytest.MonkeyPatch, full: object
) -> None:
    cloud = Cloud(full)
    monkeypatch.setattr(securesystemslib.signer, "AzureSigner", cloud)
    for use in (kms.look, kms.open_signer):
        with pytest.raises(SignerError, match="answers with another key") as caught:
            use(AZURE)
        assert str(caught.value).isprintable()
    assert cloud.calls == [("acme", "release")] * 2  # nothing was opened
    for again in (AZURE_FULL, AZURE_FULL.replace("acme", "ACME")):
        monkeypatch.setattr(securesystemslib.signer, "AzureSigner", Cloud(again))
        assert kms.look(AZURE).uri == again


@pytest.mark.parametrize(
    ("uri", "name", "full"),
    [
        ("awskms:alias/a", "AWSSigner", "awskms:alias/b"),
        (GCP, "GCPSigner", f"{GCP}0"),
    ],
)
def test_a_library_that_names_another_key(
    monkeypatch: pytest.MonkeyPatch, uri: str, name: str, full: str
) -> None:
    monkeypatch.setattr(securesystemslib.signer, name, Cloud(full))
    with pytest.raises(SignerError, match=f"answers with another key than {uri}"):
        kms.look(uri)


class AnsweredError(ValueError):
    """Stands for what a service's library raises."""

    def __init__(self, **found: Any) -> None:
        super().__init__("the header X-Token: SECRET can't be sent")
        for name, value in found.items():
            setattr(self, name, value)


@pytest.mark.parametrize(
    ("why", "said"),
    [
        (AnsweredError(), "AnsweredError"),
        (AnsweredError(status_code=403), "AnsweredError 403"),
        (AnsweredError(code=404), "AnsweredError 404"),
        (
            AnsweredError(
                response={
                    "ResponseMetadata": {"HTTPStatusCode": 400},
                    "Error": {"Code": "NotFoundException", "Message": "SECRET"},
                }
            ),
            "AnsweredError 400 NotFoundException",
        ),
        (AnsweredError(response={"Error": {"Code": "hvs.SECRET"}}), "AnsweredError"),
        (AnsweredError(response={"Error": ["SECRET"]}, code=10**9), "AnsweredError"),
        (ValueError("b'SECRET'"), "an answer, .* its library can't use .ValueError."),
    ],
)
def test_failures_are_named_without_what_they_say(
    monkeypatch: pytest.MonkeyPatch, why: Exception, said: str
) -> None:
    cloud = Cloud(GCP)
    monkeypatch.setattr(securesystemslib.signer, "GCPSigner", cloud)

    def fails(*_: str) -> Any:
        raise why

    monkeypatch.setattr(cloud, "import_", fails)
    with pytest.raises(SignerError, match=f"cannot read key {GCP}: {said}$") as caught:
        kms.look(GCP)
    assert "SECRET" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("hv:release", "VAULT_TOKEN"),
        ("awskms:alias/a", "AWS_SESSION_TOKEN"),
        ("awskms:alias/a", "AWS_ACCESS_KEY_ID"),
        (AZURE, "AZURE_CLIENT_ID"),
    ],
)
@pytest.mark.parametrize("value", ["hvs.x\n", " hvs.x", "hvs.\nx", "hvs.x\r"])
def test_credentials_that_can_not_be_sent(
    monkeypatch: pytest.MonkeyPatch, uri: str, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SignerError, match=f"^{name} has white space") as caught:
        kms.look(uri)
    assert "hvs." not in f"{caught.value} {caught.value.hint}"
