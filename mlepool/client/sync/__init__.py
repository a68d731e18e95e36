"""The blocking face: calls through one background loop, no logic of its own."""

from mlepool.client.sync.connection import Connection
from mlepool.client.sync.listener import Listener
from mlepool.client.sync.pools import ClientPool, add, pool

__all__ = ["ClientPool", "Connection", "Listener", "add", "pool"]
