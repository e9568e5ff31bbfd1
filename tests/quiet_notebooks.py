"""Executed notebooks must show no warning and no traceback: python tests/quiet_notebooks.py NOTEBOOK.ipynb ..."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def loud_outputs(notebook: dict) -> list[str]:
    """What cells wrote to stderr, and their errors."""
    found = []
    for i, cell in enumerate(notebook["cells"]):
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                found.append(f"cell {i}: {output['ename']}: {output['evalue']}")
            elif output.get("name") == "stderr":
                found.append(f"cell {i}: {''.join(output['text'])}")
    return found


if __name__ == "__main__":
    notebooks = {path: json.loads(Path(path).read_text(encoding="utf-8")) for path in sys.argv[1:]}
    loud = {path: found for path, notebook in notebooks.items() if (found := loud_outputs(notebook))}
    ran = all(any(cell.get("outputs") for cell in notebook["cells"]) for notebook in notebooks.values())
    for path, found in loud.items():
        sys.stderr.write("\n".join([path, *found]) + "\n")
    sys.exit("notebooks wrote warnings" if loud else None if ran else "a notebook has no outputs: it was not run")
