"""A worker's settings: from files, the environment and flags to one frozen struct."""
