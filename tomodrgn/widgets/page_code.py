"""Long code of other programs for the page: sent and read once for all widgets of a kernel that need it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import ipywidgets
import traitlets

__all__ = ["PageCode", "page_code_trait", "page_module"]

STATIC = Path(__file__).parent / "static"


class PageCode(ipywidgets.Widget):
    """Carries the text of one file to the page.

    Attributes
    ----------
    name
        Of the program and its version.
    code
        The text.
    """

    name = traitlets.Unicode().tag(sync=True)
    code = traitlets.Unicode().tag(sync=True)

    _shared: ClassVar[dict[Path, PageCode]] = {}

    @classmethod
    def shared(cls, package: str, file: Path) -> PageCode:
        """The one of this kernel for a file of an installed package."""
        found = cls._shared.get(file)
        if found is None or found.comm is None:
            name = f"{package}-{version(package)}"
            found = cls._shared[file] = cls(name=name, code=file.read_text(encoding="utf-8"))
        return found


def page_code_trait() -> traitlets.Instance:
    """The attribute ``_page_code`` of a widget that needs such code, synchronised by reference."""
    return traitlets.Instance(ipywidgets.Widget).tag(sync=True, **ipywidgets.widget_serialization)


def page_module(name: str) -> str:
    """The text of a file in ``static``, for ``_esm``, after what all of them have in common."""
    return "\n".join((STATIC / part).read_text(encoding="utf-8") for part in ("common.js", name))
