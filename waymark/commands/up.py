"""``waymark up``: the whole stack in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from waymark.commands.options import DataDirOption


def up(
    port: Annotated[
        int, typer.Option(envvar="WAYMARK_API_PORT", min=1, max=65535, help="Port of the API.")
    ] = 8080,
    data_dir: DataDirOption = Path(".waymark"),
    api: Annotated[
        int, typer.Option(min=1, max=64, help="API processes, on --port and the ports after it.")
    ] = 1,
    relays: Annotated[int, typer.Option(min=1, max=64, help="Relay processes.")] = 1,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 1,
) -> None:
    """Run everything: servers, migrations, api, relay, worker. Ctrl-C drains, twice kills.

    PostgreSQL and Valkey are embedded unless WAYMARK_DATABASE_URL or WAYMARK_REDIS_URL is set.
    Prints `ready URL` when a task can run; DATA_DIR/stack.json tells URLs and processes.
    """
    import asyncio

    from shared.logs import set_up_logs
    from shared.process import announce_ready
    from shared.settings import load_settings
    from waymark.data_dir import DataDir
    from waymark.schema import bring_up_to_date
    from waymark.supervisor import Plan, Supervisor

    settings = load_settings()
    set_up_logs(settings, "supervisor")

    def announce(url: str) -> None:
        typer.echo(f"ready {url}")
        announce_ready(settings)

    async def supervise(directory: DataDir) -> int:
        supervisor = Supervisor(
            directory,
            settings,
            Plan(port=port, api=api, relay=relays, worker=workers),
            migrate=lambda url: bring_up_to_date(url, patience=settings.startup_timeout),
            announce=announce,
        )
        return await supervisor.run()

    with DataDir(data_dir) as directory:
        code = asyncio.run(supervise(directory))
    raise typer.Exit(code)
