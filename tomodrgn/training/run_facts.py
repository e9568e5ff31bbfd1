"""What there is to know of a run, for a reader and for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tomodrgn.config import Config, PreprocessConfig, TrainConfig
from tomodrgn.training.lock import lock_holder
from tomodrgn.training.run import Run

__all__ = ["describe_run"]

LOSSES = ["reconstruction", "kl", "total"]


def describe_run(run: Run | Path | str) -> dict[str, Any]:
    """State, data, options, losses and results of a run, as JSON knows them.

    Options are those that differ from their defaults. The state is "killed" if a run says that it is running, of which
    no process holds the folder any more.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    settings, history, status = run.settings, run.history, run.status
    model = run.config
    state = status.get("state", "not begun")
    holder = lock_holder(run.folder)
    last = history[history["epoch"] == history["epoch"].max()]
    return {
        "run": str(run.folder),
        "kind": run.kind,
        "state": "killed" if state == "running" and holder is None else state,
        "process": None if holder is None else {"host": holder.host, "pid": holder.pid},
        "error": status.get("error"),
        "created": settings["created"],
        "tomodrgn": settings["tomodrgn"],
        "epochs": len(run.epochs),
        "epochs_wanted": 1 if run.kind == "linear" else run.train_config.epochs,
        "seconds": round(float(history.drop_duplicates("epoch")["seconds"].sum()), 3),
        "losses": {row["split"]: {name: float(row[name]) for name in LOSSES} for _, row in last.iterrows()},
        "z_dim": run.z_dim if run.epochs or run.kind == "vae" else None,
        "fit": run.fit or None,
        "particles": {
            "path": settings["source"]["path"],
            "number": len(run.latents().particle_id) if run.epochs else None,
            "box_px": settings["box_px"],
            "stack_box_px": settings["source"]["stack_box_px"],
            "pixel_size_angst": settings["pixel_size_angst"],
            "most_tilts": settings["n_tilts"],
            **{name: settings["source"]["options"].get(name) for name in SOURCE_OPTIONS},
        },
        "options": {
            **_changed(model, type(model)()),
            **_changed(run.preprocess_config, PreprocessConfig()),
            **_changed(run.train_config, TrainConfig()),
        },
        "analyses": _names(run.folder / "analysis", "*"),
        "volumes": _names(run.folder / "volumes", "*"),
        "selections": [Path(name).stem for name in _names(run.folder / "selections", "*.csv")],
        "bytes": sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file()),
    }


SOURCE_OPTIONS = ("dialect", "ctf_premultiplied", "dose_weighted", "invert")


def _changed(options: Config, default: Config) -> dict[str, Any]:
    """Options with other values than the defaults."""
    usual = default.model_dump()
    return {name: value for name, value in options.model_dump().items() if value != usual[name]}


def _names(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern) if not path.name.startswith("."))
