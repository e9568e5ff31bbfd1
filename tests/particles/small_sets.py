"""Small data sets of every dialect, written by hand, with known answers."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from tomodrgn.io.mrc import write_stack
from tomodrgn.io.star import write_star


def text_frame(rows: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame([{name: str(value) for name, value in row.items()} for row in rows], dtype=str)


def simple(**values: object) -> pd.DataFrame:
    frame = text_frame([values])
    frame.attrs["simple"] = True
    return frame


class WarpSeries:
    """A Warp v1 image series: tomograms `001` and `T_2`, two particles with 3 and 2 tilts, one stack a tomogram."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "series.star"
        self.blocks: dict[str, pd.DataFrame] = {"": text_frame([*self.images("001", 3), *self.images("T_2", 2)])}
        for name, count in (("001", 3), ("T_2", 2)):
            images = np.arange(count * 16, dtype=np.float32).reshape(count, 4, 4)
            write_stack(folder / f"particleseries/{name}.mrcs", images, 5.0, overwrite=True)
        self.write()

    @staticmethod
    def images(tomogram: str, count: int) -> list[dict[str, object]]:
        return [
            {
                "rlnMagnification": "10000", "rlnDetectorPixelSize": "5.0", "rlnVoltage": "300.0",
                "rlnSphericalAberration": "2.7", "rlnAmplitudeContrast": "0.07", "rlnPhaseShift": "0.0",
                "rlnDefocusU": f"{20000 + 10 * i}.5", "rlnDefocusV": f"{19000 + 10 * i}", "rlnDefocusAngle": "12.3",
                "rlnImageName": f"{i + 1:06d}@particleseries/{tomogram}.mrcs",
                "rlnMicrographName": f"{tomogram}_{i}.mrc",
                "rlnAngleRot": f"{10.0 * i:.5f}", "rlnAngleTilt": "30.0", "rlnAnglePsi": "-95.35435",
                "rlnCtfBfactor": f"{-12.0 * (i + 1):.2f}", "rlnCtfScalefactor": f"{np.cos(np.deg2rad(20 * i)):.4f}",
                "rlnRandomSubset": "2", "rlnGroupName": f"{tomogram}_0000007",
            }
            for i in range(count)
        ]  # fmt: skip

    def write(self) -> Path:
        write_star(self.path, self.blocks, overwrite=True)
        return self.path

    @property
    def rows(self) -> pd.DataFrame:
        return self.blocks[""]

    @rows.setter
    def rows(self, rows: pd.DataFrame) -> None:
        self.blocks[""] = rows


