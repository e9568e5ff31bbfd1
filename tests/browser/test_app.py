"""`tomodrgn lab --app RUN`: the views of a run as a page without code, for who has the token."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tomodrgn.cli import run_command
from tomodrgn.cli.servers import free_port

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CHECKOUT = Path(__file__).resolve().parents[2]
ICONS = (
    "https://cdn.jsdelivr.net/npm/@fortawesome/"  # Voila asks for a style sheet of icons; refused, nothing is missing
)


@pytest.fixture
def app(linear_run, tmp_path):
    """Address of the app of a run, with its token."""
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment.pop("DISPLAY", None)
    command = [sys.executable, "-m", "tomodrgn", "lab", "--app", str(linear_run), "--port", str(port)]
    log = tmp_path / "log"
    with log.open("w") as file:
        server = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    try:
        end = time.monotonic() + 120
        while not (found := re.search(r"http://\S+token=\w+", log.read_text())) or not answers(port):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.5)
        yield found[0]
        assert found[0].split("token=")[1] not in Path(f"/proc/{server.pid}/cmdline").read_text()
    finally:
        server.terminate()
        server.wait(30)


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def test_the_views_of_a_run_without_code(app, browser):
    without_token = urllib.request.urlopen(app.split("?")[0], timeout=60).read().decode()
    assert "TOMODRGN" not in without_token
    assert "jupyter-widget" not in without_token

    context = browser.new_context(viewport={"width": 1400, "height": 1100})
    page, refused, errors = context.new_page(), [], []

    def route(route, request):
        if request.url.startswith(("http://127.0.0.1", "data:", "blob:")):
            route.continue_()
        else:
            refused.append(request.url)
            route.abort()

    context.route("**/*", route)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(app, wait_until="commit", timeout=120_000)
    canvas = page.locator(".tomodrgn-scatter canvas").first
    canvas.wait_for(timeout=120_000)
    assert page.locator(".jp-InputArea").count() == 0
    page.get_by_text("map at the mean of the latents").first.wait_for(timeout=60_000)

    box = canvas.bounding_box()
    corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98), (0.02, 0.2)]
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=12)
    page.mouse.up()
    page.get_by_text(re.compile(r"[1-9]\d* of 60 particles chosen \(lasso\)")).wait_for(timeout=30_000)

    page.get_by_role("tab", name="Tilt images").click()
    page.locator(".tomodrgn-panes img").first.wait_for(timeout=60_000)
    page.wait_for_function("() => document.querySelector('.tomodrgn-panes img').naturalWidth > 100", timeout=30_000)
    assert errors == []
    assert [url for url in refused if not url.startswith(ICONS)] == []
    context.close()


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert run_command(["lab", "--app", str(tmp_path)]) == 2
    assert "Got" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
