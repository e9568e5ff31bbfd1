"""Any layout of the files of any dialect: read, written and read again gives equal particles and the same text."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.particles.test_dialects import assert_equal
from tomodrgn.io.star import is_simple
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.read import read_particles, write_particles
from tomodrgn.particles.simulate import simulate_particles
from tomodrgn.particles.simulated_formats import FORMATS
from tomodrgn.particles.write_back import PARTICLES_FILE, TOMOGRAMS_FILE

DIALECTS = [*FORMATS, "tomodrgn"]
SPECIAL = ("#", '"', "'", "_", "data_", "loop_")
Blocks = dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ParticleSet]:
    """Four particles of three or four tilts in every dialect."""
    made = {}
    for dialect, layout in FORMATS.items():
        folder = tmp_path_factory.mktemp(dialect)
        simulate_particles(folder, n_particles=4, n_tilts=4, n_tomograms=2, box_px=12, dialect=dialect, noise=False)
        made[dialect] = read_particles(folder / layout.star)
    own = tmp_path_factory.mktemp("own") / "images.star"
    write_particles(made["warp"], own, as_images=True)
    return made | {"tomodrgn": read_particles(own)}


def cells() -> st.SearchStrategy[str]:
    """Numbers in every spelling, and texts that need quotes or look like something else."""
    numbers = st.sampled_from(["007", "-0.0", "1e5", "1.50", "nan", "inf", "null", "[1,0,1]", "000001@x.mrcs"])
    words = st.sampled_from(["", "a b", " a", "it's", 'say "no"', "#1", "_x", "data_", "loop_", "data_x y", "x#y"])
    drawn = st.text("ab0.# _'\"@/\xa0\xb5", max_size=6)
    return st.one_of(numbers, words, drawn).filter(lambda cell: not ("'" in cell and '"' in cell))


@st.composite
def extra_columns(draw: st.DrawFn) -> dict[str, list[str]]:
    """Up to four columns of a user's own; their cells are taken in turn."""
    names = draw(st.lists(st.from_regex(r"user[A-Za-z0-9]{1,5}", fullmatch=True), max_size=4, unique=True))
    return {name: draw(st.lists(cells(), min_size=1, max_size=5)) for name in names}


@dataclass(frozen=True)
class Layout:
    """How a program might lay a file out."""

    choose: Random
    quotes: bool
    comments: bool
    blanks: bool
    newline: str
    ends: bool  # with a newline

    def text(self, blocks: Blocks) -> str:
        lines = ["# written by a program"] * self.comments
        for name, block in blocks.items():
            lines += ["", f"data_{name}{self.space(0)}"] + [""] * self.choose.randrange(2)
            lines += self.entries(block) if is_simple(block) else self.loop(block)
        text = self.newline.join(lines)
        return text + self.newline * self.ends

    def entries(self, block: pd.DataFrame) -> list[str]:
        return [f"_{label}{self.space()}{self.cell(str(block[label].iloc[0]))}" for label in block]

    def loop(self, block: pd.DataFrame) -> list[str]:
        counted = self.choose.random() < 0.5
        lines = [f"loop_{self.space(0)}"]
        lines += [f"{self.space(0)}_{label}" + f" #{i}" * counted for i, label in enumerate(block, 1)]
        for row in block.itertuples(index=False):
            lines += [""] * (self.blanks and self.choose.random() < 0.3)
            lines += ["  # a remark"] * (self.comments and self.choose.random() < 0.3)
            tail = " # the end" * (self.comments and self.choose.random() < 0.3)
            lines.append(self.space(0) + self.space().join(self.cell(str(c)) for c in row) + self.space(0) + tail)
        return lines

    def space(self, least: int = 1) -> str:
        return "".join(self.choose.choices(" \t", k=self.choose.randint(least, 2)))

    def cell(self, cell: str) -> str:
        plain = bool(cell) and not cell.startswith(SPECIAL) and not any(c.isspace() for c in cell)
        if plain and not (self.quotes and self.choose.random() < 0.2):
            return cell
        marks = [mark for mark in "'\"" if mark not in cell]
        mark = self.choose.choice(marks) if marks else ""
        return f"{mark}{cell}{mark}"


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    flags = {name: draw(st.booleans()) for name in ("quotes", "comments", "blanks", "ends")}
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    return Layout(choose=draw(st.randoms(use_true_random=False)), newline=newline, **flags)


