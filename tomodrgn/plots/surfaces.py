"""Pictures and movies of isosurfaces, drawn without a graphics card: for galleries, reports and files."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from scipy import ndimage

from tomodrgn.io.atomic import refuse_existing, replacing

__all__ = ["FRONT", "render_surface", "save_movie", "sigma_units", "surface_level"]

# Rows: to the right, up, and towards the viewer; a little from the right and from above, as the viewer's camera.
FRONT = np.array([[0.949, 0.0, -0.316], [-0.095, 0.953, -0.286], [0.302, 0.302, 0.905]])
LIGHT = np.array([-0.4, 0.6, 0.7]) / np.linalg.norm([-0.4, 0.6, 0.7])
AMBIENT = 0.35
FIELD = 0.84  # of the box, that is in the picture
BLUE = (0x5B, 0x8D, 0xB8)


def sigma_units(volume: Float32[np.ndarray, "d d d"]) -> Float32[np.ndarray, "d d d"]:
    """A map in standard deviations (sigma) above its mean; a flat map becomes 0."""
    return ((volume - volume.mean()) / max(float(volume.std()), 1e-30)).astype(np.float32)


def surface_level(maps: Float32[np.ndarray, "v d d d"]) -> tuple[float, float]:
    """A level in sigma that shows a surface of each map, and the highest that shows one of any.

    The first is 3, or half the highest where that is less.

    Raises
    ------
    ValueError
        If there is no map, or all are flat.
    """
    if not len(maps) or not np.any(maps.std(axis=(1, 2, 3)) > 0):
        raise ValueError("Got no map with a density that varies, expected at least one. Generate maps first.")
    highest = round(float(max(sigma_units(volume).max() for volume in maps)), 1)
    return min(3.0, highest / 2), highest


def render_surface(
    volume: Float32[np.ndarray, "d d d"],
    level: float = 3.0,
    *,
    size_px: int = 160,
    turn: Float[np.ndarray, "3 3"] = FRONT,
    colour: tuple[int, int, int] = BLUE,
) -> UInt8[np.ndarray, "s s 4"]:
    """Picture of the isosurface of a map within the sphere in its box, seen from far away, lit from the upper left.

    Each pixel is where its line of sight first crosses the level, between two samples a voxel apart.

    Parameters
    ----------
    volume
        Density, axes zyx.
    level
        In standard deviations above the mean.
    size_px
        Side of the picture.
    turn
        Rows: directions to the right, up and towards the viewer, as xyz.
    colour
        Red, green and blue, 0 to 255.

    Returns
    -------
    Red, green, blue and opacity; rows from the top. Where there is no surface it is transparent.
    """
    box = volume.shape[0]
    radius = box / 2 - 1
    across = np.linspace(-FIELD * box / 2, FIELD * box / 2, size_px)
    depth = np.arange(radius, -radius - 1, -1.0)  # from near to far
    right, up, near = (np.asarray(row, dtype=np.float32) for row in turn)
    place = across[:, None, None] * right + -across[None, :, None] * up  # (column, row, xyz)
    at = place.transpose(1, 0, 2)[None] + depth[:, None, None, None].astype(np.float32) * near
    samples = np.full(at.shape[:3], -np.inf, dtype=np.float32)
    inside = np.square(at).sum(axis=-1) <= radius**2
    samples[inside] = ndimage.map_coordinates(sigma_units(volume), at[inside].T[::-1] + box // 2, order=1)
    above = samples > level
    rows, columns = np.nonzero(above.any(axis=0))
    hit = above.argmax(axis=0)[rows, columns]
    normal = _normals(np.where(inside, samples, 0.0), hit, rows, columns)
    shade = AMBIENT + (1 - AMBIENT) * np.clip(normal @ LIGHT, 0, 1)
    nearness = 1 - 0.35 * hit / len(depth)
    picture = np.zeros((size_px, size_px, 4), dtype=np.uint8)
    picture[rows, columns, :3] = np.clip(np.outer(shade * nearness * 1.35, colour), 0, 255)
    picture[rows, columns, 3] = 255
    return picture


def save_movie(
    path: Path | str,
    frames: Sequence[UInt8[np.ndarray, "h w 3"]],
    *,
    frames_per_second: float = 8,
    overwrite: bool = False,
) -> Path:
    """Write pictures as a movie that loops (``.gif``) or as H.264 video (``.mp4``).

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    FileNotFoundError
        If a video is asked for and there is no ffmpeg.
    ValueError
        If the name ends otherwise, or there is no picture.
    """
    path = Path(path)
    if path.suffix.lower() not in (".gif", ".mp4") or not len(frames):
        raise ValueError(
            f"Got {path.name} for a movie of {len(frames)} pictures, expected a name that ends in .gif or .mp4, and at "
            "least one picture. Change the name."
        )
    refuse_existing(path, overwrite=overwrite)
    with replacing(path, overwrite=overwrite) as temporary:
        if path.suffix.lower() == ".mp4":
            _write_video(temporary, np.stack(frames), frames_per_second)
        else:
            pictures = [Image.fromarray(frame).quantize(128) for frame in frames]
            wait = max(round(1000 / frames_per_second), 20)
            pictures[0].save(temporary, format="GIF", save_all=True, append_images=pictures[1:], duration=wait, loop=0)
    return path


def _normals(samples: np.ndarray, hit: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> Float[np.ndarray, "h 3"]:
    """Directions to the right, up and near in which the density falls, at the samples that were hit."""
    last = np.array(samples.shape) - 1

    def sample(*step: int) -> np.ndarray:
        place = zip((hit, rows, columns), step, last, strict=True)
        return samples[tuple(np.clip(axis + by, 0, end) for axis, by, end in place)]

    falls = np.stack(
        [sample(0, 0, -1) - sample(0, 0, 1), sample(0, 1, 0) - sample(0, -1, 0), sample(1, 0, 0) - sample(-1, 0, 0)],
        axis=-1,
    )
    # A step across the picture is a part of a voxel, one in depth is a voxel.
    falls[:, :2] *= samples.shape[1] / (FIELD * (samples.shape[0] + 2))
    return falls / np.maximum(np.linalg.norm(falls, axis=-1, keepdims=True), 1e-12)


def _write_video(path: Path, frames: UInt8[np.ndarray, "f h w 3"], frames_per_second: float) -> None:
    height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2  # H.264 wants even sides
    command = [
        _ffmpeg(), "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
        "-r", f"{frames_per_second:g}", "-i", "-", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-f", "mp4", str(path),
    ]  # fmt: skip
    done = subprocess.run(command, input=frames[:, :height, :width].tobytes(), capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(
            f"Got the failure {said[-1] if said else done.returncode!r} of ffmpeg, expected a video. Write a GIF."
        )


def _ffmpeg() -> str:
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        raise FileNotFoundError(
            "Got no ffmpeg on this machine, expected one to write a video. Write a GIF, or: python -m pip install "
            "imageio-ffmpeg"
        ) from None
