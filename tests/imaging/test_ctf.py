"""The CTF against a closed form of scalars, hand-made signs, and another program."""

from __future__ import annotations

import math

import pytest
import torch
from torch_ctf import calculate_ctf_2d

from tomodrgn.imaging import fourier
from tomodrgn.imaging.ctf import contrast_transfer, electron_wavelength_angst


def scalar_ctf(kx: float, ky: float, parameters: list[float]) -> float:
    """The published formula, one frequency at a time, in double precision."""
    u, v, angle_deg, phase_deg, kilovolt, cs_mm, amplitude = parameters
    volt = kilovolt * 1000
    wavelength = 12.2639 / math.sqrt(volt + 0.97845e-6 * volt * volt)
    direction = math.atan2(ky, kx) - math.radians(angle_deg)
    defocus = 0.5 * (u + v) + 0.5 * (u - v) * math.cos(2 * direction)
    k2 = kx * kx + ky * ky
    chi = -math.pi * defocus * wavelength * k2 + 0.5 * math.pi * cs_mm * 1e7 * wavelength**3 * k2 * k2
    return math.sin(chi - math.radians(phase_deg) - math.asin(amplitude))


PARAMETERS = [
    [20000.0, 20000.0, 0.0, 0.0, 300.0, 2.7, 0.07],
    [32000.0, 28000.0, 33.0, 0.0, 300.0, 2.7, 0.1],
    [15000.0, 18000.0, -71.5, 88.0, 200.0, 1.4, 0.0],
    [-3000.0, -9000.0, 120.0, 45.0, 120.0, 6.3, 0.2],
]


def test_equals_the_closed_form_with_astigmatism_phase_shift_and_amplitude_contrast():
    frequencies = fourier.half_frequencies_xy(16).reshape(-1, 2) / 2.5
    found = contrast_transfer(frequencies, torch.tensor(PARAMETERS))
    assert found.shape == (4, len(frequencies))
    expected = torch.tensor([[scalar_ctf(x, y, row) for x, y in frequencies.tolist()] for row in PARAMETERS])
    assert expected.std() > 0.5
    torch.testing.assert_close(found, expected, atol=3e-4, rtol=0)


@pytest.mark.parametrize(("kilovolt", "angst"), [(300.0, 0.0196875), (200.0, 0.0250793), (120.0, 0.0334922)])
def test_wavelength_of_common_microscopes(kilovolt, angst):
    """Textbook values: 1.97, 2.51 and 3.35 pm."""
    assert float(electron_wavelength_angst(torch.tensor([kilovolt]))) == pytest.approx(angst, rel=2e-4)


def test_astigmatism_angle_runs_from_x_towards_y():
    """Defocus U along 90 degrees is the defocus on the y axis: with U = 0 nothing but amplitude contrast is left."""
    k = torch.tensor([[0.0, 0.05], [0.05, 0.0], [0.05, 0.05]])
    along_y = contrast_transfer(k, torch.tensor([[0.0, 20000.0, 90.0, 0.0, 300.0, 0.0, 0.1]]))[0]
    assert along_y[0] == pytest.approx(-0.1, abs=1e-6)
    assert along_y[1] == pytest.approx(scalar_ctf(0.05, 0.0, [20000.0, 20000.0, 0.0, 0.0, 300.0, 0.0, 0.1]), abs=1e-5)
    diagonal = contrast_transfer(k[2:], torch.tensor([[0.0, 20000.0, 45.0, 0.0, 300.0, 0.0, 0.1]]))
    assert float(diagonal) == pytest.approx(-0.1, abs=1e-6)


def test_signs_at_low_frequency():
    """At k = 0 only -(phase shift + arcsin w) is left; underfocus makes the first oscillation negative."""
    k = torch.tensor([[0.0, 0.0], [0.02, 0.0]])
    zero, low = contrast_transfer(k, torch.tensor([[20000.0, 20000.0, 0.0, 30.0, 300.0, 2.7, 0.5]]))[0]
    assert zero == pytest.approx(-math.sin(math.radians(60.0)), abs=1e-6)
    assert low < zero < 0
    assert contrast_transfer(k[1:], torch.tensor([[-20000.0, -20000.0, 0.0, 0.0, 300.0, 2.7, 0.0]])) > 0


@pytest.mark.parametrize("row", [*PARAMETERS[:2], [18000.0, 15000.0, -71.5, 88.0, 200.0, 1.4, 0.0]])
def test_agrees_with_torch_ctf_of_opposite_sign(row):
    u, v, angle, phase, kilovolt, cs, amplitude = row  # U above V, as torch-ctf needs
    pixel, d = 5.0, 32
    other = calculate_ctf_2d(
        defocus=(u + v) / 2e4,
        astigmatism=(u - v) / 2e4,
        astigmatism_angle=angle,
        voltage=kilovolt,
        spherical_aberration=cs,
        amplitude_contrast=amplitude,
        phase_shift=phase,
        pixel_size=pixel,
        image_shape=(d, d),
        rfft=True,
        fftshift=False,
    )
    ours = contrast_transfer(fourier.half_frequencies_xy(d).reshape(-1, 2) / pixel, torch.tensor([row]))
    # The Nyquist row and column may bear either sign, which matters to astigmatism.
    inside = torch.ones(d, d // 2 + 1, dtype=torch.bool)
    inside[d // 2], inside[:, -1] = False, False
    torch.testing.assert_close(ours.view(d, -1)[inside], -other[inside].float(), atol=2e-3, rtol=0)
