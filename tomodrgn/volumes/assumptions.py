"""Whether images were read right: contrast, CTF premultiplication and dose weighting, judged from the images.

None of the flags of a set is used to judge it. Premultiplication and dose weighting: the likelihood of held-out images
under each combination (see likelihood.py). Contrast: the sign of the density in half maps of independent particles, as
the half-map FSC does not see it. Poses are not judged: half maps of any poses have a common blob.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tomodrgn.imaging import resolution
from tomodrgn.particles.dataset import sample_batches
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.volumes.contrast import density_signs
from tomodrgn.volumes.likelihood import GroupMaps, ImageModel, Likelihood, held_out_likelihood, quick_maps

__all__ = ["MIN_PARTICLES", "MIN_SIGMA", "TITLES", "AssumptionCheck", "compare_assumptions"]

GROUPS = 8
MIN_PARTICLES = 2 * GROUPS
MAX_IMAGES = 1500
# A setting is named when its lead is this many standard errors, and not far from what it should be. A lead that is
# much too large is that of images with hardly any noise, where what the map leaves unexplained decides.
MIN_SIGMA, MARGINS = 4.0, (0.25, 2.5)
# Half maps that agree less than this in their first shells show no common molecule.
MIN_FSC, FIRST_SHELLS = 0.3, slice(1, 5)

CTF, DOSE, CONTRAST = "ctf_premultiplied", "dose_weighted", "invert"
WORDS = {
    CTF: ("not multiplied by their CTF", "multiplied by their CTF"),
    DOSE: ("not dose weighted", "dose weighted"),
}
TITLES = {CTF: "CTF premultiplication", DOSE: "dose weighting", CONTRAST: "contrast"}


@dataclass(frozen=True, kw_only=True)
class AssumptionCheck:
    """What the images say about the flags with which they were read.

    Parameters
    ----------
    table
        Index ``ctf_premultiplied``, ``dose_weighted``, ``invert``; columns ``chosen`` (bool), ``best`` (bool, None if
        the images do not decide), ``margin`` and ``standard_error``, ``verdict`` ("agrees", "disagrees", "cannot
        tell") and ``evidence``, a sentence. The margin is positive for the setting that agrees best with the images:
        of the CTF and the dose the lead in log-likelihood over the flipped setting, 1 where it is as large as it should
        be were that setting right; of the contrast the skewness of the density common to two half maps.
    fsc
        Columns shell, resolution_angst; FSC of half maps under the chosen settings, ``fsc``, and with one of them
        flipped, ``fsc_ctf_flipped`` and ``fsc_dose_flipped``. Contrast does not change it.
    n_particles, n_images
        How many were used.
    """

    table: pd.DataFrame
    fsc: pd.DataFrame
    n_particles: int
    n_images: int

    @property
    def settings(self) -> dict[str, bool]:
        """Arguments of `read_particles` that agree with the images; the chosen setting where they do not decide."""
        return {str(name): bool(row["chosen"] if row["best"] is None else row["best"]) for name, row in self._rows}

    @property
    def best_setting(self) -> str:
        """A sentence that names the setting that agrees best with the images."""
        listed = [f"{name}={value}" for name, value in self.settings.items()]
        open_ones = [str(name) for name, row in self._rows if row["best"] is None]
        rest = f" (as chosen, not decided by the images: {_listed(open_ones)})" if open_ones else ""
        return f"The setting that agrees best with the images: {', '.join(listed)}{rest}."

    @property
    def decided(self) -> bool:
        """Whether the images decide every flag."""
        return bool((self.table["verdict"] != "cannot tell").all())

    @property
    def half_maps_agree(self) -> bool:
        """Whether half maps have a molecule in common: mean FSC of shells 1 to 4 at least 0.3."""
        return bool(self.fsc["fsc"].iloc[FIRST_SHELLS].mean() >= MIN_FSC)

    @property
    def warnings(self) -> list[str]:
        """A sentence for each setting that the images contradict, and one if half maps do not agree."""
        found = []
        for name, row in self._rows:
            if row["verdict"] != "disagrees":
                continue
            option = ("--" if row["best"] else "--no-") + name.replace("_", "-")
            found.append(f"{_contradiction(name, best=row['best'])} Read them with {name}={row['best']} ({option}).")
        if not self.half_maps_agree:
            found.append(
                f"Half maps of {self.n_particles} particles have nothing in common. Check poses, shifts and pixel "
                "size, or use more particles."
            )
        return found

    @property
    def verdict(self) -> str:
        """One sentence."""
        wrong, unsure, right = (
            [TITLES[name] for name, row in self._rows if row["verdict"] == kind]
            for kind in ("disagrees", "cannot tell", "agrees")
        )
        rest = f" Not decided by the images: {_listed(unsure)}." if unsure else ""
        if wrong:
            return f"The images contradict the {_listed(wrong)} with which they were read.{rest}"
        if not self.half_maps_agree:
            return f"Half maps of {self.n_particles} particles have nothing in common.{rest}"
        angst = resolution.resolution_at(self.fsc["fsc"].to_numpy(), self._voxel_size_angst)
        agreement = (
            f"The images agree with the {_listed(right)} with which they were read" if right else "Nothing is wrong"
        )
        return f"{agreement}; half maps of {self.n_particles} particles agree to {angst:.0f} Å.{rest}"

    @property
    def _rows(self) -> list[tuple[str, dict[str, Any]]]:
        return [(str(name), dict(row)) for name, row in self.table.iterrows()]

    @property
    def _voxel_size_angst(self) -> float:
        return float(self.fsc["resolution_angst"].iloc[-1]) / 2


def compare_assumptions(particles: ParticleSet, *, n_particles: int = 100, seed: int = 0) -> AssumptionCheck:
    """Judge contrast, CTF premultiplication and dose weighting from the images of some particles.

    Particles are drawn at random, in eight groups; of their tilt images too, if they are more than 1,500 together.
    Boxes above 48 pixels are used up to the frequencies of such a box.

    Parameters
    ----------
    particles
        The set as it was read. Its flags are compared with the verdict, and do not enter it.
    n_particles
        Number of particles used; more decide better and take longer.
    seed
        Draws the particles and the groups.

    Raises
    ------
    ValueError
        If there are fewer than 16 particles, or the images are constant or not finite.
    """
    if (given := min(len(particles), n_particles)) < MIN_PARTICLES:
        raise ValueError(
            f"Got {given} particles, expected at least {MIN_PARTICLES} to judge how their images were made. Use more."
        )
    generator = np.random.default_rng(seed)
    chosen = _draw(particles, n_particles, generator)
    groups = generator.permutation(len(chosen)) % GROUPS
    maps = quick_maps(chosen, groups)
    likelihoods = held_out_likelihood(chosen, groups, maps)
    read = ImageModel(particles.ctf_premultiplied, particles.dose_weighted)
    rows = {name: _judge_model(likelihoods, name, chosen=bool(getattr(particles, name))) for name in (CTF, DOSE)}
    if particles.ctf is None:
        rows[CTF] |= {"best": None, "verdict": "cannot tell", "evidence": "The images come without a CTF."}
    settled = replace(read, **{name: row["best"] for name, row in rows.items() if row["best"] is not None})
    rows[CONTRAST] = _judge_contrast(maps[settled], chosen=particles.invert)
    table = pd.DataFrame.from_dict(rows, orient="index").astype({"best": object}).rename_axis("assumption")
    return AssumptionCheck(
        table=table, fsc=_fsc_table(particles, maps, read), n_particles=len(chosen), n_images=chosen.n_images
    )


def _draw(particles: ParticleSet, n_particles: int, generator: np.random.Generator) -> ParticleSet:
    """Some particles, with at most so many of their tilt images that they are `MAX_IMAGES` together."""
    chosen = particles.subset(particles.particle_id[generator.permutation(len(particles))[:n_particles]])
    tilts = max(2, MAX_IMAGES // len(chosen))
    batches = sample_batches(chosen, len(chosen), tilts_per_particle=tilts, generator=generator)
    keep = np.zeros(chosen.n_images, dtype=bool)
    keep[np.concatenate(batches[0][1])] = True
    return chosen.subset_images(keep)


def _judge_model(likelihoods: dict[ImageModel, Likelihood], name: str, *, chosen: bool) -> dict[str, Any]:
    """Compare the best model with the best of those that differ from it in one flag."""
    total = {model: found.per_particle.sum() for model, found in likelihoods.items()}
    best = max(total, key=total.__getitem__)
    rival = max((m for m in total if getattr(m, name) != getattr(best, name)), key=total.__getitem__)
    lead = likelihoods[best].per_particle - likelihoods[rival].per_particle
    expected = likelihoods[best].expected_lead(likelihoods[rival])
    setting = bool(getattr(best, name))
    if expected < 1e-6 * len(lead):
        return _row(best=None, chosen=chosen, margin=0.0, error=0.0, evidence="Both settings predict the same images.")
    margin, error = float(lead.sum() / expected), float(lead.std(ddof=1) * np.sqrt(len(lead)) / expected)
    decided = max(MARGINS[0], MIN_SIGMA * error) <= margin <= MARGINS[1]
    evidence = (
        f"Held-out images are likelier if {WORDS[name][setting]}: {margin:.2f} ± {error:.2f} of the lead expected of "
        "such images."
    )
    return _row(best=setting if decided else None, chosen=chosen, margin=margin, error=error, evidence=evidence)


def _row(*, best: bool | None, chosen: bool, margin: float, error: float, evidence: str) -> dict[str, Any]:
    verdict = "cannot tell" if best is None else "agrees" if best == chosen else "disagrees"
    return {
        "chosen": bool(chosen),
        "best": best,
        "margin": float(margin),
        "standard_error": float(error),
        "verdict": verdict,
        "evidence": evidence,
    }


def _judge_contrast(maps: GroupMaps, *, chosen: bool) -> dict[str, Any]:
    """Light density is positive; both signs of it must say so."""
    values, errors = density_signs(maps)
    light = bool(values[0] > 0)
    decided = values[0] * values[1] > 0 and bool((np.abs(values) >= MIN_SIGMA * errors).all())
    evidence = (
        f"The density common to half maps, without inversion, is {'light' if light else 'dark'}: skewness "
        f"{values[0]:.2f} ± {errors[0]:.2f}, centre above its surroundings {values[1]:.2f} ± {errors[1]:.2f} standard "
        "deviations."
    )
    return _row(
        best=not light if decided else None,
        chosen=chosen,
        margin=float(abs(values[0])),
        error=float(errors[0]),
        evidence=evidence,
    )


def _fsc_table(particles: ParticleSet, maps: dict[ImageModel, GroupMaps], read: ImageModel) -> pd.DataFrame:
    box = maps[read].box_px
    voxel = particles.pixel_size_angst * particles.box_px / box
    return pd.DataFrame(
        {
            "shell": np.arange(box // 2 + 1),
            "resolution_angst": resolution.shell_resolution_angst(box, voxel),
            "fsc": maps[read].fsc(),
            "fsc_ctf_flipped": maps[replace(read, ctf_premultiplied=not read.ctf_premultiplied)].fsc(),
            "fsc_dose_flipped": maps[replace(read, dose_weighted=not read.dose_weighted)].fsc(),
        }
    )


def _contradiction(name: str, *, best: bool) -> str:
    if name == CONTRAST:
        return f"The molecule comes out dark: the contrast of the images must {'' if best else 'not '}be inverted."
    no, yes = WORDS[name]
    seen, read = (yes, no) if best else (no, yes)
    return f"The images look {seen}, but were read as {read}."


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
