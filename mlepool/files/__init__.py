"""File trees on disk: both ends of a sync, the same code on client and worker."""
