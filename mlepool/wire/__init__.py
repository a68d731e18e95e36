"""The protocol: bytes in, messages out. No I/O, no clock, no tasks."""
