"""Bring a database to this release's schema, or take it back. The scripts are in the package."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

REVISION = "0004"
"""The newest migration; a role refuses to start on an older schema."""


def alembic_config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["database_url"] = database_url
    return config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Run the missing migrations, one at a time even when several processes try at once."""
    command.upgrade(alembic_config(database_url), revision)


def downgrade(database_url: str, revision: str = "base") -> None:
    command.downgrade(alembic_config(database_url), revision)
