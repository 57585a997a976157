"""A batch on a cluster of simulated computers: throughput, what a case costs the engine, what crosses the network.

Run it as root on Linux. Every computer is a network namespace with an address of its own behind one bridge, all in
namespaces that are removed at the end, so that the network of this computer stays as it is. Scheduler and client are on
the first computer, one worker of Dask on each of the others. A case waits in place of its network for SECONDS: so many
computers work at a time on few cores, and what is missing to their number is what the engine takes. Files are on one
disk, as on a file system that all computers share; what such a file system moves is not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "LightSeg")]

from batch import MODEL, SETTINGS, write_manifest  # noqa: E402 (the path must be set first)
from batch_cases import QuickProcessor  # noqa: E402
from LightSegLib.batch.cluster import count_workers  # noqa: E402
from LightSegLib.batch.engine import Engine  # noqa: E402
from LightSegLib.batch.run import segment_files  # noqa: E402
from measure import PROC, _tree  # noqa: E402

HUB, NETWORK, PORT = "lightseg-hub", "10.213.77", 8786
SCHEDULER = f"tcp://{NETWORK}.1:{PORT}"
SECONDS = float(os.environ.get("LIGHTSEG_WAIT", "0.5"))
WARM_UP = 4  # cases of each worker, for which its process starts


class Waiting(QuickProcessor):
    """Waits in place of the network."""

    def segment(self, *arguments: Any) -> Any:
        time.sleep(SECONDS)
        return super().segment(*arguments)


def segment(manifest: str, out: str) -> None:
    """The client: prints seconds of the whole batch, and its own processor time."""
    started, used = time.perf_counter(), time.process_time()
    engine = Engine("dask", scheduler=SCHEDULER, handler=("nodes", "Waiting"))
    outcome = segment_files(manifest, MODEL, out, SETTINGS, engine)
    assert outcome.state.done == outcome.state.cases
    print(json.dumps({"seconds": time.perf_counter() - started, "client": time.process_time() - used}))


def wait_for(workers: int) -> None:
    """Until so many workers have come."""
    while count_workers(SCHEDULER) < workers:
        time.sleep(0.2)


@contextlib.contextmanager
def computers(count: int) -> Iterator[list[str]]:
    """Network namespaces behind a bridge."""
    names = [f"lightseg-{number}" for number in range(count)]
    try:
        _ip("netns", "add", HUB)
        _ip("-n", HUB, "link", "add", "bridge", "type", "bridge")
        _ip("-n", HUB, "link", "set", "bridge", "up")
        for number, name in enumerate(names, start=1):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", f"to{number}", "netns", HUB)
            _ip("-n", HUB, "link", "set", f"to{number}", "master", "bridge", "up")
            _ip("-n", name, "addr", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                _ip("-n", name, "link", "set", link, "up")
        yield names
    finally:
        for name in (*names, HUB):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def measure(folder: Path, workers: int, cases: int) -> dict[str, float]:
    """Figures of a batch on so many computers."""
    dask = str(Path(sys.executable).with_name("dask"))
    with computers(workers + 1) as (first, *others), contextlib.ExitStack() as stack:
        options = ["--host", f"{NETWORK}.1", "--port", str(PORT), "--no-dashboard"]
        scheduler = stack.enter_context(_running(first, [dask, "scheduler", *options]))
        nodes = []
        for number, name in enumerate(others, start=2):
            options = ["--host", f"{NETWORK}.{number}", "--nworkers", "1", "--nthreads", "1", "--memory-limit", "0"]
            nodes.append(stack.enter_context(_running(name, [dask, "worker", SCHEDULER, *options, "--no-dashboard"])))
        _client(first, "wait", str(workers))
        warm = write_manifest(folder / "warm", WARM_UP * workers)
        _client(first, "segment", str(warm), str(folder / "warm out"))
        manifest = write_manifest(folder / "cases", cases)
        moved, used = _bytes(first), [_processor(scheduler), sum(map(_processor, nodes))]
        found = _client(first, "segment", str(manifest), str(folder / "out"))
        moved, used = _bytes(first) - moved, [_processor(scheduler) - used[0], sum(map(_processor, nodes)) - used[1]]
    return {
        "cases_per_second": cases / found["seconds"],
        "client_ms": found["client"] / cases * 1e3,
        "scheduler_ms": used[0] / cases * 1e3,
        "worker_ms": used[1] / cases * 1e3,
        "network_bytes": moved / cases,
    }


@contextlib.contextmanager
def _running(name: str, command: list[str]) -> Iterator[int]:
    """A program on a computer; gives its number."""
    paths = os.pathsep.join([str(HERE.parents[1] / "LightSeg"), str(HERE.parent), str(HERE)])
    settings = {
        "PYTHONPATH": paths,
        "LIGHTSEG_WAIT": str(SECONDS),
        "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
    }
    with subprocess.Popen(
        ["ip", "netns", "exec", name, *command],
        env=os.environ | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


def _client(name: str, *words: str) -> Any:
    """What this script prints on a computer."""
    command = ["ip", "netns", "exec", name, sys.executable, __file__, *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else None


def _bytes(name: str) -> int:
    """Bytes that a computer has sent and received."""
    links = subprocess.run(["ip", "-n", name, "-s", "-j", "link"], check=True, stdout=subprocess.PIPE, text=True)
    (link,) = (link for link in json.loads(links.stdout) if link["ifname"] == "eth0")
    return int(link["stats64"]["rx"]["bytes"] + link["stats64"]["tx"]["bytes"])


def _processor(pid: int) -> float:
    """Seconds that a program and its living descendants have computed."""
    ticks = 0
    for process in _tree(pid):
        with contextlib.suppress(OSError):  # it has just ended
            fields = (PROC / str(process) / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--computers", type=int, nargs="+", default=[1, 2, 4], metavar="N")
    parser.add_argument("--cases", type=int, default=200, help="of each computer (default: %(default)s)")
    arguments = parser.parse_args()
    print(f"{arguments.cases} cases of {SECONDS} s for each computer; load before: {os.getloadavg()[0]:.1f}")
    columns = ("cases/s", "over one", "ms of client", "of scheduler", "of worker", "bytes a case")
    print(f"| Computers | {' | '.join(columns)} |\n|{'---|' * (1 + len(columns))}")
    one = 0.0
    for count in arguments.computers:
        with tempfile.TemporaryDirectory(prefix="lightseg-nodes-") as folder:
            found = measure(Path(folder), count, count * arguments.cases)
        one = one or found["cases_per_second"] / count
        speed = found["cases_per_second"]
        figures = [f"{speed:.2f}", f"{speed / one:.2f}"]
        figures += [f"{found[name]:.1f}" for name in ("client_ms", "scheduler_ms", "worker_ms")]
        print(f"| {count} | {' | '.join(figures)} | {found['network_bytes']:.0f} |", flush=True)


if __name__ == "__main__":
    works = {"segment": segment, "wait": lambda count: wait_for(int(count))}
    if len(sys.argv) > 1 and sys.argv[1] in works:
        works[sys.argv[1]](*sys.argv[2:])
    else:
        main()
