"""Rules of the house that no linter knows: a light front door, short modules, no pickle, tidy notebooks."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import tomodrgn

CHECKOUT = Path(__file__).resolve().parents[1]
MODULES = sorted((CHECKOUT / "tomodrgn").rglob("*.py"))
NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))

HEAVY = {
    "torch",
    "umap",
    "numba",
    "sklearn",
    "scipy",
    "plotly",
    "napari",
    "matplotlib",
    "jscatter",
    "k3d",
    "lightning_fabric",
}
TOP_LEVEL = {"pyproject.toml", "tomodrgn", "notebooks", "tests", "binder", "README.md", "LICENSE", "CHANGELOG.md"}
OWN_ERRORS = {
    "BlockingIOError",
    "FileExistsError",
    "FileNotFoundError",
    "FloatingPointError",
    "KeyError",
    "RuntimeError",
    "ValueError",
}
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_CELL_LINES = 15
OPENING, CLOSING = "**What you will learn.**", "**What was made.**"


# --- the front door ------------------------------------------------------------------------------------------------


def heavy_modules_after(code: str) -> set[str]:
    """Which of the heavy packages are loaded in a fresh interpreter after the code."""
    tail = "\nimport json, sys\nprint('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], cwd=CHECKOUT, capture_output=True, text=True, timeout=120
    )
    if done.returncode != 0:
        pytest.fail(done.stderr)
    return HEAVY & set(json.loads(done.stdout.splitlines()[-1]))


def test_heavy_modules_are_seen() -> None:
    assert heavy_modules_after("import matplotlib") >= {"matplotlib"}


def test_import_is_light() -> None:
    assert heavy_modules_after("import tomodrgn; dir(tomodrgn)") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_is_light(arguments: list[str]) -> None:
    run = f"from tomodrgn.cli import main\ntry:\n    main({arguments})\nexcept SystemExit as end:\n"
    assert heavy_modules_after(run + "    assert end.code in (0, None)") == set()


def test_python_m_tomodrgn_shows_help() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tomodrgn", "--help"], cwd=CHECKOUT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0
    assert "train" in done.stdout


@pytest.mark.parametrize("name", tomodrgn.__all__)
def test_every_front_door_name_opens(name: str) -> None:
    assert getattr(tomodrgn, name) is not None
    assert name in dir(tomodrgn)


def test_front_door_lists_agree() -> None:
    """Names for the reader, for type checkers and for the importer are the same."""
    tree = ast.parse((CHECKOUT / "tomodrgn/__init__.py").read_text())
    typed = {
        alias.name: node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    homes = tomodrgn._HOMES | dict.fromkeys(tomodrgn._ROOMS, "tomodrgn")
    assert set(tomodrgn.__all__) == {*homes, "__version__"}
    assert homes == {name: typed.get(name) for name in homes}


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'read_particle'"):
        tomodrgn.read_particle  # noqa: B018


# --- modules -------------------------------------------------------------------------------------------------------


def module_faults(source: str) -> list[str]:
    """What the house forbids in a module of the package."""
    faults = []
    if (n := len(source.splitlines())) > MAX_MODULE_LINES:
        faults.append(f"{n} lines, at most {MAX_MODULE_LINES}: split it by noun")
    for node in ast.walk(ast.parse(source)):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body
            if (n := (node.end_lineno or 0) - body[0].lineno + 1) > MAX_FUNCTION_LINES:
                faults.append(f"line {line}: {node.name} has {n} lines, at most {MAX_FUNCTION_LINES}")
        elif isinstance(node, ast.Assert):
            faults.append(f"line {line}: assert; raise an error that says what to do")
        elif isinstance(node, ast.Raise):
            faults += raise_faults(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            faults += import_faults(node)
        elif isinstance(node, ast.Call):
            faults += call_faults(node)
    return faults


def import_faults(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Imports of pickle by any name, and of the front door, behind which floors cannot be told."""
    names = [alias.name for alias in node.names]
    module = getattr(node, "module", None)
    pickles = {"pickle", "cloudpickle", "dill", "shelve"} & {module, *names}
    faults = [f"line {node.lineno}: imports {name}" for name in sorted(pickles)]
    through_door = set(names) & {*tomodrgn._HOMES} if module == "tomodrgn" else module is None and "tomodrgn" in names
    if through_door:
        faults.append(f"line {node.lineno}: imports from the front door; name the room itself")
    return faults


def raise_faults(node: ast.Raise) -> list[str]:
    """Messages in other words than ours, by which the command line would take an error for a fault of tomodrgn."""
    call = node.exc
    if not isinstance(call, ast.Call) or ast.unparse(call.func) not in OWN_ERRORS or not call.args:
        return []
    text = call.args[0].values[0] if isinstance(call.args[0], ast.JoinedStr) else call.args[0]
    begins = isinstance(text, ast.Constant) and str(text.value).startswith("Got ")
    return [] if begins else [f"line {node.lineno}: a message that does not begin with 'Got '"]


