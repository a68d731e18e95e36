"""DaskClient: a client of Dask whose scheduler and workers are jobs on a pool's hosts.

A module of its own, which only ``pool.dask()`` loads: the library takes long to.
"""

from __future__ import annotations

import atexit
import ssl
import threading
from collections.abc import Iterable
from typing import Any

from mlepool.client.connection import AsyncConnection
from mlepool.client.dask.cluster import Cluster, Wishes
from mlepool.client.dask.part import Part
from mlepool.client.portal import Portal
from mlepool.client.sync.listener import Listener
from mlepool.errors import ClientError
from mlepool.wire.values import StopReport

try:
    import distributed
    from distributed.security import Security
except ModuleNotFoundError as exc:
    raise ClientError(
        "pool.dask() needs distributed: pip install 'mlepool[dask]'"
    ) from exc

__all__ = ["DaskClient", "start"]

CLIENT_LIMIT = 10.0  # seconds that Dask's client may take to say goodbye


class DaskClient(distributed.Client):  # type: ignore[misc]
    """A client of Dask, connected; what it is connected to ends with it.

    All that :class:`distributed.Client` has. ``close()``, the end of its ``with``, or
    of the interpreter stop scheduler and workers: nothing is left on the hosts.

    Attributes:
        scheduler_listener: The scheduler's job; its messages are its log, live.
        worker_listeners: The same for the workers, by host.
        reports: After ``close()``: what was stopped, and what survived; the scheduler
            first, then the workers' hosts in the pool's order.
    """

    _jobs: Cluster | None = None

    def __init__(
        self, cluster: Cluster, portal: Portal, *, security: Security, timeout: float
    ) -> None:
        assert cluster.scheduler is not None
        self._portal = portal
        self._ending = threading.Lock()
        self.reports: list[StopReport] = []
        self.scheduler_listener = _listener(cluster.scheduler, portal)
        self.worker_listeners = {
            one.host: _listener(one, portal) for one in cluster.workers
        }
        super().__init__(cluster.address, timeout=timeout, security=security)
        self._jobs = cluster
        atexit.register(self.close)

    def close(self, timeout: Any = CLIENT_LIMIT) -> None:
        """Close the client, and stop workers and scheduler, with proof.

        Twice is fine.

        Args:
            timeout: Seconds that Dask's client may take; the stops have their own.
        """
        try:
            super().close(timeout)
        finally:
            with self._ending:
                cluster, self._jobs = self._jobs, None
                if cluster is not None:
                    atexit.unregister(self.close)
                    self.reports = self._portal.call(cluster.stop())

    def shutdown(self) -> None:
        """Do as :meth:`close`."""
        self.close()


def start(
    connections: Iterable[AsyncConnection],
    portal: Portal,
    *,
    timeout: float,
    **wishes: Any,
) -> DaskClient:
    """Start a cluster and connect to it; see ``pool.dask()``."""
    cluster = Cluster(connections, Wishes(**wishes), version=distributed.__version__)
    shown = cluster.credentials
    security = Security(
        require_encryption=True,
        tls_min_version=ssl.TLSVersion.TLSv1_3,
        tls_ca_file=shown.authority,
        tls_client_cert=shown.certificate,
        tls_client_key=shown.key,
    )
    tls = security.get_connection_args("client")["ssl_context"]
    try:
        portal.call(cluster.start(timeout, tls=tls))
        return DaskClient(cluster, portal, security=security, timeout=timeout)
    except BaseException as exc:
        # Ctrl-C, too: nothing may be left of what has begun.
        portal.call(cluster.stop())
        if isinstance(exc, OSError) and not isinstance(exc, ClientError):
            text = f"can't connect to Dask's scheduler at {cluster.address}: {exc}"
            raise ClientError(text) from exc
        raise


def _listener(part: Part, portal: Portal) -> Listener:
    assert part.listener is not None
    return Listener(part.listener, portal)
