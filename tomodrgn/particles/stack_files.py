"""Where the image stacks named in a STAR file are, and what their headers say."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import numpy as np
from jaxtyping import Int64

from tomodrgn.io import mrc

__all__ = [
    "MissingStacksError",
    "SearchPlaces",
    "StackFiles",
    "datadir_tuple",
    "find_stacks",
    "folders_of",
    "told_name",
]

logger = logging.getLogger(__name__)
LONGEST_TOLD = 300


class MissingStacksError(FileNotFoundError):
    """Image stacks that do not exist; the tables that name them may be sound.

    Parameters
    ----------
    message
        What is missing, where it was looked for, and what to do.
    names
        Names of the missing stacks as the file has them.
    n_stacks
        Number of stacks that the file names, missing or not.
    option
        Option of the shell that helps.
    """

    def __init__(self, message: str, *, names: Sequence[str], n_stacks: int, option: str = "--datadir DIR") -> None:
        super().__init__(message)
        self.names, self.n_stacks, self.option = tuple(names), n_stacks, option


def told_name(name: object) -> str:
    """A name for a message, without its middle if it is very long."""
    text = str(name)
    return text if len(text) <= LONGEST_TOLD else f"{text[: LONGEST_TOLD // 2]}...{text[-LONGEST_TOLD // 2 :]}"


def datadir_tuple(datadir: str | Path | Iterable[str | Path] | None) -> tuple[Path, ...]:
    """One folder, several or none, as a tuple.

    Raises
    ------
    FileNotFoundError
        If one of them is no folder.
    """
    if datadir is None:
        return ()
    given = [datadir] if isinstance(datadir, str | Path) else list(datadir)
    folders = tuple(Path(folder) for folder in given)
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"Got datadir {folder}, which is no folder. Give the folder that holds the stacks.")
    return folders


def folders_of(*paths: Path) -> tuple[Path, ...]:
    """Folders of some files and, where these are links, of the files they lead to; each once."""
    folders = [folder for path in paths for folder in (path.parent, path.resolve().parent)]
    kept = {Path(os.path.abspath(folder)): folder for folder in reversed(folders)}  # noqa: PTH100 (links are kept)
    return tuple(reversed(kept.values()))


@dataclass(frozen=True, kw_only=True)
class SearchPlaces:
    """The places where a file named in a STAR file is looked for, in this order.

    A full path as written. A relative one beside the STAR file, from the working folder, then from each folder above
    the STAR file (RELION's project). Then below each datadir: the whole name, its last two parts, its last part. At
    each place the name is tried as written, with percent signs decoded, and with backslashes as slashes.

    Parameters
    ----------
    star_dirs
        Folders of the STAR files that name the file (`folders_of`).
    datadir
        Folders given by the user.
    """

    star_dirs: tuple[Path, ...]
    datadir: tuple[Path, ...] = ()

    def candidates(self, name: str) -> Iterator[tuple[Path, bool]]:
        """Paths to try, and whether the path holds less than the whole name."""
        plain = [name, unquote(name)]
        variants = list(dict.fromkeys([*plain, *(text.replace("\\", "/") for text in plain)]))
        absolute = Path(name).is_absolute()
        for folder in (Path(),) if absolute else self._star_folders():
            for text in variants:
                yield folder / text, False
        for folder in self.datadir:
            for text in variants:
                parts = [part for part in PurePosixPath(text).parts if part not in ("/", ".", "..")]
                for count in dict.fromkeys([len(parts), 2, 1]):
                    yield folder.joinpath(*parts[-count:]), count < len(parts)

    def _star_folders(self) -> list[Path]:
        folders = [Path(os.path.abspath(folder)) for folder in self.star_dirs]  # noqa: PTH100 (links are kept)
        above = (parent for folder in folders for parent in folder.parents)
        return list(dict.fromkeys([*folders, Path.cwd(), *above]))

    def find(self, name: str) -> tuple[Path, bool] | None:
        """The first of the candidates that is a file, and whether it was found by less than its whole name."""
        for path, shortened in self.candidates(name):
            if os.path.isfile(path):  # noqa: PTH113 (twice as fast, for tens of thousands of stacks)
                return path, shortened
        return None

    def tried(self, name: str) -> str:
        """All places tried, for messages."""
        return ", ".join(told_name(path) for path in dict.fromkeys(path for path, _ in self.candidates(name)))


@dataclass(frozen=True, kw_only=True)
class StackFiles:
    """Stacks of a data set.

    Parameters
    ----------
    paths
        Path of each stack.
    n_slices
        Number of images of each stack as its header says; None if the stacks were not opened.
    box_px
        Side of the images; 0 if the stacks were not opened.
    """

    paths: tuple[Path, ...]
    n_slices: Int64[np.ndarray, " s"] | None
    box_px: int


def find_stacks(
    names: Sequence[str], places: SearchPlaces, *, pixel_size_angst: float, check: bool = True
) -> StackFiles:
    """Find stacks by the names of a STAR file and read every header once.

    Parameters
    ----------
    names
        Distinct names.
    pixel_size_angst
        Of the STAR file; a header that says otherwise is reported and not believed.
    check
        Whether to look for the files at all; if not, a name is joined to the folder of the STAR file.

    Raises
    ------
    MissingStacksError
        If a stack is missing: the name, the places tried, how many are missing.
    ValueError
        If two names lead to one file by their last part, a stack is damaged, or the boxes differ.
    """
    if not check:
        return StackFiles(paths=tuple(places.star_dirs[0] / name for name in names), n_slices=None, box_px=0)
    found = [places.find(name) for name in names]
    missing = [name for name, hit in zip(names, found, strict=True) if hit is None]
    if missing:
        raise MissingStacksError(
            f"Got {len(missing)} of {len(names)} image stacks that do not exist, first "
            f"{[told_name(name) for name in missing[:3]]}. Tried for {told_name(missing[0])}: "
            f"{places.tried(missing[0])}. "
            "Give the folder that holds the stacks as datadir (--datadir DIR).",
            names=missing,
            n_stacks=len(names),
        )
    hits = [hit for hit in found if hit is not None]
    owner: dict[Path, str] = {}
    for name, (path, shortened) in zip(names, hits, strict=True):
        if shortened and path in owner:
            raise ValueError(
                f"Got the stacks {owner[path]} and {name}, of which only {path} exists. "
                "Give a datadir under which the folders of the names are kept."
            )
        owner.setdefault(path, name)
    headers = [mrc.read_header(path) for path, _ in hits]
    boxes = np.array([mrc.check_box(header) for header in headers])
    if len(set(boxes)) != 1:
        sizes, first, counts = np.unique(boxes, return_index=True, return_counts=True)
        groups = ", ".join(f"{s} px ({c}, as {headers[i].path})" for s, i, c in zip(sizes, first, counts, strict=True))
        raise ValueError(
            f"Got image stacks of several boxes: {groups}, expected one. "
            "Extract all particles with one box and one pixel size, or read the groups as sets of their own."
        )
    _warn_of_pixel_size(headers, pixel_size_angst)
    return StackFiles(
        paths=tuple(header.path for header in headers),
        n_slices=np.array([header.shape_zyx[0] for header in headers], dtype=np.int64),
        box_px=int(boxes[0]),
    )


def _warn_of_pixel_size(headers: list[mrc.MrcHeader], pixel_size_angst: float) -> None:
    """Report headers with another pixel size than the STAR file; 0 and 1 mean that the writer did not care."""
    sizes = np.array([header.voxel_size_angst for header in headers])
    other = (sizes > 0) & (sizes != 1) & (np.abs(sizes / pixel_size_angst - 1) > 0.01)
    if other.any():
        first = int(np.argmax(other))
        logger.warning(
            "Got %s stacks whose header has another pixel size than the STAR file (%s: %g angstrom, not %g). "
            "The STAR file is followed.",
            other.sum(), headers[first].path, float(sizes[first]), pixel_size_angst,
        )  # fmt: skip
