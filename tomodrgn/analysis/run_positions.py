"""Where the particles of a run sit in their tomograms: from its own files, or from others given."""

from __future__ import annotations

from tomodrgn.particles.position_set import PositionMatch, Positions
from tomodrgn.particles.positions import read_positions
from tomodrgn.training.run import Run

__all__ = ["own_positions", "run_positions"]


def own_positions(run: Run) -> Positions:
    """Positions in the run's own copy of its particles, which is there wherever the source is now.

    Raises
    ------
    ValueError
        If the particles of the run have none.
    """
    path = next(p for p in (run.folder / "optimisation_set.star", run.folder / "particles.star") if p.is_file())
    try:
        return read_positions(path)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"Got no positions, and the particles of run {run.folder} have none ({error}). Give the file that the "
            "particles were extracted from (positions=read_positions(FILE), --positions FILE)."
        ) from error


def run_positions(run: Run, positions: Positions | None = None) -> PositionMatch:
    """Positions of the particles of a run, under their ids and in their order.

    Parameters
    ----------
    positions
        Of `read_positions`; None takes those of the run's own particles.

    Raises
    ------
    ValueError
        If there are none, or they are those of other particles.
    """
    return (own_positions(run) if positions is None else positions).aligned_to(run.particles_without_images)
