"""Image formation: pure functions of arrays; no files, no state."""
