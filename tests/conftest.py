"""What every test shares: shapes checked at run time, the real data, and when a test may be skipped."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

CHECKOUT = Path(__file__).resolve().parents[1]
UNDER_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")

already_imported = sorted(name for name in sys.modules if name.split(".")[0] == "tomodrgn")
if already_imported:
    raise RuntimeError(
        f"Got {already_imported} imported before tests/conftest.py, expected none: their shapes would go unchecked. "
        "Do not load tomodrgn in a pytest plugin."
    )
# Every annotation of the package, shapes included, is checked in every call that a test makes.
install_import_hook("tomodrgn", "beartype.beartype")


NO_CHROMIUM = "Chromium was not found. Do 'apt-get install chromium', or set TOMODRGN_CHROMIUM to its path."


def chromium_path() -> str | None:
    """Path of the Chromium that browser tests drive, or None."""
    return os.environ.get("TOMODRGN_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `browser` need Chromium, those marked `napari` Xvfb, those marked `gpu` CUDA."""
    if item.get_closest_marker("browser") and chromium_path() is None:
        pytest.skip(NO_CHROMIUM)
    if item.get_closest_marker("napari") and shutil.which("xvfb-run") is None:
        pytest.skip(
            "Xvfb was not found. Do 'apt-get install xvfb' and the packages that tests/run.sh lists for napari."
        )
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("There is no CUDA device.")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI=true nothing may be missing but a GPU: a skipped test has failed."""
    report = yield
    if UNDER_CI and report.skipped and not hasattr(report, "wasxfail") and not item.get_closest_marker("gpu"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome, report.longrepr = "failed", f"{reason} Under CI=true nothing is skipped."
    return report


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of Chromium."""
    path = chromium_path()
    if path is None:
        pytest.skip(NO_CHROMIUM)
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real particle files, `shared/data` beside the checkout."""
    folder = (CHECKOUT / "../shared/data").resolve()
    if not folder.is_dir():
        pytest.skip("The real data was not found: there is no folder shared/data beside the checkout.")
    return folder


@pytest.fixture(scope="session")
def small_particles(tmp_path_factory: pytest.TempPathFactory):
    """A simulated Warp image series of 12 particles, 5 to 7 tilts each, box 32, in a folder of its own."""
    import tomodrgn as td

    folder = tmp_path_factory.mktemp("small") / "data"
    return td.simulate_particles(folder, n_particles=12, n_tilts=7, n_tomograms=2, seed=5)
