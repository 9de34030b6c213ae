"""The data directory: its lock, its stack.json, and files that only its owner may read."""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from shared.errors import StartupError


class DataDirectoryInUse(StartupError):
    """Another ``waymark up`` owns the data directory."""


class DataDir:
    """Where a stack keeps everything. ``with`` holds its lock: one running stack at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        self._lock: int | None = None

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartupError(
                f"{self.path} cannot be used as data directory ({error.strerror}): "
                "choose another one with --data-dir."
            ) from None
        if not _locked(lock):
            holder = os.pread(lock, 32, 0).decode() or "unknown"
            os.close(lock)
            raise DataDirectoryInUse(self._named(holder))
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        self._lock = lock
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _named(self, holder: str) -> str:
        stack = self.read_stack()
        url = f" and serves {stack['api_url']}" if stack else " and is still starting or stopping"
        return f"{self.path} is in use: process {holder} runs a stack on it{url}."

    def is_in_use(self) -> bool:
        """Whether a stack runs here now, whatever its files say."""
        try:
            with self:
                return False
        except DataDirectoryInUse:
            return True

    def read_stack(self) -> dict[str, Any] | None:
        """The stack.json of the running stack, or what a crash left; None when there is none."""
        try:
            stack = json.loads((self.path / "stack.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return stack if isinstance(stack, dict) else None

    def write_stack(self, stack: dict[str, Any]) -> None:
        write_private(self.path / "stack.json", json.dumps(stack, indent=2) + "\n")

    def remove_stack(self) -> None:
        (self.path / "stack.json").unlink(missing_ok=True)


def _locked(lock: int) -> bool:
    """Whether we hold it now. Tried for a moment: another ``is_in_use`` may just be looking."""
    deadline = time.monotonic() + 0.2
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
        time.sleep(0.02)


def write_private(path: Path, text: str) -> None:
    """Replace a file at once and whole, readable by its owner only."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        draft.unlink()
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
