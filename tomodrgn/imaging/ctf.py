"""The contrast transfer function of each image."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["contrast_transfer", "electron_wavelength_angst"]


def electron_wavelength_angst(voltage_kv: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Relativistic electron wavelength in angstrom, ``12.2639 / sqrt(V + 0.97845e-6 V^2)`` with V in volt.

    Examples
    --------
    >>> round(float(electron_wavelength_angst(torch.tensor([300.0]))), 5)
    0.01969
    """
    volt = voltage_kv.double() * 1e3
    return (12.2639 / torch.sqrt(volt + 0.97845e-6 * volt.square())).float()


def contrast_transfer(
    frequencies_per_angst: Float[Tensor, "p 2"], parameters: Float[Tensor, "n 7"]
) -> Float[Tensor, "n p"]:
    """CTF of n images at p frequencies, negative at low frequency for underfocus (protein dark on light).

    ``sin(-pi dz lambda k^2 + pi/2 Cs lambda^3 k^4 - phase_shift - arcsin w)`` with
    ``dz = (dU + dV) / 2 + (dU - dV) / 2 cos(2 (angle(k) - angle_astigmatism))``; Rohou & Grigorieff 2015
    (10.1016/j.jsb.2015.08.008), equations 1-5, with the sign that makes a positive density dark.

    Parameters
    ----------
    frequencies_per_angst
        Frequencies, order xy, in 1/angstrom, (p, 2).
    parameters
        Columns defocus U and V (angstrom), astigmatism angle (degrees, from x towards y), phase shift (degrees),
        voltage (kV), spherical aberration (mm) and amplitude contrast, (n, 7): `CtfParameters.table()`.
    """
    defocus_u, defocus_v, angle_deg, phase_deg, voltage, cs_mm, amplitude = parameters.unbind(-1)
    wavelength = electron_wavelength_angst(voltage)
    x, y = frequencies_per_angst.unbind(-1)
    square = x.square() + y.square()
    # k^2 cos(2 (angle_k - angle)) is linear in (x^2 - y^2) and 2xy: the phase of all images is one matrix product.
    terms = torch.stack([square, x.square() - y.square(), 2 * x * y, square.square()])  # (4, p)
    mean, half_difference = (defocus_u + defocus_v) / 2, (defocus_u - defocus_v) / 2
    twice = torch.deg2rad(2 * angle_deg)
    defocus_factor = -math.pi * wavelength
    factors = torch.stack(
        [
            defocus_factor * mean,
            defocus_factor * half_difference * torch.cos(twice),
            defocus_factor * half_difference * torch.sin(twice),
            math.pi / 2 * cs_mm * 1e7 * wavelength**3,
        ],
        dim=-1,
    )  # (n, 4)
    constant = torch.deg2rad(phase_deg) + torch.arcsin(amplitude)
    return torch.sin(factors @ terms - constant[:, None])
