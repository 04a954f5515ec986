"""From a description's profiles to exact components and images: the closure.

A component's digest comes from a local build or from the reviewed `components.lock`,
an image's from the reference itself or from `images.lock`, and neither from a tag. A
profile is in the result with all of its components, or not at all: half of one would
look like another, smaller profile. What is left out makes the closure partial and is
said aloud.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from margo_supplychain.authoring.components import Built, Wanted
from margo_supplychain.errors import ApplicationFormatError
from margo_supplychain.formats.locks import ComponentKey
from margo_supplychain.formats.record import Closure, Component, Image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from margo_supplychain.formats.application import ComponentReference, Profile
    from margo_supplychain.formats.compose import ImageReference
    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.locks import ComponentLock, ImageLock, LockedImage


class Resolution(NamedTuple):
    """Everything that a package deploys.

    Args:
        components: of each profile that is complete.
        images: that they name.
        closure: `complete` when nothing that is deployed lacks a digest.
        warnings: why it is partial.
        elsewhere: components whose content is not at hand.
        missing: components without any digest, one line each.
    """

    components: tuple[Component, ...]
    images: tuple[Image, ...]
    closure: Closure
    warnings: tuple[str, ...]
    elsewhere: frozenset[Digest]
    missing: tuple[str, ...]


def resolve(
    profiles: Sequence[Profile],
    *,
    build: Callable[[str, Wanted], Built | None],
    components: ComponentLock,
    images: ImageLock,
) -> Resolution:
    """Find every component and image of a description's profiles.

    Args:
        profiles: as margo.yaml has them.
        build: makes or finds content of a component of the profile with this id;
            None if there is no source for it.
        components: reviewed digests of components that have none.
        images: reviewed digests of images.

    Raises:
        ApplicationFormatError: a lock contradicts what was built or written.
    """
    found = _Closure(components.components, images)
    for profile in profiles:
        found.add_profile(profile, build)
    return found.result()


class _Closure:
    """Collects while it walks the profiles."""

    def __init__(
        self, locked: Mapping[ComponentKey, Descriptor], images: ImageLock
    ) -> None:
        self._locked = locked
        self._pins = ImagePins(images)
        self._components: list[Component] = []
        self._elsewhere: set[Digest] = set()
        self._here: set[Digest] = set()
        self._warnings: list[str] = []
        self._missing: list[str] = []
        self._complete = True

    def add_profile(
        self, profile: Profile, build: Callable[[str, Wanted], Built | None]
    ) -> None:
        """Add a profile if all of its components can be named by digest."""
        found: list[Component] = []
        for one in profile.components:
            component = self._component(profile, one, build)
            if component is not None:
                found.append(component)
        if len(found) == len(profile.components):
            self._components += found
        else:
            self._complete = False

    def _component(
        self,
        profile: Profile,
        one: ComponentReference,
        build: Callable[[str, Wanted], Built | None],
    ) -> Component | None:
        if one.repository is None or one.revision is None:
            self._warnings.append(
                f"profile {profile.id} is not part of the release: its component "
                f"{one.name} is named by packageLocation, which no digest can pin"
            )
            return None
        wanted = Wanted(one.name, profile.type, one.repository, one.revision)
        built = build(profile.id, wanted)
        locked = self._locked.get(ComponentKey(one.name, one.repository, one.revision))
        if built is None and locked is None:
            self._missing.append(f"{one.name} ({one.repository}:{one.revision})")
            return None
        if built is None and locked is not None:
            self._elsewhere.add(locked.digest)
            built = Built(locked, opaque=True)
        elif built is not None:
            self._here.add(built.content.digest)
        if built is None:  # one of them is there; said for the type checker
            return None
        if locked is not None and locked != built.content:
            raise ApplicationFormatError(
                f"component {one.name} is {built.content.digest}, and "
                f"components.lock has {locked.digest}",
                hint="review the change and correct components.lock, or remove the "
                "entry: what is built here needs none",
            )
        if built.content.digest.algorithm != "sha256":
            raise ApplicationFormatError(
                f"component {one.name} is named by {built.content.digest}, and a "
                "release names everything by sha256",
                hint="name the same content by its sha256 digest",
            )
        self._add_images(wanted.name, built)
        return Component(
            name=one.name,
            profile=profile.id,
            profile_type=profile.type,
            repository=one.repository,
            revision=one.revision,
            content=built.content,
        )

    def _add_images(self, name: str, built: Built) -> None:
        self._warnings += built.warnings
        if not self._pins.add(name, built.images, opaque=built.opaque, gaps=built.gaps):
            self._complete = False

    def result(self) -> Resolution:
        """Return what was found."""
        deployed = {one.name for one in self._components}
        return Resolution(
            components=tuple(
                sorted(self._components, key=lambda one: (one.profile, one.name))
            ),
            images=tuple(
                one for one in self._pins.images() if one.component in deployed
            ),
            closure="complete" if self._complete else "partial",
            warnings=tuple(dict.fromkeys((*self._warnings, *self._pins.warnings()))),
            elsewhere=frozenset(self._elsewhere - self._here),
            missing=tuple(dict.fromkeys(self._missing)),
        )


class ImagePins:
    """The images of components, pinned one by one from `images.lock`.

    Args:
        lock: the reviewed digests.
    """

    def __init__(self, lock: ImageLock) -> None:
        self._lock = lock
        self._images: dict[tuple[str, str], Image] = {}
        self._warnings: list[str] = []
        self._used: set[str] = set()

    def add(
        self,
        component: str,
        images: Sequence[ImageReference],
        *,
        opaque: bool,
        gaps: Sequence[str],
    ) -> bool:
        """Pin the images of a component; tell whether all that it runs are pinned.

        Raises:
            ApplicationFormatError: a reference holds a digest that the lock
                contradicts.
        """
        complete = not gaps
        self._warnings += (f"closure is partial: {component}: {gap}" for gap in gaps)
        if opaque:
            listed = self._listed(component)
            complete = complete and bool(listed)
            if not listed:
                self._warnings.append(
                    f"closure is partial: the images of {component} can't be read "
                    "from it; name it in images.lock (components = "
                    f'["{component}"]) with each of its images'
                )
        for image in images:
            if not image.variables and not self._pin(component, image):
                complete = False
        return complete

    def _listed(self, component: str) -> bool:
        found = False
        for reference, locked in self._lock.images.items():
            if component in locked.components:
                found = True
                self._put(component, reference, locked.digest, locked)
        return found

    def _pin(self, component: str, image: ImageReference) -> bool:
        locked = self._lock.images.get(image.reference)
        digest = image.digest or (locked.digest if locked is not None else None)
        if locked is not None and locked.digest != digest:
            raise ApplicationFormatError(
                f"images.lock pins {image.reference} to {locked.digest}, another "
                "digest than its own"
            )
        self._put(component, image.reference, digest, locked)
        if digest is None:
            self._warnings.append(
                f"closure is partial: image {image.reference} of {component} is not "
                "in images.lock"
            )
        return digest is not None

    def _put(
        self,
        component: str,
        reference: str,
        digest: Digest | None,
        locked: LockedImage | None,
    ) -> None:
        self._used.add(reference)
        self._images[component, reference] = Image(
            component=component,
            reference=reference,
            digest=digest,
            platforms=() if locked is None else locked.platforms,
        )

    def images(self) -> tuple[Image, ...]:
        """Return what was found, sorted."""
        return tuple(image for _, image in sorted(self._images.items()))

    def warnings(self) -> tuple[str, ...]:
        """Return why the closure is partial, and which pins nothing asked for."""
        unused = [
            f"images.lock pins {reference}, which no component names"
            for reference in sorted(self._lock.images.keys() - self._used)
        ]
        return (*self._warnings, *unused)
