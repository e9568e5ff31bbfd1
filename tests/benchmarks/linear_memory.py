"""Peak memory of the linear model at two sizes of a data set, beside the bound that `subspace_fit` states.

    python tests/benchmarks/linear_memory.py [--box 64] [--tilts 11] [--particles 500 2000] [--memory-gib 0.25]
                                             [--out linear_memory.json]

Images are those of 50 simulated particles, again and again under random poses: what they show does not matter here.
Each size is fitted in a process of its own. `own` is the peak of that process over what it held before the fit;
`bound` is `memory_gib`, maps and grids (400 d^3 bytes), a block of images (0.4 GB) and tables (200 bytes an image);
`statistics` is what those of all images would take if they were kept. Wanted: every `own` below its bound.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

GIB = 2**30
SIMULATED, BLOCK_BYTES, IMAGE_BYTES = 50, 0.4e9, 200


def repeated(particles, times: int):
    """The same images again and again, as other particles with other poses."""
    from tomodrgn.imaging.pose import euler_to_rotation
    from tomodrgn.particles.particle_set import CtfParameters

    k, n = len(particles), particles.n_images
    angles = np.random.default_rng(0).uniform(-180, 180, (3, n * times))
    one_an_image = ("shifts_px", "dose_e_per_angst2", "tilt_deg", "image_scale", "stack_index", "slice_index",
                    "source_row", "source_slot")  # fmt: skip
    ctf = {name: np.tile(values, times) for name, values in vars(particles.ctf).items()}
    return replace(
        particles,
        particle_id=np.array([f"p{i:07d}" for i in range(k * times)]),
        tomogram=np.tile(particles.tomogram, times),
        half_set=np.tile(particles.half_set, times),
        offsets=np.concatenate([[0], np.cumsum(np.tile(particles.tilt_counts, times))]),
        rotations=euler_to_rotation(*angles),
        ctf=CtfParameters(**ctf),
        **{name: np.concatenate([getattr(particles, name)] * times) for name in one_an_image},
    )


def fit(folder: Path, n_particles: int, memory_gib: float) -> dict[str, float]:
    """Memory and seconds of one fit, in this process."""
    import tomodrgn as td
    from tomodrgn.imaging.grid import HalfGrid
    from tomodrgn.model.subspace_fit import BYTES_PER_POINT, fit_subspace
    from tomodrgn.particles.preprocess import Preprocessor, estimate_scale

    particles = repeated(td.read_particles(folder / "particles.star"), n_particles // SIMULATED)
    config = td.PreprocessConfig()
    preprocessor = Preprocessor(particles, config, scale=estimate_scale(particles, config))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, time.perf_counter()
    fit_subspace(preprocessor, td.LinearConfig(n_components=4, component_mask="sphere", memory_gib=memory_gib))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    points = len(HalfGrid.of_image(particles.box_px, max_radius=config.max_radius)) * particles.n_images
    bound = memory_gib * GIB + 400 * particles.box_px**3 + BLOCK_BYTES + IMAGE_BYTES * particles.n_images
    return {
        "particles": len(particles),
        "images": particles.n_images,
        "seconds": time.perf_counter() - began,
        "statistics_gib": points * BYTES_PER_POINT / GIB,
        "process_gib": peak / GIB,
        "own_gib": (peak - before) / GIB,
        "bound_gib": bound / GIB,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--box", type=int, default=64)
    parser.add_argument("--tilts", type=int, default=11)
    parser.add_argument("--particles", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--memory-gib", type=float, default=0.25)
    parser.add_argument("--out", type=Path, default=Path("linear_memory.json"))
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        print(json.dumps(fit(options.folder, options.particles[0], options.memory_gib)))
        return
    import tomodrgn as td

    results = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "data"
        td.simulate_particles(folder, n_particles=SIMULATED, n_tilts=options.tilts, box_px=options.box, missing_tilts=0)
        for n in options.particles:
            command = [sys.executable, __file__, "--folder", str(folder), "--particles", str(n)]
            command += ["--memory-gib", str(options.memory_gib)]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            results.append(json.loads(said.splitlines()[-1]))
            if len(results) == 1:
                print("  ".join(f"{name:>14}" for name in results[0]))
            print("  ".join(f"{value:>14.2f}" for value in results[-1].values()), flush=True)
    met = all(result["own_gib"] <= result["bound_gib"] for result in results)
    print("below the bound" if met else "above the bound")
    options.out.write_text(json.dumps({"box_px": options.box, "met": met, "runs": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
