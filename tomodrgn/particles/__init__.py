"""Data: what was recorded, in one order, under one identity."""