def call_faults(call: ast.Call) -> list[str]:
    """Calls that may unpickle what they read."""
    keywords = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
    name = ast.unparse(call.func)
    if keywords.get("allow_pickle") is True or name.endswith(("read_pickle", "to_pickle")):
        return [f"line {call.lineno}: {name} uses pickle"]
    if name == "torch.load" and keywords.get("weights_only") is not True:
        return [f"line {call.lineno}: torch.load without weights_only=True"]
    return []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_module_keeps_the_rules(path: Path) -> None:
    assert module_faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("x = 1\n" * 401, "401 lines"),
        ("def f():\n" + "    x = 1\n" * 61, "f has 61 lines"),
        ("assert x", "assert"),
        ("raise ValueError(f'{x} is wrong')", "begin with 'Got '"),
        ("import pickle", "imports pickle"),
        ("from pickle import load", "imports pickle"),
        ("from tomodrgn import Run", "front door"),
        ("import tomodrgn as td", "front door"),
        ("np.load(path, allow_pickle=True)", "uses pickle"),
        ("torch.load(path)", "weights_only"),
        ("torch.load(path, weights_only=False)", "weights_only"),
    ],
)
def test_module_faults_are_found(source: str, fault: str) -> None:
    (found,) = module_faults(source)
    assert fault in found


def test_docstring_lines_do_not_count() -> None:
    assert module_faults('def f():\n    """Long.\n' + "    text\n" * 80 + '    """\n    return 1\n') == []


def test_top_level_holds_the_agreed_entries_only() -> None:
    entries = {name.split("/")[0] for name in project_files()}
    assert {name for name in entries - TOP_LEVEL if not name.startswith(".")} == set()
    assert entries >= TOP_LEVEL - {"notebooks"}


def project_files() -> list[str]:
    """Files of the checkout that are not ignored."""
    if shutil.which("git") is None or not (CHECKOUT / ".git").exists():
        return [path.name for path in CHECKOUT.iterdir()]
    listed = ["git", "-c", f"safe.directory={CHECKOUT}", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(listed, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.splitlines()


# --- what may be skipped -------------------------------------------------------------------------------------------

NEEDY = """
import pytest

def test_data(shared_data): pass
@pytest.mark.browser
def test_browser(): pass
@pytest.mark.gpu
def test_gpu(): pass
def test_other(): pytest.skip("not today")
"""


@pytest.mark.parametrize(("ci", "outcome"), [("", {"skipped": 4}), ("true", {"errors": 2, "failed": 1, "skipped": 1})])
def test_missing_things_fail_under_ci(tmp_path: Path, ci: str, outcome: dict[str, int]) -> None:
    """Without data, Chromium and GPU, tests are skipped; under CI=true only that of the GPU is."""
    folder = tmp_path / "checkout" / "tests"
    folder.mkdir(parents=True)
    shutil.copy(CHECKOUT / "tests/conftest.py", folder)
    (folder / "test_needy.py").write_text(NEEDY)
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(CHECKOUT / "pyproject.toml"), str(folder)]
    environment = {"PATH": str(tmp_path), "CI": ci, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    counts = re.findall(r"(\d+) (passed|failed|skipped|errors?)", done.stdout.splitlines()[-1])
    assert {kind: int(n) for n, kind in counts} == outcome
    assert done.returncode == (1 if ci else 0)


# --- notebooks -----------------------------------------------------------------------------------------------------


def notebook_faults(notebook: dict[str, Any]) -> list[str]:
    """What the house forbids in a notebook: see each line."""
    cells = notebook["cells"]
    text = ["".join(cell["source"]) for cell in cells]
    kinds = [cell["cell_type"] for cell in cells]
    faults = []
    if not cells or kinds[0] != "markdown" or not text[0].startswith("# "):
        faults.append("the first cell is no title")
    if OPENING not in text[0]:
        faults.append(f"the first cell lacks {OPENING}")
    if not text[-1].startswith(CLOSING) or "\n## Next\n" not in text[-1]:
        faults.append(f"the last cell does not begin with {CLOSING} and go on to ## Next")
    whole = "".join(text)
    if "## Exercises" not in whole or whole.count("<details>") != whole.count("</details>"):
        faults.append("no exercises, or a solution that is not closed")
    if (n := sum("parameters" in cell["metadata"].get("tags", []) for cell in cells)) != 1:
        faults.append(f"{n} cells are tagged parameters, expected one")
    for i, (cell, source) in enumerate(zip(cells, text, strict=True)):
        if cell["cell_type"] != "code":
            continue
        if i == 0 or kinds[i - 1] != "markdown":
            faults.append(f"cell {i}: no sentence before the code")
        if (n := len(source.splitlines())) > MAX_CELL_LINES:
            faults.append(f"cell {i}: {n} lines, at most {MAX_CELL_LINES}")
        if re.search(r"^\s*(async\s+)?(def|class)\s", source, flags=re.MULTILINE):
            faults.append(f"cell {i}: defines a function or class; it belongs in the package")
        if cell["outputs"] or cell["execution_count"] is not None:
            faults.append(f"cell {i}: has outputs; run nbstripout")
    return faults


def code(source: str, **changes: Any) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None} | changes


def markdown(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


GOOD = [
    markdown("# Title\n\n**What you will learn.** Adding."),
    code("seed = 0", metadata={"tags": ["parameters"]}),
    markdown("Add."),
    code("seed + 1"),
    markdown("## Exercises\n\n1. Add.\n\n<details><summary>Solution</summary>\n\nAdd.\n</details>"),
    markdown("**What was made.** A number.\n\n## Next\n\n[More](more.ipynb)"),
]


def test_good_notebook_has_no_faults() -> None:
    assert notebook_faults({"cells": GOOD}) == []


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        ([markdown("Title: **What you will learn.**"), *GOOD[1:]], "no title"),
        ([markdown("# Title"), *GOOD[1:]], "What you will learn"),
        ([GOOD[0], *GOOD[2:]], "tagged parameters"),
        ([*GOOD[:2], code("1"), *GOOD[2:]], "no sentence"),
        ([*GOOD[:-1], markdown("Long."), code("1\n" * 16), GOOD[-1]], "16 lines"),
        ([*GOOD[:-1], markdown("Define."), code("def f():\n    pass"), GOOD[-1]], "defines"),
        ([*GOOD[:-1], markdown("Ran."), code("1", execution_count=3), GOOD[-1]], "outputs"),
        (
            [*GOOD[:-1], markdown("Ran."), code("1", outputs=[{"output_type": "stream", "text": "1"}]), GOOD[-1]],
            "outputs",
        ),
        (GOOD[:-1], "go on to ## Next"),
        ([*GOOD[:-2], GOOD[-1]], "no exercises"),
        ([*GOOD[:-2], markdown("## Exercises\n\n<details>"), GOOD[-1]], "not closed"),
    ],
)
def test_notebook_faults_are_found(cells: list[dict[str, Any]], fault: str) -> None:
    (found,) = notebook_faults({"cells": cells})
    assert fault in found


