"""What is left behind: orphaned programs, temporary files and work folders of runs that died."""

import contextlib
import logging
import os
import shutil
import signal
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psutil

from dailies.atomic import TEMPORARY_PREFIX
from dailies.clock import Clock
from dailies.owner import Owner
from dailies.process import GRACE_S, OWNER_VARIABLE

log = logging.getLogger(__name__)

TEMPORARY_LIFE_S: Final = 2 * 3600.0


def end_orphans(work: Path) -> int:
    """End every process that a dead run of this library left, and wait until they are gone. Returns how many there were."""
    orphans = [process for process in psutil.process_iter() if _is_orphan(process, str(work.resolve()))]
    _end(orphans, GRACE_S)
    for process in orphans:
        log.info("ended orphan pid=%d of a run that died", process.pid)
    return len(orphans)


def _end(processes: Iterable[psutil.Process], grace_s: float) -> None:
    """TERM, the grace, KILL; returns when they are gone."""
    living = list(processes)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in living:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                process.send_signal(number)
        _, living = psutil.wait_procs(living, timeout=grace_s)
        if not living:
            return


def end_run(owners: Iterable[Owner], grace_s: float) -> int:
    """End the runs that these own: a clean end within the grace, else an abrupt one. Returns how many there were."""
    found = []
    for owner in owners:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(owner.pid)
            if process.pid != os.getpid() and owner.is_alive():
                found.append(process)
    _end(found, grace_s)
    return len(found)


def _is_orphan(process: psutil.Process, work: str) -> bool:
    try:
        tag = process.environ().get(OWNER_VARIABLE, "")
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        return False
    name, _, folder = tag.partition(" ")
    owner = Owner.parse(name)
    return folder == work and owner is not None and process.pid != os.getpid() and owner.is_alive() is False


def drop_temporary_files(folders: Iterable[Path], clock: Clock) -> int:
    """Remove `.tmp-<pid>-…` files whose maker is dead or that are older than 2 h. Returns how many."""
    now = clock.now().timestamp()
    stale = [path for folder in folders for path in folder.rglob(f"{TEMPORARY_PREFIX}*") if _is_stale(path, now)]
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)


def _lives(pid: str) -> bool:
    try:
        return psutil.pid_exists(int(pid))
    except (ValueError, OverflowError):
        return False


def _is_stale(path: Path, now: float) -> bool:
    pid = path.name.removeprefix(TEMPORARY_PREFIX).partition("-")[0]
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return not stat.S_ISDIR(status.st_mode) and (now - status.st_mtime > TEMPORARY_LIFE_S or not _lives(pid))


def drop_folder(folder: Path) -> None:
    """Remove a folder and all in it; what another process removes meanwhile is no error."""
    shutil.rmtree(folder, ignore_errors=True)
