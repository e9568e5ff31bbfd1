"""Puts the code of the exercises' solutions behind notebooks, so that it is executed.

python tests/solution_cells.py NOTEBOOK.ipynb ... changes these files: copies, as tests/run.sh makes them. Taken are
blocks of Python, and of the code within a line what is a call or an indexing of something of the notebook.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import nbformat

SOLUTION = re.compile(r"<details><summary>Solution</summary>(.*?)</details>", re.DOTALL)
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")


def is_statement(text: str) -> bool:
    """Whether a piece of code does something by itself: not a name, an option or a line for a shell."""
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return False
    if len(body) != 1:
        return False
    statement = body[0]
    if isinstance(statement, ast.Assign):
        return isinstance(statement.targets[0], ast.Attribute)
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call | ast.Subscript)


def solutions(markdown: str) -> list[str]:
    """Code of the solutions in a cell, in order."""
    found = []
    for solution in SOLUTION.findall(markdown):
        blocks = BLOCK.findall(solution)
        lines = INLINE.findall(BLOCK.sub("", solution))
        calls = [line for line in lines if is_statement(line) and not re.fullmatch(r"[a-z_]+\(\w+\)", line)]
        found += blocks + calls
    return found


if __name__ == "__main__":
    total = 0
    for path in map(Path, sys.argv[1:]):
        notebook = nbformat.read(path, 4)
        code = [text for cell in notebook.cells if cell.cell_type == "markdown" for text in solutions(cell.source)]
        notebook.cells += [nbformat.v4.new_code_cell(text) for text in code]
        total += len(code)
        nbformat.write(notebook, path)
    sys.stdout.write(f"{total} pieces of code of solutions are executed\n")
    sys.exit(0 if total else "Got no solutions, expected those of the exercises.")
