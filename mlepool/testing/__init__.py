"""For tests, yours too: links in memory that stall and break on demand."""
