"""Latents: mean and (co)variance of each particle's latent, by particle id."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64

from tomodrgn.io.atomic import replacing
from tomodrgn.io.fault import FaultError

__all__ = ["Latents", "require_finite"]

MOST_SMALL_BYTES, MOST_SWELLING = 1 << 26, 200


@dataclass(frozen=True, kw_only=True)
class Latents:
    """Where each of k particles lies in a latent space of z dimensions, and how sure that is.

    Parameters
    ----------
    particle_id
        Names, (k,).
    mu
        Posterior mean, (k, z).
    logvar
        Logarithm of the posterior variance along each axis, (k, z).
    covariance
        Full posterior covariance, (k, z, z), where the model gives one.

    Raises
    ------
    ValueError
        If shapes do not agree, or a particle id repeats.
    """

    particle_id: np.ndarray
    mu: Float32[np.ndarray, "k z"]
    logvar: Float32[np.ndarray, "k z"]
    covariance: Float32[np.ndarray, "k z z"] | None = None

    def __post_init__(self) -> None:
        k = len(self.particle_id)
        if self.mu.ndim != 2 or len(self.mu) != k or self.logvar.shape != self.mu.shape:
            raise ValueError(
                f"Got latents of shapes {self.mu.shape} and {self.logvar.shape} for {k} particles, "
                "expected (k, z) twice. Give one row for each particle id."
            )
        if self.covariance is not None and self.covariance.shape != (k, self.z_dim, self.z_dim):
            raise ValueError(
                f"Got a covariance of shape {self.covariance.shape} for {k} particles, "
                f"expected {(k, self.z_dim, self.z_dim)}. Give one matrix for each particle id."
            )
        unique, counts = np.unique(self.particle_id, return_counts=True)
        if len(unique) != k:
            twice = str(unique[np.argmax(counts)])
            raise ValueError(f"Got latents of particle {twice!r} {counts.max()} times, expected one of each.")
        for name in ("particle_id", "mu", "logvar", "covariance"):
            array = getattr(self, name)
            if array is not None:
                view = array.view()  # read-only here, and untouched where it came from
                view.flags.writeable = False
                object.__setattr__(self, name, view)

    def __len__(self) -> int:
        return len(self.particle_id)

    @cached_property
    def index(self) -> pd.Index:
        """The names as an index of tables, made once; its name is particle_id."""
        return pd.Index(self.particle_id, name="particle_id")

    @cached_property
    def points(self) -> Float64[np.ndarray, "k z"]:
        """The means in double precision, made and checked once, read-only; all analysis computes with them.

        Raises
        ------
        ValueError
            If one is no finite number.
        """
        points = self.mu.astype(np.float64)
        require_finite(points, self.index)
        points.flags.writeable = False
        return points

    @property
    def z_dim(self) -> int:
        """Number of latent dimensions."""
        return self.mu.shape[1]

    def aligned_to(self, particle_ids: np.ndarray) -> Latents:
        """The same latents in the order of the given particle ids.

        Raises
        ------
        KeyError
            If one of the ids has no latent.
        """
        index = self.index.get_indexer(pd.Index(particle_ids))
        if (index < 0).any():
            missing = np.asarray(particle_ids)[index < 0]
            raise KeyError(
                f"Got {len(missing)} particle ids without a latent, first {missing[:3].tolist()}. "
                "Embed those particles first: tomodrgn embed RUN PARTICLES.star OUT.npz"
            )
        return Latents(
            particle_id=self.particle_id[index],
            mu=self.mu[index],
            logvar=self.logvar[index],
            covariance=None if self.covariance is None else self.covariance[index],
        )

    def frame(self) -> pd.DataFrame:
        """Columns z1, z2 ... (means) and z1_std, z2_std ... (standard deviations), indexed by particle_id."""
        names = [f"z{i + 1}" for i in range(self.z_dim)]
        values = np.concatenate([self.mu, np.exp(0.5 * self.logvar)], axis=1)
        columns = names + [f"{name}_std" for name in names]
        return pd.DataFrame(values, index=self.index, columns=columns)

    def star_columns(self) -> pd.DataFrame:
        """Means as columns of a STAR file, tomodrgnLatent1, tomodrgnLatent2 ..., indexed by particle_id.

        Raises
        ------
        ValueError
            If there is no dimension.
        """
        if not self.z_dim:
            raise ValueError("Got latents of 0 dimensions, expected at least one. Use those of a run with --z-dim > 0.")
        names = [f"tomodrgnLatent{i + 1}" for i in range(self.z_dim)]
        return pd.DataFrame(self.mu, index=self.index, columns=names)

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write as an .npz archive of plain arrays, at once or not at all.

        Raises
        ------
        FileExistsError
            If the file exists and `overwrite` is False.
        """
        arrays = {"particle_id": self.particle_id.astype(np.str_), "mu": self.mu, "logvar": self.logvar}
        if self.covariance is not None:
            arrays["covariance"] = self.covariance
        with replacing(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path | str) -> Latents:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is not such an archive.
        """
        try:
            _refuse_swollen(Path(path))
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name].astype(np.float32) for name in archive.files if name != "particle_id"}
                found = cls(
                    particle_id=archive["particle_id"].astype(np.str_),
                    mu=arrays["mu"],
                    logvar=arrays["logvar"],
                    covariance=arrays.get("covariance"),
                )
            known = np.isfinite(found.mu).all(axis=1) & np.isfinite(found.logvar).all(axis=1)
            if not known.all():
                raise FaultError(f"particle {found.particle_id[np.argmin(known)]!s} has numbers that are not finite")
            return found
        except FileNotFoundError:
            raise FileNotFoundError(f"Got latents file {path}, which does not exist. Check the name.") from None
        except Exception as error:  # zip, zlib, tokenize, numpy: a damaged archive may be told by any of them
            raise ValueError(
                f"Got {path}, expected an .npz archive with particle_id, mu and logvar ({error}). "
                "Write it again: tomodrgn embed RUN PARTICLES.star OUT.npz"
            ) from error


def _refuse_swollen(path: Path) -> None:
    """Refuse an archive whose arrays would take more memory than the file can hold.

    An array may claim any shape before its first number, and zeros can be packed a thousandfold.
    """
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.file_size > max(MOST_SMALL_BYTES, MOST_SWELLING * info.compress_size):
                raise FaultError(f"{info.filename} of {info.file_size} bytes is packed into {info.compress_size}")
            with archive.open(info) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, kind = read(file)
            if kind.hasobject or math.prod(shape) * kind.itemsize > info.file_size:
                raise FaultError(f"{info.filename} claims the shape {shape} of {kind} in {info.file_size} bytes")


def require_finite(points: Float64[np.ndarray, "k z"], names: pd.Index) -> None:
    """Check coordinates of named particles.

    Raises
    ------
    ValueError
        If one is no finite number, with the name of the first such particle.
    """
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"Got a coordinate of particle {str(names[int(np.argmin(finite))])!r} that is no finite number "
            f"({int((~finite).sum())} such particles). Use an earlier epoch, or leave them out."
        )
