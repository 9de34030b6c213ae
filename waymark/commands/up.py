"""``waymark up``: the whole stack in one command."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from waymark.commands.options import DEFAULT_DATA_DIR, DataDirOption


def _processes(option: str, text: str) -> Any:  # Any: so typer.Option says of itself
    return typer.Option(option, metavar="N", min=1, max=64, help=text)


def up(
    port: Annotated[
        int,
        typer.Option(
            "--port",
            metavar="PORT",
            envvar="WAYMARK_API_PORT",
            min=1,
            max=65535,
            help="Port of the API.",
        ),
    ] = 8080,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    api: Annotated[
        int, _processes("--api", "API processes, on --port and the ports after it.")
    ] = 1,
    relays: Annotated[int, _processes("--relays", "Relay processes.")] = 1,
    workers: Annotated[int, _processes("--workers", "Worker processes.")] = 1,
) -> None:
    """Run everything: servers, migrations, api, relay, worker. Ctrl-C drains, twice kills.

    PostgreSQL and Valkey are embedded unless WAYMARK_DATABASE_URL or WAYMARK_REDIS_URL is set.
    Prints `ready URL` when a task can run; DIR/stack.json tells URLs and processes.
    """
    import asyncio
    from threading import Event

    import structlog

    from shared.logs import set_up_logs
    from shared.process import announce_ready
    from shared.settings import load_settings
    from waymark.data_dir import DataDir
    from waymark.environment import misspelt
    from waymark.schema import bring_up_to_date
    from waymark.supervisor import Plan, Supervisor

    settings = load_settings()
    set_up_logs(settings, "supervisor")
    log = structlog.get_logger()
    for warning in misspelt():
        log.warning("unknown_variable", reason=warning)

    def migrate(url: str, enough: Event) -> None:
        bring_up_to_date(
            url,
            patience=settings.startup_timeout,
            waiting=lambda why: log.warning("database_away", reason=why),
            enough=enough,
        )

    def announce(url: str) -> None:
        typer.echo(f"ready {url}")
        announce_ready(settings)

    async def supervise(directory: DataDir) -> int:
        supervisor = Supervisor(
            directory,
            settings,
            Plan(port=port, api=api, relay=relays, worker=workers),
            migrate=migrate,
            announce=announce,
        )
        return await supervisor.run()

    with DataDir(data_dir) as directory:
        code = asyncio.run(supervise(directory))
    raise typer.Exit(code)
