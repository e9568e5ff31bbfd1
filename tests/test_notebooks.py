"""The notebooks run on a reader's own particles by their one cell of parameters, as papermill fills it in."""

from __future__ import annotations

from pathlib import Path

import papermill

import tomodrgn as td

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def test_real_particles_go_through_all_notebooks(shared_data: Path, tmp_path: Path) -> None:
    star = str(shared_data / "warptools/warptools_test_4-tomos_10-ptcls_box-32_angpix-12_optimisation_set.star")
    own = {
        "01_check_particles": {"star_file": star, "n_particles": 20, "auto_compare": True},
        "02_train": {"star_file": star, "epochs": 2, "auto_start": True},
        "03_explore_latents": {"run_dir": "train/run"},
        "04_volumes": {"run_dir": "train/run", "n_maps": 3, "lowpass_angst": 40.0},
        "05_tomogram_context": {"run_dir": "train/run"},
        "06_convergence": {"run_dir": "train/run", "n_maps": 3},
        "07_select_and_export": {"run_dir": "train/run", "query": "z1 > 0", "out_file": str(tmp_path / "chosen.star")},
    }
    for name, parameters in own.items():
        papermill.execute_notebook(
            NOTEBOOKS / f"{name}.ipynb",
            tmp_path / f"{name}.ipynb",
            parameters=parameters,
            cwd=tmp_path,
            kernel_name="python3",
            progress_bar=False,
        )
    run = td.Run.open(tmp_path / "train/run")
    assert run.epochs == [1, 2]
    assert len(run.particles) == 40
    z1 = run.table()["z1"]
    chosen = td.read_particles(tmp_path / "chosen.star", datadir=Path(star).parent, check_stacks=False)
    assert sorted(chosen.particle_id) == sorted(z1.index[z1 > 0])
