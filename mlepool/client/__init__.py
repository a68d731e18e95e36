"""Pools of connections to workers: the asyncio core and its blocking face."""
