from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from margo_supplychain.errors import ApplicationFormatError
from margo_supplychain.formats.compose import (
    ComposeFile,
    ImageReference,
    images_of,
    parse_compose,
)
from margo_supplychain.formats.digests import Digest
from tests.fixtures import PACKAGES, component_files

DIGEST = Digest.of(b"image")


def read(text: str, *files: str) -> ComposeFile:
    return parse_compose(text.encode(), files=files)


def with_web(line: str) -> str:
    return f"services:\n  web:\n    image: registry.example/web:1\n{line}"


# --- what is fine --------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", sorted(PACKAGES.glob("*/components/*/compose.yaml")), ids=str
)
def test_the_fixtures_components(path: object) -> None:
    directory = next(
        one.parent
        for one in PACKAGES.glob("*/components/*/compose.yaml")
        if one == path
    )
    files = component_files(directory)
    found = parse_compose(files["compose.yaml"], files=files)
    assert found.images
    assert found.warnings == ()
    assert bool(found.gaps) == (directory.name == "guard-stack")


def test_the_images_of_services() -> None:
    text = f"""\
services:
  web: {{image: "registry.example:5000/acme/web:1.2.0"}}
  cache: {{image: valkey}}
  job: {{image: "registry.example/acme/job:1@{DIGEST}"}}
"""
    assert images_of(text.encode()) == (
        ImageReference(
            service="web",
            reference="registry.example:5000/acme/web:1.2.0",
            digest=None,
            variables=(),
        ),
        ImageReference(service="cache", reference="valkey", digest=None, variables=()),
        ImageReference(
            service="job",
            reference=f"registry.example/acme/job:1@{DIGEST}",
            digest=DIGEST,
            variables=(),
        ),
    )


def test_merge_keys_and_extension_fields() -> None:
    text = """\
x-base: &base {image: "registry.example/base:1"}
services:
  a: {<<: *base, restart: always}
  b: {<<: *base, image: "registry.example/b:1"}
"""
    assert [one.reference for one in images_of(text.encode())] == [
        "registry.example/base:1",
        "registry.example/b:1",
    ]


@pytest.mark.parametrize(
    ("image", "variables"),
    [
        ("${IMAGE}", ("${IMAGE}",)),
        ("registry.example/web:${TAG:-1.0}", ("${TAG:-1.0}",)),
        ("$REGISTRY/web:${TAG?no tag}", ("$REGISTRY", "${TAG?no tag}")),
        ("registry.example/web:${TAG", ("${TAG",)),
    ],
)
def test_variables_in_images_are_said_aloud(
    image: str, variables: tuple[str, ...]
) -> None:
    found = read(f"services: {{web: {{image: '{image}'}}}}")
    assert found.images[0].variables == variables
    assert found.images[0].digest is None
    assert found.gaps == (
        f'services.web.image "{image}" depends on {", ".join(variables)}',
    )


def test_other_files_are_said_aloud() -> None:
    text = """\
include: [other.yaml]
services:
  web:
    extends: {file: base.yaml, service: web}
  job:
    extends: web
"""
    found = read(text)
    assert found.images == ()
    assert found.gaps == (
        "include brings in services of other files",
        'services.web extends a service of "base.yaml"',
    )


def test_an_image_that_is_mounted_is_an_image() -> None:
    text = with_web(
        """\
    volumes:
      - data:/data
      - {type: bind, source: ./config, target: /config}
      - {type: image, source: "registry.example/acme/models:3", target: /models}
"""
    )
    assert [(one.service, one.reference) for one in images_of(text.encode())] == [
        ("web", "registry.example/acme/models:3"),
        ("web", "registry.example/web:1"),
    ]
    assert read(text).gaps == ()
    with pytest.raises(ApplicationFormatError, match=r"volumes.0..source is missing"):
        read(with_web("    volumes: [{type: image}]\n"))


@pytest.mark.parametrize(
    ("text", "gap"),
    [
        (
            with_web("models: {llm: {model: ai/small}}\n"),
            "models brings in models, which are no pinned images",
        ),
        (with_web("agents: {}\n"), "agents is nothing that this version knows"),
        (
            with_web("    pull_policy: build\n    build: .\n"),
            "services.web may be built on the device: pull_policy",
        ),
        (
            with_web("    pull_policy: ${POLICY}\n"),
            "services.web may be built on the device: pull_policy",
        ),
        (
            with_web("    provider: {type: awesomecloud}\n"),
            "services.web is run by a provider outside of Compose",
        ),
    ],
)
def test_what_else_may_run_is_said_aloud(text: str, gap: str) -> None:
    assert read(text).gaps == (gap,)


@pytest.mark.parametrize(
    "file",
    [
        "compose.yml",
        "compose.override.yaml",
        "docker-compose.yml",
        "docker-compose.override.yml",
    ],
)
def test_another_compose_file_is_said_aloud(file: str) -> None:
    found = read(with_web(""), "compose.yaml", file, f"config/{file}")
    assert found.gaps == (f"{file} beside it may change what runs",)


