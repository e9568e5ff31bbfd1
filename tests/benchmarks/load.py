"""Reading of a large Warp image series: seconds and peak memory beside those of starfile.read on the same file.

    python tests/benchmarks/load.py [--particles 24000] [--tilts 41] [--tomograms 120] [--out load.json]

Each reader runs in a process of its own, turn about, as often as `--repeats` says; the best time and the lowest peak of
each count, so that other load on the machine matters less. Seconds leave imports out; the peak is that of the whole
process. `read_particles` also finds and opens every image stack. Wanted: at most 2 times the seconds of starfile and
1.5 times its memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WANTED = {"seconds": 2.0, "peak_mib": 1.5}
BOX = 64
LABELS = (
    "Magnification", "DetectorPixelSize", "Voltage", "SphericalAberration", "AmplitudeContrast", "PhaseShift",
    "DefocusU", "DefocusV", "DefocusAngle", "ImageName", "MicrographName", "CoordinateX", "CoordinateY", "AngleRot",
    "AngleTilt", "AnglePsi", "CtfBfactor", "CtfScalefactor", "RandomSubset", "GroupName",
)  # fmt: skip


def write_series(folder: Path, n_particles: int, n_tilts: int, n_tomograms: int) -> Path:
    """A Warp v1 image series of twenty columns, and stacks that are headers before holes."""
    from tomodrgn.io.mrc import write_stack

    rng = np.random.default_rng(0)
    tilts = np.linspace(-60, 60, n_tilts)
    order = np.argsort(np.abs(tilts), kind="stable")
    path = folder / "series.star"
    slices = np.zeros(n_tomograms, dtype=int)
    with path.open("w") as file:
        file.write("\ndata_\n\nloop_\n" + "".join(f"_rln{label} #{i}\n" for i, label in enumerate(LABELS, 1)))
        for particle in range(n_particles):
            tomogram = particle * n_tomograms // n_particles
            name = f"TS_{tomogram:03d}"
            numbers = rng.uniform(-1, 1, (n_tilts, 8))
            for rank, (tilt, row) in enumerate(zip(order, numbers, strict=True)):
                slices[tomogram] += 1
                file.write(
                    f"  10000.0 5.000000 300.0 2.70 0.07 0.0 {30000 + 9000 * row[0]:.1f} {30000 + 9000 * row[1]:.1f} "
                    f"{90 * row[2]:.6f} {slices[tomogram]:06d}@particleseries/{name}.mrcs {name}_{tilt:03d}.mrc "
                    f"{2000 + 1900 * row[3]:.4f} {2000 + 1900 * row[4]:.4f} {180 * row[5]:.6f} {180 * row[6]:.6f} "
                    f"{180 * row[7]:.6f} {-12.0 * (rank + 1):.3f} {np.cos(np.deg2rad(tilts[tilt])):.6f} "
                    f"{1 + particle % 2} {name}_{particle:07d}\n"
                )
    (folder / "particleseries").mkdir()
    one = folder / "one.mrcs"
    write_stack(one, np.zeros((1, BOX, BOX), np.float32), 5.0)
    header = bytearray(one.read_bytes()[:1024])
    for tomogram, count in enumerate(slices):
        header[8:12] = int(count).to_bytes(4, "little")
        with (folder / f"particleseries/TS_{tomogram:03d}.mrcs").open("wb") as stack:
            stack.write(header)
            stack.truncate(1024 + 4 * BOX * BOX * int(count))
    return path


def read(reader: str, path: Path) -> dict[str, float]:
    """Seconds, peak memory and rows of one reader, in this process."""
    if reader == "starfile":
        import starfile

        began = time.perf_counter()
        rows = len(starfile.read(path))
    else:
        from tomodrgn.particles.read import read_particles

        began = time.perf_counter()
        rows = read_particles(path).n_images
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mib": peak, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("particles", 24_000), ("tilts", 41), ("tomograms", 120), ("repeats", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path, default=Path("load.json"))
    parser.add_argument("--reader", choices=("starfile", "tomodrgn"), help=argparse.SUPPRESS)
    parser.add_argument("--star", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reader:
        print(json.dumps(read(options.reader, options.star)))
        return

    found: dict[str, list[dict[str, float]]] = {"starfile": [], "tomodrgn": []}
    with tempfile.TemporaryDirectory() as folder:
        star = options.star or write_series(Path(folder), options.particles, options.tilts, options.tomograms)
        for _ in range(options.repeats):
            for reader, results in found.items():
                command = [sys.executable, __file__, "--reader", reader, "--star", str(star)]
                said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                results.append(json.loads(said.splitlines()[-1]))
    best = {reader: {key: min(r[key] for r in runs) for key in runs[0]} for reader, runs in found.items()}
    ratio = {key: best["tomodrgn"][key] / best["starfile"][key] for key in WANTED}
    print(f"{'':<10} {'seconds':>9} {'peak MiB':>9} {'rows':>9}")
    for reader, values in best.items():
        print(f"{reader:<10} {values['seconds']:>9.2f} {values['peak_mib']:>9.0f} {values['rows']:>9.0f}")
    print(f"{'ratio':<10} {ratio['seconds']:>9.2f} {ratio['peak_mib']:>9.2f}")
    print(f"{'wanted':<10} {WANTED['seconds']:>9.2f} {WANTED['peak_mib']:>9.2f}")
    options.out.write_text(json.dumps({**best, "ratio": ratio, "wanted": WANTED, "runs": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
