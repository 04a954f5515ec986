"""What a step took and made, written down as a link, signed and kept.

The link is written by in-toto's models and read back by the reader of devices before it
is signed: what a device would not take is refused here. A file that holds another link
of the same step is never written over.

Example:
    >>> step = Step("build", materials=("src",), products=("dist",), base=Path.cwd())
    >>> before = record_materials(step)  # doctest: +SKIP
    >>> payload = link_of(step, before, record_products(step))  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from margo_supplychain.authoring.recording import git
from margo_supplychain.authoring.recording.files import Recorded, record_files
from margo_supplychain.authoring.recording.problems import EXCLUDE, Problems, shown
from margo_supplychain.errors import (
    ConflictError,
    FormatError,
    ProvenanceError,
    StorageError,
)
from margo_supplychain.formats.dsse import MAX_ENVELOPE, PAYLOAD, Envelope
from margo_supplychain.formats.release_products import (
    COMPONENTS,
    DIRTY,
    MANIFEST_PRODUCT,
    RECORD_PRODUCT,
    component_product,
)
from margo_supplychain.formats.release_products import release_products as fixed_names
from margo_supplychain.provenance.in_toto_models import link_payload
from margo_supplychain.provenance.layouts import STEP_NAME, is_step_name
from margo_supplychain.provenance.links import parse_link
from margo_supplychain.storage import durable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from margo_supplychain.authoring.recording.git import WorkingTree
    from margo_supplychain.authoring.recording.run import Ran
    from margo_supplychain.authoring.release import Release

SUFFIX: Final = ".link.dsse.json"
_RESERVED: Final = frozenset({git.COMMIT, DIRTY, MANIFEST_PRODUCT, RECORD_PRODUCT})

Artifacts = dict[str, dict[str, str]]


class Step(NamedTuple):
    """What is to be recorded, and where.

    Args:
        name: of the step in the layout.
        materials, products: paths below `base`.
        git: a directory whose tracked files are materials, too.
        base: names are paths from there.
        exclude: patterns of what is left out of both.
        follow_symlinks: record what symbolic links lead to.
    """

    name: str
    base: Path
    materials: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    git: Path | None = None
    exclude: tuple[str, ...] = ()
    follow_symlinks: bool = False


class Materials(NamedTuple):
    """What a step takes.

    Args:
        artifacts: digests by name.
        recorded: how they were found.
        dirty: status and name of files that are not as the commit has them.
    """

    artifacts: Artifacts
    recorded: Recorded
    dirty: tuple[tuple[str, str], ...] = ()


def check_step(name: str) -> str:
    """Return the name of a step that a layout may have.

    Raises:
        FormatError: it is none.
    """
    if not is_step_name(name):
        raise FormatError(
            f"step {name!r:.80} is no name, expected {STEP_NAME}",
            hint="give the name that the layout has for this step",
        )
    return name


def record_materials(step: Step) -> Materials:
    """Record what a step takes: files, and what git says of them.

    Raises:
        FormatError, ConflictError, StorageError: as `record_files` and `git.look_at`;
            also if the commit changed meanwhile.
    """
    tree = _tree(step)
    found = record_files(
        step.materials,
        base=step.base,
        exclude=step.exclude,
        follow_symlinks=step.follow_symlinks,
        tracked=() if tree is None else tree.tracked,
    )
    _check_fixed(found)
    if tree is None:
        return Materials(found.artifacts, found)
    # What was recorded has to be what was compared, and nothing else meanwhile.
    same = all(found.seen.get(name, one) == one for name, one in tree.seen.items())
    if not same or _tree(step) != tree:
        raise ConflictError(
            "the working tree changed while it was recorded",
            hint="nothing was recorded: let nobody work in it, and run it again",
        )
    # Links of earlier steps lie about in it, and say themselves what they are.
    known = found.artifacts.keys() | {
        name
        for status, name in tree.differing
        if status == git.NEW and _is_link(step.base / name)
    }
    said = tree.materials(recorded=known)
    return Materials(joined(found.artifacts, said), found, tree.dirty(known))


def _is_link(file: Path) -> bool:
    """Say whether a file is a signed link, as devices take them, and not just named so.

    Nobody's signature is checked: it is not believed, it is only no source of anything.
    """
    if not file.name.endswith(SUFFIX):
        return False
    try:
        data = durable.read_file(file, limit=MAX_ENVELOPE, follow=False)
        found = Envelope.parse(data, what=str(file))
        parse_link(found.payload, payload_type=found.payload_type, what=str(file))
    except (FileNotFoundError, FormatError, ProvenanceError, StorageError):
        return False
    return True


def _tree(step: Step) -> WorkingTree | None:
    return None if step.git is None else git.look_at(step.git, base=step.base)


def record_products(step: Step) -> Recorded:
    """Record what a step made; it has ended.

    Raises:
        FormatError, ConflictError, StorageError: as `record_files`.
    """
    found = record_files(
        step.products,
        base=step.base,
        exclude=step.exclude,
        follow_symlinks=step.follow_symlinks,
    )
    _check_fixed(found)
    return found


def _check_fixed(found: Recorded) -> None:
    """Refuse files with names under which links say something else than files.

    Raises:
        FormatError: there is one.
    """
    problems = Problems()
    for name in found.artifacts:
        if name in _RESERVED or name.startswith(COMPONENTS):
            text = "has a name by which links say something else than a file's content"
            problems.add(name, text, "rename it", EXCLUDE)
    problems.raise_if_any()


def release_artifacts(release: Release) -> tuple[Artifacts, Artifacts]:
    """Return the materials and products that name a release.

    Its manifests, and what its record will say of it but for when and where it is
    published, and by what it is proven. Components of others lie elsewhere: no step of
    this vendor made them, so they enter as materials as well.
    """
    from margo_supplychain.authoring.release import NO_TIME

    products = {
        name: {digest.algorithm: digest.hex}
        for name, digest in fixed_names(release.record(NO_TIME)).items()
    }
    materials = {
        name: products[name]
        for name in (
            component_product(one.profile, one.name)
            for one in release.components
            if one.content.digest in release.elsewhere
        )
    }
    return materials, products


def joined(one: Artifacts, other: Mapping[str, Mapping[str, str]]) -> Artifacts:
    """Return both; no name may mean two things.

    Raises:
        FormatError: a file has one of the fixed names.
    """
    both = sorted(one.keys() & other.keys())
    if both:
        raise FormatError(
            f"a file is named {shown(both[0])}, a name that says something else here",
            hint="rename it, or leave it out by --exclude",
        )
    return one | {name: dict(digests) for name, digests in other.items()}


def link_of(
    step: Step,
    *,
    materials: Artifacts,
    products: Artifacts,
    command: Sequence[str] = (),
    byproducts: Mapping[str, Any] | None = None,
    variables: Sequence[str] = (),
) -> bytes:
    """Return a step's link as the payload of an envelope.

    Raises:
        FormatError: there is nothing in it, or devices would not take it.
    """
    if not materials and not products:
        raise FormatError(
            f"step {step.name} has neither materials nor products: nothing to attest",
            hint="name files by --materials, --git or --products",
        )
    payload = link_payload(
        step.name,
        materials=materials,
        products=products,
        command=command,
        byproducts=byproducts,
        environment={"variables": list(variables)} if variables else {},
    )
    try:
        parse_link(payload, payload_type=PAYLOAD, what=f"the link of step {step.name}")
    except ProvenanceError as why:
        raise FormatError(f"{why}", where=why.artifact, hint=why.hint) from why
    return payload


def byproducts_of(
    step: Step,
    *,
    materials: Recorded,
    products: Recorded,
    ran: Ran | None = None,
) -> dict[str, Any]:
    """Return what a link says beside its files: how it ended, and what is left out."""
    found: dict[str, Any] = {}
    if ran is not None:
        found["return-value"] = ran.status
        for name in ("stdout", "stderr"):
            stream = getattr(ran, name)
            if stream is not None:
                found[name] = stream.text
                if stream.omitted:
                    found[f"{name}-omitted-bytes"] = stream.omitted
    if step.exclude:
        found["excluded"] = {
            "materials": dict(materials.excluded),
            "products": dict(products.excluded),
        }
    followed = len(materials.followed) + len(products.followed)
    if followed:
        found["followed-symlinks"] = followed
    if materials.missing:
        found["tracked-but-missing"] = len(materials.missing)
    return found
