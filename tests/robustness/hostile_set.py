"""A data set with script in every text of its STAR file, and a linear run of it in a folder named likewise."""

from __future__ import annotations

from pathlib import Path

import tomodrgn as td
from tomodrgn.io.star import read_star, write_star

EVIL = "<img src=x onerror=window.pwned=1>"
TEXTS = {
    "userNote": EVIL,
    "userScript": "</script><script>window.pwned=3</script>",
    "user<svg/onload=window.pwned=2>": "\"'><svg/onload=window.pwned=2>",
}


def hostile_star(folder: Path) -> Path:
    """Two tomograms of 12 particles whose names, and the names of their columns, are markup."""
    made = td.simulate_particles(folder / "data", n_particles=24, n_tilts=5, n_tomograms=2, box_px=16, snr=0.3, seed=2)
    path = made.source.path
    blocks = read_star(path)
    name = made.source.particles_block
    rows = blocks[name]
    tomogram = rows["rlnGroupName"].str.slice(stop=-8)
    number = rows["rlnGroupName"].str.slice(start=-7)
    rows["rlnGroupName"] = EVIL + tomogram + "_" + number
    rows["rlnMicrographName"] = EVIL + rows["rlnMicrographName"]
    for label, text in TEXTS.items():
        rows[label] = text.replace("\"'", "'")
    blocks[name] = rows
    write_star(path, blocks, overwrite=True)
    return path


def hostile_run(folder: Path) -> td.Run:
    """A linear run of `hostile_star`."""
    particles = td.read_particles(hostile_star(folder))
    return td.fit_linear(particles, folder / "run<img src=x onerror=window.pwned=4>", td.LinearConfig(n_components=2))
