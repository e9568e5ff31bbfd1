"""Pictures of the README, from the notebooks in the real browser: python tests/screenshots.py

Runs browser tests, which press what a reader would press, and keeps some of their pictures in notebooks/images.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

CHECKOUT = Path(__file__).resolve().parents[1]
# Name in notebooks/images: the test that makes it, how the test calls it, and which part of the page is kept, in pixels
# (left, top, right, bottom).
PICTURES = {"explore.png": ("test_explore_notebook.py", "explore-notebook", (375, 288, 1350, 936))}
MAX_BYTES = 200_000


def main() -> None:
    """Run the tests, and keep the pictures small."""
    with tempfile.TemporaryDirectory() as folder:
        tests = sorted({f"tests/browser/{test}" for test, _, _ in PICTURES.values()})
        environment = {**os.environ, "TOMODRGN_SCREENSHOTS": folder}
        subprocess.run([sys.executable, "-m", "pytest", "-q", *tests], cwd=CHECKOUT, env=environment, check=True)
        for name, (_, shot, part) in PICTURES.items():
            target = CHECKOUT / "notebooks/images" / name
            picture = Image.open(Path(folder, f"{shot}.png")).convert("RGB").crop(part)
            picture.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)
            if target.stat().st_size > MAX_BYTES:
                sys.exit(f"{target} has {target.stat().st_size} bytes, at most {MAX_BYTES}")


if __name__ == "__main__":
    main()
