"""Sweeps: many runs of one command, each on whichever worker has a free slot."""
