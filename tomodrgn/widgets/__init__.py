"""Hands and eyes: views of a run in a notebook. State is traits, and every gesture can be typed as well.

Needs the notebook extra: ``python -m pip install ".[notebook]"``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tomodrgn.widgets.assumption_checker import AssumptionChecker
    from tomodrgn.widgets.config_form import ConfigForm
    from tomodrgn.widgets.dashboard import Dashboard, explore
    from tomodrgn.widgets.latent_explorer import LatentExplorer
    from tomodrgn.widgets.napari_bridge import open_in_napari
    from tomodrgn.widgets.particle_viewer import ParticleViewer
    from tomodrgn.widgets.selection import Selection
    from tomodrgn.widgets.tomogram_viewer import TomogramViewer
    from tomodrgn.widgets.training_monitor import TrainingMonitor
    from tomodrgn.widgets.volume_gallery import VolumeGallery
    from tomodrgn.widgets.volume_viewer import VolumeViewer

__all__ = [
    "AssumptionChecker",
    "ConfigForm",
    "Dashboard",
    "LatentExplorer",
    "ParticleViewer",
    "Selection",
    "TomogramViewer",
    "TrainingMonitor",
    "VolumeGallery",
    "VolumeViewer",
    "explore",
    "open_in_napari",
]

_HOMES = {
    "AssumptionChecker": "assumption_checker",
    "ConfigForm": "config_form",
    "Dashboard": "dashboard",
    "LatentExplorer": "latent_explorer",
    "ParticleViewer": "particle_viewer",
    "Selection": "selection",
    "TomogramViewer": "tomogram_viewer",
    "TrainingMonitor": "training_monitor",
    "VolumeGallery": "volume_gallery",
    "VolumeViewer": "volume_viewer",
    "explore": "dashboard",
    "open_in_napari": "napari_bridge",
}
_EXTRA = {"IPython", "anywidget", "ipywidgets", "jscatter", "k3d", "plotly", "traitlets"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}. See dir({__name__}) for its names.")
    try:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _EXTRA:
            raise
        raise ImportError(
            f'Got no module {error.name!r}, which {name} needs. In its checkout: python -m pip install ".[notebook]"'
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
