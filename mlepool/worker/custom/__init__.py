"""Commands of the user's own: found, loaded, offered, and run inside the worker."""