def rearranged(blocks: Blocks, rows: str, extra: dict[str, list[str]], layout: Layout) -> Blocks:
    """Columns in another order and more of them; blocks in another order; dictionaries and one-row loops exchanged."""
    made = {}
    for name in layout.choose.sample(list(blocks), len(blocks)):
        block = blocks[name]
        if name == rows:
            added = {label: [given[i % len(given)] for i in range(len(block))] for label, given in extra.items()}
            block = block.assign(**added)
        columns = layout.choose.sample(list(block), len(list(block)))
        made[name] = block[columns].reset_index(drop=True)
        made[name].attrs["simple"] = len(block) == 1 and layout.choose.random() < 0.5 and name != rows
    return made


def laid_out(particles: ParticleSet, folder: Path, extra: dict[str, list[str]], layout: Layout) -> tuple[Path, Blocks]:
    """Write a data set in some layout; the file to be read, and its blocks of particles."""
    source = particles.source
    blocks = rearranged(source.particles, source.particles_block, extra, layout)
    written = {"p.star": blocks}
    if source.optimisation_set:
        named = {PARTICLES_FILE: "p.star", TOMOGRAMS_FILE: "t.star"}
        sets = {name: block.assign(**named) for name, block in source.optimisation_set.items()}
        written["set.star"] = rearranged(sets, "", {}, layout)
        written["t.star"] = rearranged(source.tomograms, "", {}, layout)
    for name, content in written.items():
        (folder / name).write_bytes(layout.text(content).encode())
    return folder / ("set.star" if source.optimisation_set else "p.star"), blocks


def same_text(one: Blocks, other: Blocks) -> None:
    assert list(one) == list(other)
    for name, block in one.items():
        assert list(block) == list(other[name])
        assert block.to_numpy().tolist() == other[name].to_numpy().tolist()


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(extra=extra_columns(), layout=layouts(), keep=st.integers(1, 15))
def test_round_trip_of_any_layout(
    sets: dict[str, ParticleSet], dialect: str, extra: dict[str, list[str]], layout: Layout, keep: int
) -> None:
    original = sets[dialect]
    source = original.source
    places = {
        "datadir": source.path.parents[2] if dialect == "relion5" else source.path.parent,
        "stack": source.options.stack,
        "check_stacks": False,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        star, blocks = laid_out(original, folder, extra, layout)
        first = read_particles(star, **places)
        assert first.dialect == dialect
        np.testing.assert_array_equal(first.particle_id, original.particle_id)
        for quantity in ("rotations", "shifts_px", "dose_e_per_angst2", "tilt_deg", "image_scale", "offsets"):
            np.testing.assert_array_equal(getattr(first, quantity), getattr(original, quantity), err_msg=quantity)
        same_text(first.source.particles, blocks)

        write_particles(first, folder / "again/out.star")
        second = read_particles(folder / "again/out.star", **places)
        same_text(second.source.particles, blocks)
        same_text(second.source.tomograms, first.source.tomograms)
        assert_same(second, first)

        chosen = first.subset(first.particle_id[[bool(keep >> i & 1) for i in range(4)]])
        write_particles(chosen, folder / "kept.star")
        third = read_particles(folder / "kept.star", **places)
        assert_same(third, chosen)
        rows = blocks[source.particles_block].iloc[np.unique(chosen.source_row)]
        assert third.source.rows.to_numpy().tolist() == rows.to_numpy().tolist()


def assert_same(one: ParticleSet, other: ParticleSet) -> None:
    """Equal but for the folder in which stacks that are not looked for would be."""
    names = [
        [(p.stack_paths[i].name, s) for i, s in zip(p.stack_index, p.slice_index, strict=True)] for p in (one, other)
    ]
    assert names[0] == names[1]
    assert_equal(one, other, stacks=False)
