"""``waymark completion``: what a shell needs to complete our commands and options."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

VARIABLE = "_WAYMARK_COMPLETE"
"""Set by the script when the shell asks; then nothing else is done."""


def completion(
    shell: Annotated[
        Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="bash, zsh or fish.")
    ],
) -> None:
    """Print a script for your shell; in bash: eval "$(waymark completion bash)"."""
    from typer._completion_shared import get_completion_script

    typer.echo(get_completion_script(prog_name="waymark", complete_var=VARIABLE, shell=shell))


def prepare_completion() -> None:
    """Only when a shell asks: no other run pays for it."""
    if VARIABLE in os.environ:
        from typer._completion_classes import completion_init

        completion_init()
