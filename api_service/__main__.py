"""Run one API process from the environment: ``python -m api_service``."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable

import structlog
import uvicorn

from api_service.app import create_app
from api_service.protocol import connection_of
from shared import failpoints
from shared.database import Database, wait_for_database
from shared.errors import StartupError
from shared.logs import set_up_logs
from shared.migrate import REVISION
from shared.probes import serve_metrics
from shared.process import announce_ready, refuse_to_start
from shared.settings import Settings, load_settings

log = structlog.get_logger()


def main() -> int:
    try:
        settings = load_settings()
        set_up_logs(settings, "api")
        failpoints.arm(settings)
        asyncio.run(_preflight(settings))
        listener = _listen(settings)
        serve_metrics(settings)
    except StartupError as error:
        return refuse_to_start(error)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=connection_of(settings),
        ws="none",
        server_header=False,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=int(settings.drain),
    )
    # uvicorn raises the signal again once it has drained; an orderly stop is no accident, so here
    # we exit with 0, as the other roles do. One that comes before uvicorn listens counts as well.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    # Streams and waits end at once, or their connections would use up all the time there is.
    server = AnnouncingServer(config, settings, lambda: app.state.services.changes.stop())
    server.run(sockets=[listener])
    return 0


class AnnouncingServer(uvicorn.Server):
    """Says that it is ready only when it listens."""

    def __init__(
        self, config: uvicorn.Config, settings: Settings, stop: Callable[[], None] = lambda: None
    ) -> None:
        """``stop``: called before open connections are waited for."""
        super().__init__(config)
        self.settings = settings
        self.stop = stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.stop()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is loaded by now stays: a full collection that walks it stops all requests for
        # up to 100 ms, every few thousand of them.
        gc.collect()
        gc.freeze()
        log.info("api_ready", host=self.settings.api_host, port=self.settings.api_port)
        announce_ready(self.settings)


async def _preflight(settings: Settings) -> None:
    database = Database(settings, "api")
    try:
        await wait_for_database(database, REVISION, beside=1)
    finally:
        await database.close()


def _listen(settings: Settings) -> socket.socket:
    address = (settings.api_host, settings.api_port)
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    try:
        return socket.create_server(address, family=family, backlog=2048)
    except OSError as error:
        raise StartupError(
            f"cannot listen on {address[0]}:{address[1]} ({error.strerror}): choose another "
            "port with WAYMARK_API_PORT."
        ) from error


if __name__ == "__main__":
    sys.exit(main())
