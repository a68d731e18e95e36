"""What the host and its jobs use: measured, kept, delivered."""
