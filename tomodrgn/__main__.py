"""``python -m tomodrgn``: the same as the command ``tomodrgn``."""

from __future__ import annotations

from tomodrgn.cli import main

if __name__ == "__main__":
    main()
