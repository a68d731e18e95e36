"""For tests, yours too: links in memory that stall and break, a clock that jumps."""
