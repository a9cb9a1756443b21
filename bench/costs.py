"""What the benchmarks of media share: the clips, long files made of them, and what a piece of work costs."""

import math
import os
import resource
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "bench" / "results"


@dataclass(frozen=True)
class Cost:
    """Seconds of the processor (user + system, all children) and of the wall clock."""

    cpu_s: float
    wall_s: float


def media_folder() -> Path:
    return Path(os.environ.get("DAILIES_MEDIA") or ROOT.parent / "shared" / "media")


def measured(work: Callable[[], object]) -> Cost:
    """What the work's child processes and this process cost."""

    def cpu() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
        return sum(usage.ru_utime + usage.ru_stime for usage in used)

    cpu_before, wall_before = cpu(), time.monotonic()
    work()
    return Cost(cpu() - cpu_before, time.monotonic() - wall_before)


def looped(ffmpeg: str, clip: Path, clip_s: float, container: str, seconds: float, target: Path) -> Path:
    """The clip's packets again and again for that long, nothing encoded."""
    loops = math.ceil(seconds / clip_s)
    argv = [ffmpeg, "-nostdin", "-v", "error", "-stream_loop", str(loops - 1), "-i", str(clip), "-t", f"{seconds:.3f}"]
    subprocess.run([*argv, "-map", "0", "-c", "copy", "-f", container, "-y", str(target)], check=True)
    return target
