"""Processes that call functions of clients; see :mod:`mlepool.worker.functions`."""
