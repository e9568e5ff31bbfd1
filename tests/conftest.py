"""What every test shares: shapes checked at run time, the real data, and when a test may be skipped."""

from __future__ import annotations

import os
import shutil
import sys
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


def skip_or_fail(reason: str) -> None:
    """Skip the test where a developer works; fail it under CI=true, where everything must be there."""
    if UNDER_CI:
        pytest.fail(f"{reason} Under CI=true nothing is skipped.", pytrace=False)
    pytest.skip(reason)


def chromium_path() -> str | None:
    """Path of the Chromium that browser tests drive, or None."""
    return os.environ.get("TOMODRGN_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `browser` need Chromium."""
    if item.get_closest_marker("browser") and chromium_path() is None:
        skip_or_fail("Chromium was not found. Do 'apt-get install chromium', or set TOMODRGN_CHROMIUM to its path.")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of Chromium."""
    path = chromium_path()
    if path is None:
        skip_or_fail("Chromium was not found. Do 'apt-get install chromium', or set TOMODRGN_CHROMIUM to its path.")
    return str(path)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real particle files, `shared/data` beside the checkout."""
    folder = (CHECKOUT / "../shared/data").resolve()
    if not folder.is_dir():
        skip_or_fail("The real data was not found: the folder shared/data beside the checkout is absent.")
    return folder
