"""One self-contained HTML page about a set of particles, to be read before hours of training."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from tomodrgn import plots
from tomodrgn.io.atomic import refuse_existing, replacing
from tomodrgn.particles.particle_set import ParticleSet
from tomodrgn.particles.read import describe_particles
from tomodrgn.report.page import Picture, bullets, facts_table, figure, html_page
from tomodrgn.volumes.assumptions import MIN_PARTICLES, TITLES, AssumptionCheck, compare_assumptions

__all__ = ["particle_facts", "too_few", "write_data_report"]


def write_data_report(
    particles: ParticleSet,
    path: Path | str,
    *,
    remarks: Sequence[str] = (),
    overwrite: bool = False,
    seed: int = 0,
) -> AssumptionCheck | None:
    """Write a page that tells whether particles were read right: verdict, warnings, summary and figures.

    The page is one HTML file, with its figures inside; it needs nothing from elsewhere.

    Parameters
    ----------
    particles
        The set as it was read; of fewer than 16 particles the flags are not judged.
    path
        The HTML file to be written.
    remarks
        What was assumed or doubted on reading; see `inspect_particles`.
    overwrite
        Whether the file may be replaced.
    seed
        Draws the particles by which the flags are judged; see `compare_assumptions`.

    Returns
    -------
    What the images say of the flags, as on the page; None of fewer than 16 particles.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    ValueError
        If an image stack is damaged, or images are constant or not finite.
    """
    path = Path(path)
    refuse_existing(path, overwrite=overwrite)
    check = compare_assumptions(particles, seed=seed) if len(particles) >= MIN_PARTICLES else None
    page = _page(particles, check, remarks)
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return check


def too_few(particles: ParticleSet) -> str:
    """What is said of a set too small to be judged."""
    return f"{len(particles)} particles are too few to judge how their images were made; {MIN_PARTICLES} are enough."


def _page(particles: ParticleSet, check: AssumptionCheck | None, remarks: Sequence[str]) -> str:
    name = particles.source.path.name
    parts = [
        f"<h1>{escape(name)}</h1>",
        *_verdict(particles, check),
        *bullets("Remarks on reading", remarks),
        "<h2>What the file holds</h2>",
        facts_table(particle_facts(particles)),
        *([] if check is None else _evidence(check)),
        *(figure(picture) for picture in _pictures(particles, check)),
    ]
    return html_page(f"{name}: were these particles read right?", parts, origin=particles.source.path)


def _verdict(particles: ParticleSet, check: AssumptionCheck | None) -> list[str]:
    if check is None:
        return [f'<p class="verdict">{too_few(particles)}</p>']
    kind = "bad" if check.warnings else "good" if check.decided else ""
    said = f"{escape(check.verdict)}<br>{escape(check.best_setting)}"
    return [f'<p class="verdict {kind}">{said}</p>', *bullets("Warnings", check.warnings)]


def particle_facts(particles: ParticleSet) -> dict[str, str]:
    """The summary of `describe_particles` in words."""
    facts = describe_particles(particles)
    tilts, dose, angles = facts["tilts_per_particle"], facts["dose_range_e_per_angst2"], facts["tilt_range_deg"]
    yes_no = {True: "yes", False: "no"}
    return {
        "dialect": facts["dialect"],
        "particles": f"{facts['particles']:,}",
        "tomograms": f"{facts['tomograms']:,}",
        "images": f"{facts['images']:,}",
        "box": f"{facts['box_px']} px",
        "pixel size": f"{facts['pixel_size_angst']:g} Å",
        "tilts per particle": f"{tilts['min']} to {tilts['max']}, median {tilts['median']:g}",
        "dose": "unknown" if dose[0] is None else f"{dose[0]:.1f} to {dose[1]:.1f} e/Å²",
        "tilt": "unknown" if angles[0] is None else f"{angles[0]:.1f} to {angles[1]:.1f}°",
        "read as CTF premultiplied": yes_no[particles.ctf_premultiplied],
        "read as dose weighted": yes_no[particles.dose_weighted],
        "contrast inverted on reading": yes_no[particles.invert],
        "columns": ", ".join(str(column) for column in facts["columns"]),
    }


def _evidence(check: AssumptionCheck) -> list[str]:
    rows = {f"{TITLES[str(name)]}: {row['verdict']}": str(row["evidence"]) for name, row in check.table.iterrows()}
    said = (
        f"Judged from {check.n_images:,} images of {check.n_particles} particles drawn at random, without their flags."
    )
    return ["<h2>What the images say</h2>", f"<p>{said} Poses are not judged.</p>", facts_table(rows)]


def _pictures(particles: ParticleSet, check: AssumptionCheck | None) -> list[Picture]:
    pictures = [
        Picture(
            title="Tilt images",
            png=plots.figure_png(plots.plot_tilt_images(particles)),
            caption="As they are in the file, each row on one grey scale. Look for gold beads, edges of the "
            "micrograph, and images that are empty or far darker than others.",
            alt="Tilt images of a few particles, one row a particle, by tilt angle.",
        ),
        Picture(
            title="Power and CTF",
            png=plots.figure_png(plots.plot_radial_power(particles)),
            caption="Power by frequency of the images of about median defocus. If it falls towards zero where the CTF "
            "does, they were multiplied by their CTF.",
            alt="Radial power of the images, with the square of their CTF.",
        ),
        Picture(
            title="Exposure",
            png=plots.figure_png(plots.plot_dose_weights(particles)),
            caption="Weight of each frequency at exposures of this set (Grant & Grigorieff 2015).",
            alt="Exposure filter against resolution for several exposures.",
        ),
        Picture(
            title="Views and tilts",
            png=plots.figure_png(plots.plot_poses(particles)),
            caption="Equal-area map of the direction from which each particle is seen at its lowest tilt, and the tilt "
            "angles of all images. Some programs keep no sign of the tilt.",
            alt="Map of viewing directions beside a histogram of tilt angles.",
        ),
        Picture(
            title="Tilt images per particle",
            png=plots.figure_png(plots.plot_tilt_counts(particles)),
            caption="Particles with few images tell little.",
            alt="Histogram of the number of tilt images of each particle.",
        ),
    ]
    if check is None:
        return pictures
    verdict = Picture(
        title="Flags",
        png=plots.figure_png(plots.plot_assumptions(check)),
        caption="Half-map FSC as read and with a flag flipped (it hardly changes, and does not see contrast), and how "
        "surely the images decide each flag.",
        alt="FSC of half maps beside the certainty of each verdict.",
    )
    return [verdict, *pictures]
