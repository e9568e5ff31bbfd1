"""Whether a window with OpenGL can be opened here; asked in another process, as napari ends the whole one if not."""

from __future__ import annotations

import subprocess
import sys

__all__ = ["display_problem"]

SECONDS = 30
PROBE = """
import sys
from qtpy.QtWidgets import QApplication
from qtpy.QtGui import QOffscreenSurface, QOpenGLContext, QGuiApplication
app = QApplication([])
if QGuiApplication.platformName() in ("offscreen", "minimal"):
    sys.exit("Qt draws to no screen (QT_QPA_PLATFORM=" + QGuiApplication.platformName() + ")")
surface = QOffscreenSurface()
surface.create()
context = QOpenGLContext()
if not (context.create() and context.makeCurrent(surface)):
    sys.exit("there is no OpenGL")
print("it works")
"""


def display_problem() -> str | None:
    """Why no window can be opened, or None if one can."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"Qt gave no answer within {SECONDS} s"
    if done.returncode == 0 and "it works" in done.stdout:
        return None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if any("No module named" in line for line in lines):
        return 'napari or Qt is not installed: python -m pip install ".[napari]"'
    told = next((line for line in lines if "display" in line or "OpenGL" in line or "screen" in line), "")
    return told.strip() or f"Qt ended with {done.returncode}"
