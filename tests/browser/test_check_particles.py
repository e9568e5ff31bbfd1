"""Notebook 01 as a user meets it: choose particles, plant a wrong flag, read the warning."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NAME = "01_check_particles.ipynb"
BEST = "The setting that agrees best with the images: ctf_premultiplied=False, dose_weighted=False, invert=True."


def press_compare(view) -> str:
    """Press the button; what it says in the end."""
    view.page.locator(".tomodrgn-compare").click()
    view.until(lambda: view.ask("checker.state"), lambda state: state in ("done", "failed"), 60)
    verdict = view.page.locator(".tomodrgn-verdict")
    verdict.get_by_text("The setting that agrees best").wait_for(timeout=10_000)
    verdict.scroll_into_view_if_needed()
    return verdict.inner_text()


def test_a_wrong_flag_is_named_in_the_page(open_notebook):
    view = open_notebook(NAME)
    last = view.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.length") - 1
    view.run_cells(0, last)

    # Another particle: another picture of one row instead of three.
    names = view.page.locator(".tomodrgn-particles select")
    names.wait_for(timeout=30_000)
    picture = view.page.locator(".jp-OutputArea-output .widget-image").first
    before = view.picture(picture)
    name = names.locator("option").nth(5).inner_text()
    names.select_option(name)
    view.until(lambda: view.ask("viewer.shown"), lambda shown: shown == repr((name,)), 10)
    after = view.until(lambda: view.picture(picture), lambda p: p.shape[0] < 0.5 * before.shape[0], 10)
    assert len(np.unique(after)) > 50
    assert after.shape[1] > 4 * after.shape[0]  # seven square images in a row, beside the list
    assert names.is_visible()
    view.shot("particle")

    said = press_compare(view)
    assert said.startswith("The images agree with the CTF premultiplication, dose weighting and contrast")
    assert BEST in said
    assert "Warning" not in said
    view.shot("agrees")

    view.page.locator(".tomodrgn-ctf-premultiplied input").check()
    view.until(lambda: view.ask("checker.settings['ctf_premultiplied']"), lambda flag: flag == "True", 10)
    said = press_compare(view)
    assert "The images contradict the CTF premultiplication" in said
    assert "Warning: The images look not multiplied by their CTF, but were read as multiplied" in said
    assert "Read them with ctf_premultiplied=False (--no-ctf-premultiplied)." in said
    assert BEST in said
    view.shot("contradicted")
    assert (view.tracebacks(), view.refused, view.console) == ([], [], [])
