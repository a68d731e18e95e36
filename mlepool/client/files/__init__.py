"""Files to workers and back: syncs, transfers, results of runs."""