class WarpToolsSet:
    """A WarpTools optimisation set: tomograms `001.tomostar` (4 tilts) and `T_2.tomostar` (3 tilts), 2 + 1 particles.

    The tilt axis is y. Exposure of tilt t of tomogram m is 100 m + t; defocus U is 20000 + that, V is 1000 less.
    """

    ANGLES: ClassVar = {"001.tomostar": [-40.0, -10.0, 20.0, 50.0], "T_2.tomostar": [-30.0, 0.0, 30.0]}
    MASKS: ClassVar = {"001/1": "[1,0,1,1]", "001/2": "[1,1,1,1]", "T_2/1": "[0,1,1]"}

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "set.star"
        self.optimisation = {"": simple(rlnTomoParticlesFile="p.star", rlnTomoTomogramsFile="t.star", rlnNote="a b")}
        optics = {
            "rlnOpticsGroupName": "opticsGroup1", "rlnSphericalAberration": "2.700", "rlnVoltage": "300.000",
            "rlnTomoTiltSeriesPixelSize": "2.0", "rlnCtfDataAreCtfPremultiplied": "1", "rlnImageDimensionality": "2",
            "rlnTomoSubtomogramBinning": "5.0", "rlnImagePixelSize": "10.00000", "rlnImageSize": "4",
            "rlnAmplitudeContrast": "0.070",
        }  # fmt: skip
        self.particles = {
            "general": simple(rlnTomoSubTomosAre2DStacks="1"),
            "optics": text_frame([{"rlnOpticsGroup": str(i), **optics} for i in (1, 2)]),
            "particles": text_frame([self.particle("001", 1), self.particle("001", 2), self.particle("T_2", 1)]),
        }
        tables = [
            {
                "rlnTomoName": name, "rlnTomoTiltSeriesName": "dummy_tiltseries.mrc", "rlnTomoFrameCount": len(angles),
                "rlnTomoSizeX": 1000, "rlnTomoSizeY": 1200, "rlnTomoSizeZ": 400, "rlnTomoHand": "-1.0",
                "rlnTomoTiltSeriesPixelSize": "2.0",
            }
            for name, angles in self.ANGLES.items()
        ]  # fmt: skip
        self.tomograms = {"global": text_frame(tables)}
        for m, (name, angles) in enumerate(self.ANGLES.items()):
            self.tomograms[name] = text_frame([self.tilt(m, t, angle) for t, angle in enumerate(angles)])
        self.write()
        self.write_stacks()

    def particle(self, root: str, number: int) -> dict[str, object]:
        return {
            "rlnTomoName": f"{root}.tomostar", "rlnTomoParticleId": number, "rlnCoordinateX": 100.0 + 20 * number,
            "rlnCoordinateY": 120.0, "rlnCoordinateZ": 40.0 + 10 * number, "rlnAngleRot": 10.0 * number,
            "rlnAngleTilt": 70.0, "rlnAnglePsi": -25.5, "rlnTomoParticleName": f"{root}/{number}",
            "rlnOpticsGroup": 1 if root == "001" else 2,
            "rlnImageName": f"stacks/{root}/{root}_10.00A_{number:06d}.mrcs",
            "rlnOriginXAngst": "0.0", "rlnOriginYAngst": "0.0", "rlnOriginZAngst": "0.0",
            "rlnTomoVisibleFrames": self.MASKS[f"{root}/{number}"],
        }  # fmt: skip

    @staticmethod
    def tilt(tomogram: int, tilt: int, angle_deg: float) -> dict[str, object]:
        cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
        number = 100 * tomogram + tilt
        return {
            "rlnTomoProjX": f"[{cos:.8f},0,{sin:.8f},0]", "rlnTomoProjY": "[0,1,0,0]",
            "rlnTomoProjZ": f"[{-sin:.8f},0,{cos:.8f},0]", "rlnTomoProjW": "[0,0,0,1]",
            "rlnDefocusU": f"{20000 + number:.1f}", "rlnDefocusV": f"{19000 + number:.1f}", "rlnDefocusAngle": "41.271",
            "rlnCtfScalefactor": f"{cos:.3f}", "rlnMicrographPreExposure": f"{number:.3f}",
        }  # fmt: skip

    def write(self) -> Path:
        write_star(self.folder / "p.star", self.particles, overwrite=True)
        write_star(self.folder / "t.star", self.tomograms, overwrite=True)
        write_star(self.path, self.optimisation, overwrite=True)
        return self.path

    def write_stacks(self, *, compact: bool = False) -> None:
        """Stacks whose image of tilt t is t everywhere."""
        for _, row in self.rows.iterrows():
            mask = np.array([c == "1" for c in row["rlnTomoVisibleFrames"].strip("[]").split(",")])
            images = np.arange(len(mask), dtype=np.float16)[:, None, None] * np.ones((4, 4), dtype=np.float16)
            path = self.folder / row["rlnImageName"]
            write_stack(path, images[mask] if compact else images, 10.0, overwrite=True)

    @property
    def rows(self) -> pd.DataFrame:
        return self.particles["particles"]

    @rows.setter
    def rows(self, rows: pd.DataFrame) -> None:
        self.particles["particles"] = rows
