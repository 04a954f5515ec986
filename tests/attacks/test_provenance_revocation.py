"""A functionary's key is stolen, and the publisher's offline key revokes it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.formats.publisher_policy import RevokedFunctionary
from tests.attacks.proven import PUMP, running
from tests.attacks.test_provenance_steps import component
from tests.world.provenance import FUNCTIONARIES, MANIFEST, keyid, layout, linked, steps

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.formats.digests import Digest
    from tests.attacks.proven import Plant


def revoke(plant: Plant, name: str, *survivors: Digest) -> None:
    """Revoke a functionary's key, with the offline key."""
    revoked = RevokedFunctionary(key=keyid(name), survivors=survivors)
    plant.policy(revoked_functionaries=(revoked,))


# --- T-242: what a stolen functionary key signs --------------------------------------


@pytest.mark.parametrize("name", FUNCTIONARIES)
def test_revoked_functionary(tmp_path: Path, name: str) -> None:
    """Mallory has a functionary's key and the online keys: she can make a release, and
    one that was revoked can't. Old releases fall with the key as well."""
    plant = running(tmp_path)
    plant.publish(plant.run("1.1.0"))
    plant.verified("1.1.0")

    revoke(plant, name)
    plant.publish(plant.run("1.2.0"))
    plant.refused("revoked", keyid(name)[:12])

    revoke(plant, "mallory")
    plant.serve()
    plant.verified("1.2.0")


def test_survivors_of_a_revoked_functionary(tmp_path: Path) -> None:
    """What was made before the key was lost survives as it was, and nothing else
    does: not under the same version, not with the same links."""
    plant = running(tmp_path)
    honest = plant.run("1.1.0")
    plant.publish(honest)
    plant.verified("1.1.0")

    revoke(plant, "tester", honest.release)
    plant.serve()
    plant.verified("1.1.0")

    forged = plant.run("1.2.0")
    plant.publish(forged)
    plant.refused("revoked", "test")
    forged.version = "1.1.0"
    plant.publish(forged)
    del plant.world.roles[PUMP.role].targets[PUMP.release_path("1.2.0")]
    plant.serve()
    plant.refused("revoked", "test")


@pytest.mark.parametrize("version", ["1.1.0", "9.9.9"])
def test_other_release_around_the_artifact_of_a_survivor(
    tmp_path: Path, version: str
) -> None:
    """The packager's key is stolen and revoked, and the thief has the online key, too.
    A package's manifest binds neither its components nor its version: with the
    survivor's, the other steps' true links, and a link signed anew, another component
    would be a survivor; or the old one, past a minimum version."""
    plant = running(tmp_path)
    good, evil = (
        component("web", plant.world.artifact(what)) for what in (b"web", b"evil")
    )
    honest = plant.run("1.1.0")
    honest.releases(components=[good])
    plant.publish(honest, components=(good,))
    revoke(plant, "packager", honest.release)
    plant.serve()
    plant.verified("1.1.0")

    for what in (evil, good):
        if (version, what) == ("1.1.0", good):
            continue
        thief = honest.copy()
        thief.version = version
        thief.links["package"]["products"] = {
            MANIFEST: {"sha256": honest.artifact.digest.hex}
        }
        thief.releases(components=[what])
        plant.publish(thief, components=(what,))
        plant.refused("revoked", keyid("packager")[:12])


def test_artifact_is_no_survivor(tmp_path: Path) -> None:
    """A policy that names the artifact, as other lists do, spares nothing by it."""
    plant = running(tmp_path)
    honest = plant.run("1.1.0")
    plant.publish(honest)
    revoke(plant, "packager", honest.artifact.digest)
    plant.serve()
    plant.refused("revoked", keyid("packager")[:12])


def test_revoked_functionary_beside_enough_others(tmp_path: Path) -> None:
    """One of two builders was revoked; the other's word is enough where one is asked
    for, and the revoked one's counts for nothing, neither for nor against."""
    plant = running(tmp_path)
    found = steps()
    found[0]["pubkeys"] = [keyid("builder"), keyid("builder-b")]
    functionaries = (*FUNCTIONARIES, "builder-b")
    plant.use_layout(layout(found, functionaries=functionaries))
    revoke(plant, "builder-b")
    run = plant.run("1.1.0")
    second = linked("build", run.links["build"], "builder-b")
    plant.publish(run, [*run.documents().values(), second])
    plant.verified("1.1.0")

    found[0]["threshold"] = 2
    plant.use_layout(layout(found, functionaries=functionaries))
    plant.publish(run, [*run.documents().values(), second])
    plant.refused("revoked", "build")


def test_revoked_key_under_another_id(tmp_path: Path) -> None:
    """The layout knows the key by an id of its own: what is revoked is the key."""
    plant = running(tmp_path)
    said = layout()
    other = "cd" * 32
    said["keys"][other] = {**said["keys"].pop(keyid("tester")), "keyid": other}
    said["steps"][1]["pubkeys"] = [other]
    plant.use_layout(said)
    plant.publish(plant.run("1.1.0"))
    plant.verified("1.1.0")
    revoke(plant, "tester")
    plant.serve()
    plant.refused("revoked", "test")


def test_online_key_revokes_nobody_and_frees_nobody(tmp_path: Path) -> None:
    """Neither the record nor the application's role can say who survives."""
    plant = running(tmp_path)
    forged = plant.run("1.1.0")
    revoke(plant, "tester")
    free = RevokedFunctionary(key=keyid("tester"), survivors=(forged.release,))
    lax = replace(plant.world.policies[PUMP], revoked_functionaries=(free,))
    plant.world.add_target(PUMP.role, PUMP.policy_path(1), lax.to_bytes())
    plant.publish(forged)
    plant.refused("revoked", "test")
