"""Which jobs may begin: slots, the line before them, leases of GPUs."""
