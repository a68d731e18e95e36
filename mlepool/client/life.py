"""What becomes of a connection: how it stands, and what changes that."""

from __future__ import annotations

__all__ = ["TRANSITIONS"]

# What is not here is an error.
TRANSITIONS: dict[tuple[str, str], str] = {
    ("new", "entered"): "connected",
    ("disconnected", "entered"): "connected",
    ("lost", "entered"): "connected",
    ("reconnecting", "entered"): "connected",
    ("connected", "broken"): "reconnecting",
    ("connected", "given up"): "lost",
    ("reconnecting", "given up"): "lost",
    ("connected", "left"): "disconnected",
    ("reconnecting", "left"): "disconnected",
    **{
        (state, "closed"): "closed"
        for state in ("new", "disconnected", "lost", "closed")
    },
}
