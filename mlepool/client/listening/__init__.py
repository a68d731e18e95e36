"""One command, live: what arrives, what is fed in, how it ended."""
