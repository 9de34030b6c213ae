"""Runs the commands of ``docs/http.md`` against a real stack, and writes down what they print.

``python -m tests.transcript`` renews the page; a test holds it against what is printed today. What
differs from run to run is shown as something that stays: ids, cursors, tokens, times.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import Servers
from tests.eventually import eventually_sync
from waymark.processes import LOCALHOST, pick_port

PAGE = Path(__file__).parents[1] / "docs" / "http.md"

SHOWN_URL = "http://127.0.0.1:8080"
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^\$ (?:.*\\\n)*.*$", re.MULTILINE)

SETTINGS = {
    "WAYMARK_API_RATE": "100",
    "WAYMARK_STREAM_POLL": "0.02",
    "WAYMARK_PRESENCE": "1",
}
"""The limit is there to be met on the page; the rest makes it quick to run."""


class Names:
    """What is shown for what there is, both ways: a command of the page has to find it again."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def show(self, kind: str, real: str, write: Callable[[int], str]) -> str:
        if real not in self._shown:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._shown[real] = write(self._counts[kind])
        return self._shown[real]

    def real(self, text: str) -> str:
        """The longest names first: one may begin like another."""
        for real, shown in sorted(self._shown.items(), key=lambda pair: -len(pair[1])):
            text = text.replace(shown, real)
        return text


UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
OPAQUE = re.compile(
    r'(?<=cursor=)[\w-]{20,}|(?<="next_cursor": ")[\w-]+|(?<="preview_token": ")[\w.-]+'
)
ALWAYS = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"), "2026-11-25T12:00:00Z"),
    (re.compile(r"(?i)(?<=^date: ).*$", re.MULTILINE), "Wed, 25 Nov 2026 12:00:00 GMT"),
    (re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0\d"), f"00-{'4' * 32}-{'2' * 16}-00"),
    (re.compile(r"dur=[\d.]+"), "dur=2.5"),
    (re.compile(r"r=\d+;t=\d+"), "r=42;t=42"),
    (re.compile(r"(?i)(?<=^retry-after: )\d\d$", re.MULTILINE), "42"),
    (re.compile(r'("(?:lag_ms|\w*_seconds)": )[\d.]+'), r"\g<1>2.5"),
    (
        re.compile(r'("content-length": |^content-length: )\d+', re.IGNORECASE | re.MULTILINE),
        r"\g<1>1234",
    ),
    (re.compile(r'("worker": )"[^"]+"'), r'\g<1>"worker-1:4711"'),
)


class Session:
    """One page's commands, in their order."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.names = Names()

    def renewed(self, page: str) -> str:
        return BLOCK.sub(lambda block: "".join(self._block(block[0])), page)

    def _block(self, block: str) -> Iterator[str]:
        for command in COMMAND.findall(block):
            yield f"{command}\n{self._run(command.removeprefix('$ '))}"

    def _run(self, command: str) -> str:
        words = self.names.real(command.replace(SHOWN_URL, self.url))
        done = subprocess.run(
            ["bash", "-c", words],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )
        said = self._shown(done.stdout + done.stderr)
        return said if not said or said.endswith("\n") else f"{said}\n"

    def _shown(self, said: str) -> str:
        said = said.replace("\r", "").replace(self.url, SHOWN_URL)
        said = UUID.sub(lambda one: self.names.show("id", one[0], _as_id), said)
        said = OPAQUE.sub(lambda one: self.names.show("opaque", one[0], _as_opaque), said)
        for pattern, shown in ALWAYS:
            said = pattern.sub(shown, said)
        return said


def _as_id(number: int) -> str:
    return f"01a20a9f-2bbd-728b-87a2-{number:012}"


def _as_opaque(number: int) -> str:
    return f"eyJvcGFxdWUiOiAi-{number:04}"


@contextmanager
def stack(servers: Servers, folder: Path, settings: Mapping[str, str] = SETTINGS) -> Iterator[str]:
    """API, relay and worker on the test servers; the API's URL."""
    port = pick_port()
    environment = os.environ | servers.environment(**settings, WAYMARK_API_PORT=str(port))
    processes = []
    for role in ("api", "relay", "worker"):
        with (folder / f"{role}.log").open("w") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", f"{role}_service"], env=environment, stderr=log
                )
            )

    def ready() -> None:
        for role in ("api", "relay", "worker"):
            assert f'"{role}_ready"' in (folder / f"{role}.log").read_text()

    try:
        eventually_sync(ready)
        yield f"http://{LOCALHOST}:{port}"
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)


def main() -> None:
    import tempfile

    from shared import migrate
    from waymark.embedded import PostgresServer, ValkeyServer

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        postgres, valkey = PostgresServer(folder / "p"), ValkeyServer(folder / "v")
        try:
            postgres.start()
            valkey.start()
            migrate.upgrade(postgres.url)
            with stack(Servers(postgres, valkey), folder) as url:
                PAGE.write_text(Session(url).renewed(PAGE.read_text()))
        finally:
            valkey.stop()
            postgres.remove()


if __name__ == "__main__":
    main()
