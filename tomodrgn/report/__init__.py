"""Self-contained HTML pages: of particles before a training, and of a run after it."""

from __future__ import annotations

from tomodrgn.report.data_report import too_few, write_data_report
from tomodrgn.report.run_report import write_run_report

__all__ = ["too_few", "write_data_report", "write_run_report"]
