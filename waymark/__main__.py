"""The command line: ``waymark``, or ``python -m waymark``."""

from __future__ import annotations

import sys

from waymark.exit_codes import ExitCode


def main() -> None:
    """Run a command; every error ends as a sentence and an exit code."""
    sys.exit(_run())


def _run() -> int:
    try:
        from waymark.app import run  # here, because Ctrl-C may come while all of it loads
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return run()


if __name__ == "__main__":
    main()
