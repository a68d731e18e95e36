"""Moves whole binary frames; knows no message."""
