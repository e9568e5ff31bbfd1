"""What is wrong with bytes that were read, in words with which a message goes on."""

from __future__ import annotations

__all__ = ["FaultError"]


class FaultError(ValueError):
    """Told by a part of a reader to the whole, which begins the message: "Got FILE, ...". It never reaches a user."""
