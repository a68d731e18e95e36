"""What a worker offers, as the methods of a connection."""
