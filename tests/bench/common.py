"""What the benchmarks share: runs that take turns, and what they cost."""

import math
import pathlib
import statistics
import subprocess
import sys
import typing

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / "target/release/cargo-edgepack"

# A process is charged with the memory of the one that starts it, so that has to be
# small: an interpreter with nothing in it takes 8 MB, less than any program measured.
LAUNCHER = """
import os, sys, time
quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
started = time.perf_counter()
process = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(process, 0)
print(time.perf_counter() - started, usage.ru_maxrss)
sys.exit(status != 0)
"""


class Cost(typing.NamedTuple):
    """What a run took: seconds, and the peak memory of its largest process in MB."""

    seconds: float
    memory: float


def build_tool():
    subprocess.run(["cargo", "build", "--release", "--locked", "-p", "cargo-edgepack"], cwd=ROOT, check=True)


def fetched(script):
    """The folder that a script of the tests prints, after it has filled it."""
    return pathlib.Path(subprocess.check_output([ROOT / "tests" / script], text=True).strip())


def once(command, env=None, cwd=None):
    """Runs a command that must succeed."""
    launch = [sys.executable, "-ISc", LAUNCHER, *command]
    done = subprocess.run(launch, env=env, cwd=cwd, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        raise SystemExit(f"{command}: {done.stderr}")
    seconds, kilobytes = map(float, done.stdout.split())
    return Cost(seconds, kilobytes / 1024)


def in_turn(runs, ours, theirs):
    """The costs of both, run by run, after one run of each that does not count."""
    return [(ours(), theirs()) for _ in range(runs + 1)][1:]


def medians(rows):
    """Both sides' medians."""
    return [Cost(*map(statistics.median, zip(*side))) for side in zip(*rows)]


def geometric(values):
    return math.exp(sum(map(math.log, values)) / len(values))
