"""Programs: ended with their whole group, bounded output, nobody left behind. Real processes only."""

import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from dailies.clock import Deadline, SystemClock
from dailies.errors import ConfigError, Interrupted, OutOfTime
from dailies.process import OWNER_VARIABLE, Completed, output_of, owner_tag, run

PATIENCE_S = 10.0
GRACE_S = 2.0  # promised between TERM and KILL


def within(seconds: float, stop: threading.Event | None = None) -> Deadline:
    return Deadline.after(SystemClock(), seconds, stop)


def shell(script: str, work: Path, deadline: Deadline | None = None) -> Completed:
    return run(["sh", "-c", script], deadline or within(60), work=work)


def python(script: str, work: Path) -> Completed:
    return run([sys.executable, "-I", "-c", script], within(60), work=work)


def wait_for_pids(path: Path, count: int) -> list[int]:
    """The pids that a child wrote, once all are there."""
    until = time.monotonic() + PATIENCE_S
    while not path.exists() or len(path.read_text().split()) < count:
        assert time.monotonic() < until, f"{path} never held {count} pids"
        time.sleep(0.01)
    return [int(word) for word in path.read_text().split()]


def are_gone(pids: list[int]) -> bool:
    """Ended; an orphan that waits for its reaper is a zombie and has ended too."""
    until = time.monotonic() + PATIENCE_S
    while any(is_alive(pid) for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stop_once_written(pids: Path, count: int, stop: threading.Event) -> "Future[float]":
    """Set `stop` as soon as the child has written its pids; the result is when (monotonic seconds)."""

    def wait_and_stop() -> float:
        wait_for_pids(pids, count)
        stop.set()
        return time.monotonic()

    return ThreadPoolExecutor(1).submit(wait_and_stop)


def test_a_deadline_ends_the_child_and_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    with pytest.raises(OutOfTime):
        shell(f"sleep 60 & echo $$ $! > '{pids}'; wait", tmp_path, within(1))

    assert are_gone(wait_for_pids(pids, 2))


def test_a_stop_is_seen_at_once_and_ends_the_whole_group(tmp_path: Path) -> None:
    pids, stop = tmp_path / "pids", threading.Event()
    stopped = stop_once_written(pids, 2, stop)

    with pytest.raises(Interrupted):
        shell(f"sleep 60 & echo $$ $! > '{pids}'; wait", tmp_path, within(60, stop))

    assert time.monotonic() - stopped.result(PATIENCE_S) < GRACE_S, "TERM is enough"
    assert are_gone(wait_for_pids(pids, 2))


def test_term_comes_first_so_that_a_child_can_put_things_right(tmp_path: Path) -> None:
    tidied, pids, stop = tmp_path / "tidied", tmp_path / "pids", threading.Event()
    stopped = stop_once_written(pids, 1, stop)

    with pytest.raises(Interrupted):
        shell(
            f"trap 'echo yes > \"{tidied}\"; exit 0' TERM; echo $$ > '{pids}'; while :; do sleep 0.05; done",
            tmp_path,
            within(60, stop),
        )

    stopped.result(PATIENCE_S)
    assert tidied.read_text() == "yes\n"


def test_a_child_that_ignores_term_is_killed_after_the_grace(tmp_path: Path) -> None:
    pids, stop = tmp_path / "pids", threading.Event()
    stopped = stop_once_written(pids, 1, stop)

    with pytest.raises(Interrupted):
        shell(f"trap '' TERM; echo $$ > '{pids}'; while :; do sleep 0.05; done", tmp_path, within(60, stop))

    took = time.monotonic() - stopped.result(PATIENCE_S)
    assert GRACE_S - 0.1 <= took < GRACE_S + 3
    assert are_gone(wait_for_pids(pids, 1))


def test_a_grandchild_left_behind_after_a_normal_end_is_killed(tmp_path: Path) -> None:
    began = time.monotonic()

    done = shell("sleep 60 & echo $!", tmp_path)

    assert done.code == 0
    assert time.monotonic() - began < 10, "it must not wait for the one left behind, who holds stdout open"
    assert are_gone([int(done.stdout)])


def test_no_zombie_is_left(tmp_path: Path) -> None:
    done = shell("echo $$", tmp_path)

    assert not psutil.pid_exists(int(done.stdout))


def test_huge_stderr_is_bounded_and_keeps_its_first_and_last_lines(tmp_path: Path) -> None:
    done = python("import sys\nfor n in range(200_000): sys.stderr.write(f'line {n}\\n')", tmp_path)

    assert done.code == 0
    assert done.messages[0] == "line 0"
    assert done.messages[-1] == "line 199999"
    assert len(done.messages) < 1000


def test_a_line_without_end_is_bounded(tmp_path: Path) -> None:
    done = python("import sys\nsys.stderr.write('x' * 20_000_000)", tmp_path)

    assert sum(map(len, done.messages)) < 2_000_000


def test_big_stdout_is_collected_whole(tmp_path: Path) -> None:
    done = python("import sys\nfor n in range(300_000): sys.stdout.write(f'{n:063d}\\n')", tmp_path)

    lines = done.stdout.splitlines()
    assert len(lines) == 300_000
    assert int(lines[-1]) == 299_999


def test_endless_stdout_is_bounded_and_never_blocks_the_child(tmp_path: Path) -> None:
    done = shell("head -c 80000000 /dev/zero", tmp_path)

    assert done.code == 0
    assert 60_000_000 < len(done.stdout) < 70_000_000


def test_a_missing_program_is_a_persons_matter(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/no/such/program: cannot be started.*doctor"):
        run(["/no/such/program"], within(60), work=tmp_path)


def test_a_program_that_may_not_be_run_is_a_persons_matter(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")

    with pytest.raises(ConfigError, match="cannot be started"):
        run([str(program)], within(60), work=tmp_path)


def test_the_owner_and_secrets_travel_in_the_environment_and_not_in_argv(tmp_path: Path) -> None:
    script = (
        "import os, psutil\n"
        "print(os.environ['HOST_TOKEN'], os.environ['DAILIES_OWNER'], sep='\\n')\n"
        "print(psutil.Process().cmdline())"
    )

    done = run([sys.executable, "-I", "-c", script], within(60), work=tmp_path, variables={"HOST_TOKEN": "s3cr3t-value"})

    secret, owner, argv = done.stdout.decode().split("\n", 2)
    assert (secret, owner) == ("s3cr3t-value", owner_tag(tmp_path))
    assert secret not in argv
    assert owner not in argv
    assert OWNER_VARIABLE == "DAILIES_OWNER"


def test_argv_is_never_a_shell_line(tmp_path: Path) -> None:
    done = run(["echo", "; touch x && $(touch y)\n-n"], within(60), work=tmp_path)

    assert done.stdout == b"; touch x && $(touch y)\n-n\n"


def test_nothing_is_started_when_the_time_is_over(tmp_path: Path) -> None:
    with pytest.raises(OutOfTime):
        shell(f"touch '{tmp_path}/started'", tmp_path, within(0))

    assert not (tmp_path / "started").exists()


def test_a_child_has_no_input_to_wait_for(tmp_path: Path) -> None:
    assert shell("cat", tmp_path).stdout == b""


def test_an_exit_code_comes_with_the_last_25_lines(tmp_path: Path) -> None:
    done = shell("for n in $(seq 100); do echo line-$n. >&2; done; exit 3", tmp_path)

    words = done.last_words()
    assert words.startswith("exit code 3: line-76. | line-77.")
    assert words.endswith("line-100.")
    assert not done.died


def test_a_child_that_died_says_by_which_signal(tmp_path: Path) -> None:
    done = shell("kill -9 $$", tmp_path)

    assert done.died
    assert done.last_words() == "ended by signal 9"


def test_output_that_is_no_text_does_no_harm(tmp_path: Path) -> None:
    done = shell(r"printf 'caf\351\n' >&2", tmp_path)

    assert done.messages == ("caf\N{REPLACEMENT CHARACTER}",)


def started(script: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def test_the_output_of_a_child_started_elsewhere_is_collected() -> None:
    assert output_of(started("echo out; echo err >&2"), within(60)) == (b"out\n", b"err\n")


def test_a_child_started_elsewhere_ends_with_its_deadline_too(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    with pytest.raises(OutOfTime):
        output_of(started(f"sleep 60 & echo $$ $! > '{pids}'; wait"), within(1))

    assert are_gone(wait_for_pids(pids, 2))


def test_a_child_gets_no_secret_but_what_it_is_handed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VAULT_KEY", "GH_TOKEN", "A_PASSWORD", "PLAIN"):
        monkeypatch.setenv(name, f"value of {name}")
    code = "import os; print(sorted(set(os.environ) & {'VAULT_KEY', 'GH_TOKEN', 'A_PASSWORD', 'PLAIN'}))"

    done = run([sys.executable, "-c", code], Deadline.after(SystemClock(), 30), work=tmp_path, variables={"GH_TOKEN": "handed"})

    assert done.stdout.decode().strip() == "['GH_TOKEN', 'PLAIN']"
