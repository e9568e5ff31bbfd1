"""jupyter-scatter, whose 2 MB of code the page reads once for all scatters."""

from __future__ import annotations

from pathlib import Path

import jscatter
import traitlets
from jscatter import jscatter as module

from tomodrgn.widgets.page_code import PageCode, page_code_trait, page_module

__all__ = ["SharedScatter"]


class ScatterWidget(module.JupyterScatter):
    """The widget of jupyter-scatter; it comes late, not never, on a page that is slow to read its code."""

    _esm = page_module("scatter.js")
    _page_code = page_code_trait()

    @traitlets.default("_dom_classes")
    def _bear_name(self) -> tuple[str, ...]:
        return ("tomodrgn-scatter",)

    @traitlets.default("_page_code")
    def _share_code(self) -> PageCode:
        return PageCode.shared("jupyter-scatter", Path(jscatter.__file__).parent / "bundle.js")


class SharedScatter(jscatter.Scatter):
    """A scatter that is shown by a `ScatterWidget`."""

    @property
    def widget(self) -> ScatterWidget:
        """Made when it is first asked for."""
        if self._widget is None:
            # jupyter-scatter has no argument for the class of its widget.
            own, module.JupyterScatter = module.JupyterScatter, ScatterWidget
            try:
                return super().widget
            finally:
                module.JupyterScatter = own
        return self._widget