def test_variables_that_name_other_files_are_said_aloud() -> None:
    data = with_web("").encode()
    gap = (".env beside it may name other Compose files",)
    for environment, gaps in (
        (None, gap),
        (b"COMPOSE_FILE=other.yaml\n", gap),
        (b"WEB_PORT=8080\n", ()),
    ):
        found = parse_compose(data, files=[".env"], environment=environment)
        assert found.gaps == gaps


def test_a_service_that_extends_one_of_its_file() -> None:
    text = """\
services:
  web: {image: "registry.example/web:1"}
  more: {extends: {service: web}}
"""
    assert read(text).gaps == ()


def test_an_image_beside_build_is_used() -> None:
    found = read(with_web("    build: .\n"))
    assert found.warnings == (
        (
            "compose.yaml:4:5: services.web.build is ignored: the image is "
            '"registry.example/web:1"'
        ),
    )


def test_files_that_a_service_needs() -> None:
    text = with_web(
        "    env_file: [./env/a.env, {path: env/b.env}, {path: c.env, required: false}]"
        "\nconfigs: {one: {file: ./conf/one.toml}, two: {content: x}}\n"
        "secrets: {three: {environment: TOKEN}}\n"
    )
    found = read(text, "env/a.env", "env/b.env", "conf/one.toml")
    assert found.files == ("env/a.env", "env/b.env", "c.env", "conf/one.toml")
    assert parse_compose(text.encode(), files=None).files == found.files
    assert read(with_web("    env_file: a.env\n"), "a.env").files == ("a.env",)
    assert read(with_web("    env_file:\n")).files == ()


# --- refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("- a", "compose.yaml:1:1: the document is a list, expected a mapping"),
        ("a: 1", "compose.yaml:1:1: services is missing, expected a mapping"),
        ("services: []", "1:11: services is a list, expected a mapping"),
        ("services: {}", "1:11: services is a mapping, expected at least one service"),
        ("services: {web: 1}", "1:17: services.web is 1, expected a mapping"),
        ("services: {web: {}}", "1:12: services.web names no image"),
        (
            "services: {web: {build: .}}",
            "1:18: services.web is built on the device, expected an image",
        ),
        ("services: {web: {image: 5}}", "1:25: services.web.image is 5, expected text"),
        (
            "services: {web: {image: a b}}",
            '1:25: services.web.image is "a b", expected an image reference like',
        ),
        (
            "services: {web: {image: 'a@sha256:1'}}",
            "services.web.image: digest 'sha256:1' is not",
        ),
        (
            "services: {web: {extends: other}}",
            '1:27: services.web.extends is "other", expected a service of this file',
        ),
        (
            "services: {web: {extends: {}}}",
            "1:27: services.web.extends is a mapping, expected a service",
        ),
        (
            with_web("    env_file: ../a.env"),
            (
                '4:15: services.web.env_file is "../a.env", expected a relative path '
                "inside the archive"
            ),
        ),
        (
            with_web("    env_file: [a.env, /etc/b.env]"),
            r'services.web.env_file\[1\] is "/etc/b.env", expected a relative path',
        ),
        (
            with_web("    env_file: ${FILE}"),
            'env_file is "\\${FILE}", expected a relative',
        ),
        (with_web("    env_file: 5"), "env_file is 5, expected a relative path"),
        (
            with_web("    env_file: [{}]"),
            r"env_file\[0\].path is missing, expected a file",
        ),
        (with_web("    env_file: b"), 'env_file "b" does not exist in the archive'),
        (
            with_web("configs: {a: {file: b}}"),
            'configs.a.file "b" does not exist in the archive',
        ),
        (
            with_web("configs: {a: {file: ../b}}"),
            'configs.a.file is "../b", expected a relative path',
        ),
        (
            with_web("secrets: {a: {file: ./token}}"),
            'secrets.a.file is "./token": an archive must hold no secrets',
        ),
    ],
)
def test_what_an_archive_must_not_say(text: str, why: str) -> None:
    with pytest.raises(ApplicationFormatError, match=why):
        read(text, "a.env")


def test_every_problem_is_listed() -> None:
    text = "services: {a: {build: .}, b: {}, c: {image: {}}}"
    with pytest.raises(ApplicationFormatError, match=r"\(and 2 more\)$") as caught:
        read(text)
    assert len(caught.value.problems) == 3
    assert caught.value.where == "compose.yaml:1:16"


def test_too_many_services() -> None:
    text = "services:\n" + "".join(f"  s{n}: {{image: a}}\n" for n in range(201))
    with pytest.raises(ApplicationFormatError, match="has more than 200 services"):
        read(text)


@given(
    st.text("abimge:servicswb {}[]-'\n$", max_size=80)
    | st.builds(with_web, st.text(max_size=30))
)
def test_noise_raises_nothing_else(text: str) -> None:
    try:
        read(text)
    except ApplicationFormatError:
        return
