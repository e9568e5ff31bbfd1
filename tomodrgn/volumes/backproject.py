"""Images and poses -> half maps, FSC, filtered map; of all particles or of a selection.

Weighted gridding (see `tomodrgn.particles.gridding`) on a grid padded twofold.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64

from tomodrgn.config import PreprocessConfig
from tomodrgn.imaging import grid, resolution
from tomodrgn.io import mrc
from tomodrgn.io.atomic import refuse_existing, replacing
from tomodrgn.particles.choice import half_sets
from tomodrgn.particles.gridding import grid_particles
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.preprocess import Preprocessor, estimate_scale
from tomodrgn.training.devices import default_device

__all__ = ["OUTPUT_FILES", "Reconstruction", "ReferenceComparison", "backproject"]

PADDING = 2
MAPS = ("full", "filtered", "half_1", "half_2")
OUTPUT_FILES = (*(f"{name}.mrc" for name in MAPS), "fsc.csv")


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """A map from images and poses, with its halves.

    Parameters
    ----------
    full, filtered, half_1, half_2
        Maps (d, d, d), axes zyx: of all images; the same weighted by the FSC of the halves; of each half.
    fsc
        FSC of the half maps within the mask, index = Fourier shell.
    mask
        Soft spherical mask used for the FSC.
    voxel_size_angst
        Side of a voxel.
    flipped
        Whether the maps were mirrored.
    """

    full: Float32[np.ndarray, "d d d"]
    filtered: Float32[np.ndarray, "d d d"]
    half_1: Float32[np.ndarray, "d d d"]
    half_2: Float32[np.ndarray, "d d d"]
    fsc: Float64[np.ndarray, " s"]
    mask: Float32[np.ndarray, "d d d"]
    voxel_size_angst: float
    flipped: bool

    @property
    def resolution_angst(self) -> float:
        """Resolution where the FSC of the half maps falls below 0.143."""
        return resolution.resolution_at(self.fsc, self.voxel_size_angst)

    def curve(self) -> pd.DataFrame:
        """FSC table: shell, resolution_angst, fsc."""
        shells = np.arange(len(self.fsc))
        angst = resolution.shell_resolution_angst(self.full.shape[0], self.voxel_size_angst)
        return pd.DataFrame({"shell": shells, "resolution_angst": angst, "fsc": self.fsc})

    def compare(self, reference: Float32[np.ndarray, "d d d"]) -> ReferenceComparison:
        """FSC of the full map and of its mirror image against a reference, within the mask.

        Raises
        ------
        ValueError
            If the reference has another shape.
        """
        same = resolution.fourier_shell_correlation(self.full, reference, self.mask)
        other = resolution.fourier_shell_correlation(resolution.mirror(self.full), reference, self.mask)
        return ReferenceComparison(same=same, mirrored=other, voxel_size_angst=self.voxel_size_angst)

    def save(self, folder: Path | str, *, overwrite: bool = False) -> list[Path]:
        """Write full.mrc, filtered.mrc, half_1.mrc, half_2.mrc and fsc.csv into a folder.

        Raises
        ------
        FileExistsError
            If one of the files exists and `overwrite` is False.
        """
        folder = Path(folder)
        paths = [folder / name for name in OUTPUT_FILES]
        for path in paths:
            refuse_existing(path, overwrite=overwrite)
        for name, path in zip(MAPS, paths, strict=False):
            mrc.write_volume(path, getattr(self, name), self.voxel_size_angst, overwrite=overwrite)
        with replacing(paths[-1]) as temporary:
            self.curve().to_csv(temporary, index=False)
        return paths


@dataclass(frozen=True, kw_only=True)
class ReferenceComparison:
    """FSC of a map, and of its mirror image, against a reference; index = Fourier shell."""

    same: Float64[np.ndarray, " s"]
    mirrored: Float64[np.ndarray, " s"]
    voxel_size_angst: float

    @property
    def mirrored_is_better(self) -> bool:
        """Whether the mirror image agrees better: higher mean FSC over shells 1 to half Nyquist."""
        half = slice(1, len(self.same) // 2 + 1)
        return bool(self.mirrored[half].mean() > self.same[half].mean())

    def curve(self) -> pd.DataFrame:
        """FSC table: shell, resolution_angst, fsc, fsc_mirrored."""
        box = 2 * (len(self.same) - 1)
        angst = resolution.shell_resolution_angst(box, self.voxel_size_angst)
        shells = np.arange(len(self.same))
        columns = {"shell": shells, "resolution_angst": angst, "fsc": self.same, "fsc_mirrored": self.mirrored}
        return pd.DataFrame(columns)


def backproject(
    particles: ParticleSet,
    *,
    preprocess: PreprocessConfig | None = None,
    mask_radius: float = 0.7,
    regularisation: float = 0.1,
    flip: bool = False,
    seed: int = 0,
    device: str | None = None,
) -> Reconstruction:
    """Reconstruct the particles' average by weighted gridding.

    Parameters
    ----------
    particles
        All particles, or a subset.
    preprocess
        Window and weights.
    mask_radius
        Radius of the soft spherical mask of the FSC, as a fraction of the half box.
    regularisation
        Constant added to the denominator, as a fraction of its mean.
    flip
        Mirror the maps (the hand of a data set follows its tilt geometry and may be either).
    seed
        Draws the halves where the source has no half sets.
    device
        ``"cpu"`` or ``"cuda"``; None takes CUDA where it is there.

    Raises
    ------
    ValueError
        If there are fewer than two particles.
    """
    if len(particles) < 2:
        raise ValueError(f"Got {len(particles)} particle, expected at least two for half maps. Choose more particles.")
    config = preprocess or PreprocessConfig()
    chosen = default_device(device)
    scale = estimate_scale(particles, config, seed=seed)
    preprocessor = Preprocessor(particles, config, scale=scale, padding=PADDING, device=chosen)
    sums = grid_particles(preprocessor, half_sets(particles, seed=seed))
    half_1, half_2, full = (
        sums.volume(halves, regularisation=regularisation) * np.float32(scale) for halves in ((1,), (2,), (1, 2))
    )
    mask = grid.soft_spherical_mask(particles.box_px, mask_radius).numpy()
    fsc = resolution.fourier_shell_correlation(half_1, half_2, mask)
    filtered = resolution.fsc_weighted(full, fsc)
    maps = (resolution.mirror(v) if flip else v for v in (full, filtered, half_1, half_2))
    return Reconstruction(
        **dict(zip(MAPS, maps, strict=True)),
        fsc=fsc,
        mask=mask,
        voxel_size_angst=particles.pixel_size_angst,
        flipped=flip,
    )
