"""``python -m benchmarks [NAME]``: run all measurements or one, print each beside its yardstick."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from benchmarks import relay, submission
from benchmarks.yardstick import Comparison
from shared import migrate
from shared.settings import Settings
from waymark.embedded import PostgresServer, ValkeyServer

MEASUREMENTS: dict[str, Callable[[Settings], Coroutine[Any, Any, list[Comparison]]]] = {
    "relay": relay.measure,
    "submission": submission.measure,
}


def main(names: list[str]) -> int:
    unknown = set(names) - set(MEASUREMENTS)
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        postgres, valkey = PostgresServer(Path(folder) / "p"), ValkeyServer(Path(folder) / "v")
        try:
            postgres.start()
            valkey.start()
            migrate.upgrade(postgres.url)
            settings = Settings.model_validate(
                {"database_url": postgres.url, "redis_url": valkey.url, "log_level": "error"}
            )
            for name in names or MEASUREMENTS:
                for comparison in asyncio.run(MEASUREMENTS[name](settings)):
                    print(comparison)
        finally:
            valkey.stop()
            postgres.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
