"""What the benchmarks share: runs that take turns, and what they cost."""

import json
import math
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import time
import typing
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / "target/release/cargo-edgepack"
MB = 1_000_000
PIECE = 1 << 20
USER, PASSWORD = "bench", "bench"
# bcrypt of the password: the one form that docker-registry takes.
HTPASSWD = f"{USER}:$2y$04$abcdefghijklmnopqrstuuzhC/M8aT3lFNlRSgWrnQYETvrF83G8W\n"

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


def compared(rows):
    """Both sides' medians, and the ratio of medians, of pairs and of least times."""
    a, b = medians(rows)
    pairs = statistics.median(x.seconds / y.seconds for x, y in rows)
    least = min(x.seconds for x, _ in rows) / min(y.seconds for _, y in rows)
    return a, b, a.seconds / b.seconds, pairs, least


def homeless(folder):
    """An environment in which nobody finds the user's files."""
    home = folder / "home"
    home.mkdir()
    env = {name: os.environ[name] for name in ["PATH", "TMPDIR"] if name in os.environ}
    env |= {"HOME": str(home), "DOCKER_CONFIG": str(home), "EDGEPACK_CACHE_DIR": str(folder / "cache")}
    return env | {"XDG_CONFIG_HOME": str(home), "XDG_RUNTIME_DIR": str(home)}


def leb(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def section(kind, length, head):
    return bytes([kind]) + leb(length) + head


def write_module(path, size):
    """A valid module of about `size` bytes: a memory, and data that does not compress."""
    limits = b"\x01\x00" + leb(-(-size // 65536))
    head = b"\x01\x00\x41\x00\x0b" + leb(size)
    with open(path, "wb") as file:
        file.write(b"\0asm\x01\0\0\0")
        file.write(section(5, len(limits), limits))
        file.write(section(11, len(head) + size, head))
        for start in range(0, size, PIECE):
            file.write(os.urandom(min(PIECE, size - start)))


class Served:
    """A program that serves a registry at a free port of this machine."""

    def __init__(self, folder):
        folder.mkdir()
        self.log = folder / "log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{free.getsockname()[1]}"

    def start(self, *command):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://{self.host}/v2/")
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.05)
            else:
                return
        self.close()
        raise SystemExit(f"{command[0].name} does not start")

    def close(self):
        self.process.terminate()
        self.process.wait()


class Crane(Served):
    """crane's registry, which keeps all in its memory."""

    def __init__(self, peers, folder):
        super().__init__(folder)
        self.command = [peers / "crane", "registry", "serve", "--address", self.host]
        self.start(*self.command)

    def empty(self):
        self.close()
        self.start(*self.command)


class Registry(Served):
    """docker-registry with its files in a folder."""

    def __init__(self, peers, folder, guarded=False):
        super().__init__(folder)
        self.storage = folder / "storage"
        self.emptied = 0
        config = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(self.storage)}},
            "http": {"addr": self.host, "secret": "the same for every process"},
        }
        if guarded:
            (folder / "htpasswd").write_text(HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "benchmark", "path": str(folder / "htpasswd")}}
        # JSON is YAML.
        (folder / "config.yml").write_text(json.dumps(config))
        self.start(peers / "docker-registry", "serve", folder / "config.yml")

    def empty(self):
        """Puts aside what is there, and removes of it what is large.

        Thousands of files that are removed make the next thousands slow: for some seconds
        ext4 does not give their inodes away again, and looks at each of them every time.
        """
        if not self.storage.exists():
            return
        self.emptied += 1
        aside = self.storage.rename(self.storage.with_name(f"emptied-{self.emptied}"))
        for file in aside.rglob("data"):
            if file.stat().st_size > MB:
                file.unlink()

    def requests(self):
        """Methods and paths of all requests so far, from the access log."""
        time.sleep(0.3)
        return re.findall(r'"([A-Z]+) (\S+) HTTP/[0-9.]+"', self.log.read_text())
