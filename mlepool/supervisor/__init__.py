"""Owns the processes and does nothing else: small, starts fast, imports little."""
