"""Groups: one call on many connections, as if they were one machine."""
