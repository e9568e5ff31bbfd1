"""`tomodrgn filter`: every choice in every dialect reads again to exactly that subset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.particles.small_sets import WarpToolsSet
from tests.particles.test_dialects import assert_equal
from tests.test_cli import fails
from tomodrgn.cli import run_command
from tomodrgn.io.star import read_star
from tomodrgn.particles.latents import Latents
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.read import read_particles, write_particles
from tomodrgn.particles.simulate import simulate_particles
from tomodrgn.particles.simulated_formats import FORMATS

DIALECTS = [*FORMATS, "tomodrgn"]
COMPACT = ("warptools", "relion5")  # stacks of visible images


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ParticleSet]:
    """Ten particles in three tomograms, in every dialect; five to seven tilts each."""
    made = {}
    for dialect, layout in FORMATS.items():
        folder = tmp_path_factory.mktemp(dialect)
        simulate_particles(
            folder, n_particles=10, n_tilts=7, n_tomograms=3, box_px=16, dialect=dialect, noise=False, seed=4
        )
        made[dialect] = read_particles(folder / layout.star)
    own = tmp_path_factory.mktemp("own") / "images.star"
    write_particles(made["warp"], own, as_images=True)
    return made | {"tomodrgn": read_particles(own)}


def where(particles: ParticleSet) -> list[str]:
    """Options that say where the stacks are, for a set in its own folder or one read with a datadir."""
    stack, near = particles.source.options.stack, particles.source.path.parent
    project = near.parents[1] if near.name == "job001" else near
    folder = next(iter(particles.source.datadir), project) if near.name != "job001" else project
    return ["--datadir", str(folder), *([] if stack is None else ["--stack", str(stack)])]


def filtered(particles: ParticleSet, out: Path, *options: object) -> ParticleSet:
    """What the filtered file reads to."""
    command = ["filter", particles.source.path, out, *where(particles), *options]
    assert run_command([str(part) for part in command]) == 0
    places = {"datadir": where(particles)[1], "stack": particles.source.options.stack}
    return read_particles(out, **({} if "--as-images" in options else places))


def in_order(one: ParticleSet, other: ParticleSet) -> None:
    """Equal, when particles stand in the order of the first."""
    assert set(one.particle_id) == set(other.particle_id)
    assert_equal(one, other.subset(one.particle_id))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_by_name_tomogram_label_and_half(sets: dict[str, ParticleSet], tmp_path: Path, dialect: str) -> None:
    particles = sets[dialect]
    ids = particles.particle_id
    table = pd.DataFrame({"particle_id": ids, "class": np.arange(10) % 3, "remark": "good one"})
    table.to_csv(tmp_path / "t.csv", index=False)
    table[:4].to_csv(tmp_path / "ids.csv", index=False)
    named = filtered(particles, tmp_path / "a.star", "--particle-ids", tmp_path / "ids.csv")
    in_order(named, particles.subset(ids[:4]))
    rest = filtered(particles, tmp_path / "b.star", "--particle-ids", tmp_path / "ids.csv", "--invert")
    in_order(rest, particles.subset(ids[4:]))
    labels = ["--labels", f"{tmp_path / 't.csv'}:class", "--keep"]
    in_order(filtered(particles, tmp_path / "c.star", *labels, "2"), particles.subset(ids[2::3]))
    both = filtered(particles, tmp_path / "d.star", *labels, "0", "--keep", "1", "--particle-ids", tmp_path / "ids.csv")
    in_order(both, particles.subset(ids[[0, 1, 3]]))
    one, two = (filtered(particles, tmp_path / f"h{half}.star", "--random-subset", half) for half in (1, 2))
    assert not set(one.particle_id) & set(two.particle_id)
    assert len(one) + len(two) == 10
    if (particles.half_set > 0).all():
        assert set(one.particle_id) == set(ids[particles.half_set == 1])
    for half in (one, two):
        in_order(half, particles.subset(half.particle_id))  # with the masks of visible tilts that they had
    if particles.tomogram[0]:
        name = particles.tomogram[0]
        some = filtered(particles, tmp_path / "e.star", "--tomogram", name)
        in_order(some, particles.subset(ids[particles.tomogram == name]))
        assert 0 < len(some) < 10


@pytest.mark.parametrize("dialect", DIALECTS)
def test_by_image(
    sets: dict[str, ParticleSet], tmp_path: Path, capsys: pytest.CaptureFixture[str], dialect: str
) -> None:
    particles = sets[dialect]
    limit = float(np.median(particles.dose_e_per_angst2))
    wanted = particles.subset_images(particles.dose_e_per_angst2 <= limit)
    choice = ["--max-dose", limit]
    command = ["filter", particles.source.path, tmp_path / "x.star", *where(particles), *choice]
    if dialect in COMPACT:
        code, error = fails(capsys, *command)
        assert code == 2
        assert "--as-images" in error
        assert not (tmp_path / "x.star").exists()
    else:
        in_order(filtered(particles, tmp_path / "a.star", *choice), wanted)
    images = filtered(particles, tmp_path / "i.star", *choice, "--as-images")
    assert images.dialect == "tomodrgn"
    assert images.particle_id.tolist() == wanted.particle_id.tolist()
    for name in ("offsets", "slice_index", "half_set"):
        np.testing.assert_array_equal(getattr(images, name), getattr(wanted, name))
    np.testing.assert_allclose(images.rotations, wanted.rotations, atol=1e-6)


def test_by_order_of_exposure_and_by_list(sets: dict[str, ParticleSet], tmp_path: Path) -> None:
    particles = sets["warp"]
    first = filtered(particles, tmp_path / "a.star", "--tilts", ":3")
    assert set(first.tilt_counts) == {3}
    for i, name in enumerate(first.particle_id):
        own = slice(*particles.offsets[particles.positions_of([name])[0] + np.arange(2)])
        doses = np.sort(particles.dose_e_per_angst2[own])[:3]
        np.testing.assert_array_equal(np.sort(first.dose_e_per_angst2[first.offsets[i] : first.offsets[i + 1]]), doses)
    command = ["info", particles.source.path, "--images", tmp_path / "images.csv"]
    assert run_command([str(part) for part in command]) == 0
    table = pd.read_csv(tmp_path / "images.csv", dtype=str)
    keep = np.random.default_rng(2).random(len(table)) < 0.5
    table[keep].to_csv(tmp_path / "some.csv", index=False)
    in_order(filtered(particles, tmp_path / "b.star", "--images", tmp_path / "some.csv"), particles.subset_images(keep))


def test_visible_frames_stay_0_and_1_and_rows_untouched_stay_as_they_were(tmp_path: Path) -> None:
    """Full-length stacks: only masks of particles that lose an image are written anew."""
    source = WarpToolsSet(tmp_path / "data")
    particles = read_particles(source.path)
    limit = 102.0  # tomogram T_2 counts from 100
    cut = filtered(particles, tmp_path / "data/cut.star", "--max-dose", limit, "--tomogram", "001.tomostar")
    assert_equal(cut, particles.subset(["001/1", "001/2"]))
    table = read_star(tmp_path / "data/cut_particles.star")["particles"]
    assert table["rlnTomoVisibleFrames"].tolist() == ["[1,0,1,1]", "[1,1,1,1]"]
    less = filtered(particles, tmp_path / "data/less.star", "--max-dose", 2)
    table = read_star(tmp_path / "data/less_particles.star")["particles"]
    assert table["rlnTomoVisibleFrames"].tolist() == ["[1,0,1,0]", "[1,1,1,0]"]
    assert_equal(less, particles.subset_images(particles.dose_e_per_angst2 <= 2))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_latents_and_columns_are_added_and_replaced(sets: dict[str, ParticleSet], tmp_path: Path, dialect: str) -> None:
    particles = sets[dialect]
    mu = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32)
    order = np.random.default_rng(1).permutation(10)
    Latents(particle_id=particles.particle_id[order], mu=mu[order], logvar=mu * 0).save(tmp_path / "z.npz")
    table = pd.DataFrame({"particle_id": particles.particle_id, "cluster": [f"0{i % 2}" for i in range(10)]})
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "c.csv", index=False)
    given = ["--add-latents", tmp_path / "z.npz", "--add-column", f"{tmp_path / 'c.csv'}:cluster"]
    for name, extra in (("plain.star", []), ("images.star", ["--as-images"])):
        written = filtered(particles, tmp_path / name, *given, *extra)
        frame = written.frame().loc[particles.particle_id]
        np.testing.assert_array_equal(frame[["tomodrgnLatent1", "tomodrgnLatent2"]].to_numpy(np.float32), mu)
        first = written.source.rows["tomodrgnCluster"].iloc[written.source_row[written.offsets[:-1]]]
        assert first.tolist() == table.set_index("particle_id")["cluster"][written.particle_id].tolist()
        Latents(particle_id=particles.particle_id, mu=mu + 1, logvar=mu).save(tmp_path / "z2.npz", overwrite=True)
        again = filtered(written, tmp_path / f"again_{name}", "--add-latents", tmp_path / "z2.npz", *extra)
        assert again.frame()["tomodrgnLatent1"].max() == pytest.approx(mu[:, 0].max() + 1)


MISTAKES = {
    "": ["no choice of particles"],
    "--invert --max-dose 5": ["--invert without a choice of particles"],
    "--tomogram nowhere": ["Got tomogram 'nowhere'", "expected one of the"],
    "--labels c.csv": ["--keep"],
    "--keep 1": ["--labels"],
    "--labels c.csv --keep 9": ["Got label '9'", "0, 1"],
    "--labels c.csv:nothing --keep 1": ["c.csv with the columns cluster, expected one named nothing"],
    "--labels two.csv --keep 1": ["two.csv with the columns a, b", "two.csv:COLUMN"],
    "--labels none.csv --keep 1": ["none.csv", "does not exist"],
    "--labels twice.csv --keep 1": ["twice in", "Remove the others"],
    "--particle-ids empty.csv": ["empty.csv without a row"],
    "--particle-ids bare.csv": ["bare.csv", "CSV"],
    "--particle-ids few.csv --tilts 9:": ["leaves none of the 10 particles"],
    "--tilts five": ["Got --tilts five, expected A:B"],
    "--tilts -1:3": ["--tilts"],
    "--images few.csv": ["without tilt", "info FILE --images"],
    "--random-subset 3": ["--random-subset"],
    "--add-latents z.npz": ["without a latent"],
    "--add-latents none.npz": ["none.npz", "does not exist"],
    "--add-column few.csv": ["few.csv without 8 of 10 particles"],
    "--add-column rln.csv": ["rlnDefocusU", "has already"],
}


@pytest.mark.parametrize(("options", "words"), MISTAKES.items())
def test_mistakes_are_one_line_and_exit_2(
    sets: dict[str, ParticleSet],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    words: list[str],
) -> None:
    particles = sets["warp"]
    monkeypatch.chdir(tmp_path)
    names = pd.DataFrame({"particle_id": particles.particle_id})
    tables = {
        "c": names.assign(cluster=np.arange(10) % 2),
        "two": names.assign(a=1, b=1),
        "few": names[:2].assign(cluster=1),
        "twice": names.iloc[[*range(10), 0]].assign(cluster=1),
        "empty": names[:0],
        "rln": names.assign(rlnDefocusU=1.0),
    }
    for name, table in tables.items():
        table.to_csv(f"{name}.csv", index=False)
    Path("bare.csv").write_text("")
    few = particles.particle_id[:3]
    Latents(particle_id=few, mu=np.zeros((3, 2), np.float32), logvar=np.zeros((3, 2), np.float32)).save("z.npz")
    code, error = fails(capsys, "filter", particles.source.path, "out.star", *options.split())
    assert code == 2, error
    assert all(word in error for word in words), error
    assert not Path("out.star").exists()
