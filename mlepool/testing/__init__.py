"""For tests, yours too: a proxy of faults, kills, links in memory, a jumping clock."""
