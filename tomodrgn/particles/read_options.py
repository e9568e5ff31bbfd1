"""ReadOptions: what the user says of a data set where its files leave something open."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["ReadOptions"]

CHOICES: dict[str, tuple[object, ...]] = {
    "defocus_hand": ("auto", 1, -1, 0),
    "phase_unit": (None, "deg", "rad"),
}


SETS, SERIES, CISTEM = (
    ("warptools", "relion5", "nextpyp_relion5"),
    ("warp", "cryosrpnt", "nextpyp", "cistem", "emclarity", "tomodrgn"),
    ("cistem", "emclarity"),
)
# Dialects in which an option means something; those that are not here do in all.
DIALECTS_OF: dict[str, tuple[str, ...]] = {
    "defocus_hand": SETS,
    "stack": CISTEM,
    "phase_unit": CISTEM,
    "tilt_column": SERIES,
}


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options of `read_particles`, where they are described; None follows the files and the dialect.

    Raises
    ------
    ValueError
        If an option is none of its choices, or a pixel size is not positive.
    """

    dialect: str | None = None
    ctf_premultiplied: bool | None = None
    dose_weighted: bool | None = None
    invert: bool | None = None
    defocus_hand: Literal["auto", 1, -1, 0] = "auto"
    pixel_size_angst: float | None = None
    stack: Path | None = None
    phase_unit: Literal["deg", "rad"] | None = None
    tilt_column: str | None = None

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                wanted = ", ".join(repr(choice) for choice in choices)
                raise ValueError(f"Got {name} {getattr(self, name)!r}, expected one of {wanted}. Choose one.")
        if self.pixel_size_angst is not None and not self.pixel_size_angst > 0:
            raise ValueError(f"Got pixel_size_angst {self.pixel_size_angst}, expected a positive number.")

    def refuse_others_of(self, dialect: str, path: Path) -> None:
        """Refuse options that mean nothing in a dialect.

        Raises
        ------
        ValueError
            If one is given.
        """
        for name, dialects in DIALECTS_OF.items():
            if name in self.settings() and dialect not in dialects:
                raise ValueError(
                    f"Got {name} {getattr(self, name)} (--{name.replace('_', '-')}) for {path} of dialect {dialect}, "
                    f"expected it for {', '.join(dialects)} only. Leave it out."
                )

    def settings(self) -> dict[str, Any]:
        """The options that are not at their defaults, as JSON knows them."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        changed = {f.name: values[f.name] for f in dataclasses.fields(self) if values[f.name] != f.default}
        return {name: str(value.resolve()) if isinstance(value, Path) else value for name, value in changed.items()}

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> ReadOptions:
        """The options that `settings` gave."""
        stack = settings.get("stack")
        return cls(**{**settings, "stack": None if stack is None else Path(stack)})
