"""Voxels of a padded half grid, and the nearest of them to points of Fourier space.

A slice taken from the nearest voxel of a twofold padded grid is the simplest linear map from a volume to images.
Between voxels the transform of a volume of bounded support changes by its gradient, which is known exactly
(`with_gradient`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Complex64, Float32, Int32, Int64
from torch import Tensor

from tomodrgn.imaging import fourier, grid

__all__ = ["PADDING", "VoxelLattice"]

PADDING = 2


@dataclass(frozen=True, kw_only=True)
class VoxelLattice:
    """Voxels of a Friedel half within a radius, without DC, by rising radius; spacing 1 / (2 d) cycles per pixel.

    The lattice of a smaller radius holds the first voxels of that of a larger one.

    Parameters
    ----------
    box_px
        Side d of images and volumes.
    side
        Side of the cube that holds the voxels: its real space covers the padded box in coarser steps.
    index
        Positions of the v voxels in the flattened half transform of that cube, (v,).
    xyz
        Frequencies of the voxels as whole numbers of spacings, (v, 3).
    table
        Number of the voxel at each position of the flattened half transform, -1 where there is none.
    """

    box_px: int
    side: int
    index: Int64[Tensor, " v"]
    xyz: Float32[Tensor, "v 3"]
    table: Int32[Tensor, " t"]

    @classmethod
    def within(cls, box_px: int, max_radius: float, *, device: torch.device | str = "cpu") -> VoxelLattice:
        """Voxels that points of radius up to `max_radius` cycles per pixel are nearest to."""
        padded = PADDING * box_px
        radius = min(max_radius * padded + 0.999, padded / 2)  # half a diagonal of a voxel is shorter
        side = min(fourier.fast_side(2 * int(radius + 2)), padded)
        kept = grid.HalfGrid.of_volume(side, max_radius=radius / side)
        xyz = (kept.frequencies * side).round()
        ranks = torch.argsort(_rank(xyz))
        index, xyz = kept.index[ranks], xyz[ranks]
        table = torch.full((side * side * (side // 2 + 1),), -1, dtype=torch.int32)
        table[index] = torch.arange(len(index), dtype=torch.int32)
        return cls(box_px=box_px, side=side, index=index.to(device), xyz=xyz.to(device), table=table.to(device))

    def __len__(self) -> int:
        return len(self.index)

    @property
    def spacing(self) -> float:
        """Distance of neighbouring voxels, in cycles per pixel."""
        return 1 / (PADDING * self.box_px)

    @property
    def radius(self) -> Float32[Tensor, " v"]:
        """Radius of every voxel in cycles per pixel."""
        return self.xyz.norm(dim=-1) * self.spacing

    @cached_property
    def shell(self) -> Int64[Tensor, " v"]:
        """Fourier shell of the box that every voxel is in."""
        return (self.radius * self.box_px).round().long()

    def shell_mean(self, values: Float32[Tensor, " v"]) -> Float32[Tensor, " v"]:
        """At each voxel the mean of the values in its shell."""
        return (torch.bincount(self.shell, values) / self._voxels_in_shell)[self.shell]

    def widened(self, values: Complex64[Tensor, "n w"]) -> Complex64[Tensor, "n v"]:
        """Values on a lattice of smaller radius, with zeros beyond it."""
        return torch.nn.functional.pad(values, (0, len(self) - values.shape[1]))

    def nearest(
        self, coordinates: Float32[Tensor, "m 3"]
    ) -> tuple[Int32[Tensor, " m"], Float32[Tensor, " m"], Float32[Tensor, "m 3"]]:
        """Number of the nearest voxel (-1 beyond the lattice), sign, and where the point lies from it, in spacings.

        Where the sign is -1 the voxel is nearest to the opposite frequency: conjugate values.

        Parameters
        ----------
        coordinates
            Frequencies xyz in cycles per pixel.
        """
        points = coordinates / self.spacing
        voxel = points.round()
        order = voxel @ voxel.new_tensor([1e6, 1e3, 1.0])  # its sign is that of the first coordinate that is not 0
        sign = torch.where(order < 0, -1.0, 1.0)[:, None]
        offset = (points - voxel) * sign
        voxel = (voxel * sign).int()
        half, columns = self.side // 2, self.side // 2 + 1
        outside = (voxel.abs() >= half).any(dim=-1)
        x, y, z = voxel.unbind(-1)
        position = ((z % self.side) * self.side + y % self.side) * columns + x
        return self.table[position.masked_fill_(outside, 0)], sign[:, 0], offset

    def volumes(self, values: Complex64[Tensor, "n v"], *, sharpen: bool = False) -> Float32[Tensor, "n d d d"]:
        """Real-space volumes (axes zyx) in units of `gridding.prepare_sampling`.

        Parameters
        ----------
        sharpen
            Divide by the profile that taking the nearest voxel gives the density.
        """
        padded = PADDING * self.box_px
        volumes = torch.empty(len(values), *3 * (self.box_px,), device=values.device)
        x, y, z = self.xyz.long().unbind(-1)
        for volume, one in zip(volumes, values, strict=True):  # padded grids are large
            half = torch.zeros(padded, padded, padded // 2 + 1, dtype=values.dtype, device=values.device)
            half[z % padded, y % padded, x] = one
            fourier.complete_friedel(half, ndim=3)
            real = fourier.irfft3_centred(half, padded) * (self.box_px / padded**1.5)
            volume[:] = fourier.pad_centred(real, self.box_px, ndim=3)
        return volumes / self._profile() if sharpen else volumes

    def values(self, volumes: Float32[Tensor, "n d d d"], *, blur: bool = False) -> Complex64[Tensor, "n v"]:
        """Transforms of volumes at the voxels: the inverse of `volumes`."""
        padded = PADDING * self.box_px
        values = torch.empty(len(volumes), len(self), dtype=torch.complex64, device=volumes.device)
        x, y, z = self.xyz.long().unbind(-1)
        for one, volume in zip(values, volumes, strict=True):
            blurred = volume * self._profile() if blur else volume
            half = fourier.rfft3_centred(fourier.pad_centred(blurred, padded, ndim=3))
            one[:] = half[z % padded, y % padded, x] * (padded**1.5 / self.box_px)
        return values

    def with_gradient(self, volume: Float32[Tensor, "d d d"]) -> Complex64[Tensor, "4 v"]:
        """The transform of a volume at the voxels, and its derivative along x, y and z, per spacing."""
        box = self.box_px
        axis = (torch.arange(box, device=volume.device) - box // 2) * (-2 * torch.pi / (PADDING * box))
        values = torch.empty(4, len(self), dtype=torch.complex64, device=volume.device)
        for row, factor in zip(values, (None, axis, axis[:, None], axis[:, None, None]), strict=True):
            moment = volume if factor is None else volume * factor
            row[:] = self.values(moment[None])[0] * (1 if factor is None else 1j)
        return values

    def mask_cube(self, mask: Float32[Tensor, "d d d"]) -> Float32[Tensor, "e e e"]:
        """A mask sampled at the points that the cube of side e has in real space, its centre first, for `masked`."""
        padded = PADDING * self.box_px
        axis = (torch.arange(self.side, device=mask.device) - self.side // 2) * (padded / self.side) + padded // 2
        axis = 2 * axis / (padded - 1) - 1
        points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")[::-1], dim=-1)
        wide = fourier.pad_centred(mask, padded, ndim=3)[None, None]
        return fourier.centre_first(torch.nn.functional.grid_sample(wide, points[None], align_corners=True)[0, 0])

    def masked(self, values: Complex64[Tensor, "n v"], mask_cube: Float32[Tensor, "e e e"]) -> Complex64[Tensor, "n v"]:
        """The values of volumes after multiplication by a mask in real space."""
        result = torch.empty_like(values)
        half = torch.zeros(len(self.table), dtype=values.dtype, device=values.device)
        cube = half.view(self.side, self.side, -1)
        for one, wanted in zip(values, result, strict=True):  # one after another: large cubes fill the memory
            half[self.index] = one
            half[self._mates_at] = one[self._mated].conj()
            torch.index_select(fourier.masked3(cube, mask_cube).flatten(), 0, self.index, out=wanted)
        return result

    @cached_property
    def _voxels_in_shell(self) -> Int64[Tensor, " s"]:
        return torch.bincount(self.shell).clamp(min=1)

    @cached_property
    def _mated(self) -> Int64[Tensor, " m"]:
        """Voxels of the plane x = 0: their Friedel mates are in the half transform, too."""
        return (self.xyz[:, 0] == 0).nonzero()[:, 0]

    @cached_property
    def _mates_at(self) -> Int64[Tensor, " m"]:
        """Positions of the mates of these voxels in the flattened half transform."""
        _, y, z = self.xyz[self._mated].long().unbind(-1)
        return (-z % self.side * self.side + -y % self.side) * (self.side // 2 + 1)

    def _profile(self) -> Tensor:
        x = (torch.arange(self.box_px, device=self.index.device) - self.box_px // 2) / (PADDING * self.box_px)
        profile = torch.sinc(x)
        return profile[:, None, None] * profile[None, :, None] * profile[None, None, :]


def _rank(xyz: Tensor) -> Tensor:
    """Numbers that rise with the radius, and differ between voxels of one radius."""
    xyz = xyz.double()
    return xyz.square().sum(dim=-1) * 1e9 + (xyz + 512) @ xyz.new_tensor([1e6, 1e3, 1.0])
