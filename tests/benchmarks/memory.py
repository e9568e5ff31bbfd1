"""Memory and disk of a training for each image, at several boxes, with the cache of images in memory or in a file.

    python tests/benchmarks/memory.py [--box 32 64 96] [--particles 200 800] [--tilts 21] [--out memory.json]

Each training runs in a process of its own, which is watched: `anonymous` is its largest memory that is no mapped file
(what must fit into RAM), for each image the difference between many and few particles. `cache_bytes` is the size of the
cache for an image by its formula; `anonymous` of a cache in memory less that of one in a file is to be compared to it
(`measured_bytes`). `goal_gib` is what 902,000 images (22,000 particles of 41 tilts) then take with the cache in a file,
which has `goal_cache_gib`. Wanted: goal_gib below 16 at box 96, below 64 at box 200.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from common import machine, print_rows, write_json

GIB, GOAL_IMAGES = 2**30, 902_000


def anonymous_bytes() -> int:
    """Memory of this process that is no mapped file."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return sum(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))


def train_once(star: Path, folder: Path, cache_gib: float) -> dict[str, float]:
    """The largest memory of one epoch, in this process."""
    import tomodrgn as td
    from tomodrgn.particles.preprocess import Preprocessor
    from tomodrgn.training import train as train_module
    from tomodrgn.training.cached_images import cache_bytes

    particles = td.read_particles(star)
    sizes, seen, done = [], [], threading.Event()
    original = train_module.cache_images

    def measured(preprocessor: Preprocessor, *arguments, **options):
        sizes.append(cache_bytes(preprocessor))
        return original(preprocessor, *arguments, **options)

    train_module.cache_images = measured

    def watch() -> None:
        while not done.is_set():
            seen.append(anonymous_bytes())
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    config = td.TrainConfig(epochs=1, cache_gib=cache_gib, tilts_per_particle=2)  # fewer: only for speed
    try:
        td.train(particles, folder, model=td.VaeConfig(decoder_dim=64), training=config)  # also only for speed
    finally:
        done.set()
        watcher.join()
    return {"images": particles.n_images, "peak": max(seen), "cache": sizes[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--box", type=int, nargs="+", default=[32, 64, 96])
    parser.add_argument("--particles", type=int, nargs=2, default=[200, 800])
    parser.add_argument("--tilts", type=int, default=21)
    parser.add_argument("--out", type=Path, default=Path("memory.json"))
    parser.add_argument("--once", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        star, folder, cache_gib = options.once
        print(json.dumps(train_once(Path(star), Path(folder), float(cache_gib))))
        return
    import tomodrgn as td

    print(machine())
    rows = []
    for box in options.box:
        with tempfile.TemporaryDirectory() as place:
            found = {}
            for n in options.particles:
                data = Path(place) / str(n)
                td.simulate_particles(data, n_particles=n, n_tilts=options.tilts, box_px=box, missing_tilts=0)
                for cache_gib in (64, 0):
                    once = ["--once", str(data / "particles.star"), f"{data}-{cache_gib}", str(cache_gib)]
                    done = subprocess.run([sys.executable, __file__, *once], check=True, capture_output=True, text=True)
                    found[cache_gib, n] = json.loads(done.stdout.splitlines()[-1])
        few, many = options.particles
        images = found[0, many]["images"] - found[0, few]["images"]
        memory, file = ((found[g, many]["peak"] - found[g, few]["peak"]) / images for g in (64, 0))
        fixed = found[0, few]["peak"] - file * found[0, few]["images"]
        rows.append(
            {
                "box": box,
                "cache_bytes": found[0, few]["cache"] / found[0, few]["images"],
                "measured_bytes": memory - file,
                "anonymous_bytes_in_memory": memory,
                "anonymous_bytes_in_file": file,
                "fixed_gib": fixed / GIB,
                "goal_gib": (fixed + file * GOAL_IMAGES) / GIB,
                "goal_cache_gib": found[0, few]["cache"] / found[0, few]["images"] * GOAL_IMAGES / GIB,
            }
        )
    print_rows(rows)
    write_json(options.out, tilts=options.tilts, particles=options.particles, runs=rows)


if __name__ == "__main__":
    main()