def test_notebooks_keep_the_rules() -> None:
    faults = {path.name: notebook_faults(json.loads(path.read_text(encoding="utf-8"))) for path in NOTEBOOKS}
    assert {name: found for name, found in faults.items() if found} == {}


def test_notebooks_link_to_the_next() -> None:
    prose = {path.name: "".join(markdown_of(path)) for path in NOTEBOOKS}
    assert [name for name, following in pairwise(prose) if f"]({following})" not in prose[name]] == []


PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "notebooks").glob("*.md")), *NOTEBOOKS]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def broken_links(text: str, folder: Path) -> list[str]:
    """Links to files that are not there, and to headings that their page does not have."""
    broken = []
    for target in LINK.findall(text):
        name, _, anchor = target.partition("#")
        if re.match(r"(https?|mailto):", target):
            continue
        page = folder / name if name else None
        missing = page is not None and not page.is_file()
        if missing or (anchor and anchor not in headings(page.read_text(encoding="utf-8") if page else text)):
            broken.append(target)
    return broken


def headings(text: str) -> set[str]:
    """Anchors of the headings of a Markdown page, as JupyterLab and code hosts make them."""
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = "\n\n".join(markdown_of(path)) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
    assert broken_links(text, path.parent) == []
    for address in re.findall(r"doi\.org/(\S+?)\)", text):
        assert re.fullmatch(r"10\.\d{4,}/\S+", address)


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# A title, here\n")
    text = "[a](page.md) [b](page.md#a-title-here) [c](https://example.org) [d](none.md) [e](page.md#other) [f](#none)"
    assert broken_links(text, tmp_path) == ["none.md", "page.md#other", "#none"]


def test_notebooks_link_to_nothing_outside_their_folder() -> None:
    """`tomodrgn lab` copies notebooks and pages, and nothing around them."""
    links = {path.name: LINK.findall("".join(markdown_of(path))) for path in NOTEBOOKS}
    assert {name: [link for link in found if link.startswith("..")] for name, found in links.items()} == {
        name: [] for name in links
    }


def test_markdown_is_spelled_right() -> None:
    done = subprocess.run([sys.executable, "-m", "codespell_lib", *map(str, PAGES)], capture_output=True, text=True)
    assert done.stdout + done.stderr == ""


def markdown_of(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
