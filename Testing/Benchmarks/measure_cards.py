"""Time and memory of models on this computer, written into their cards: measure_cards.py VOLUME MODEL...

Each model segments the volume in a process of its own, twice; the weights are fetched before. On a busy computer it
waits until nothing else computes, and measures again what something else ran beside; after --wait minutes it gives up.
LIGHTSEG_MIRROR may name a folder with the weights. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[2] / "LightSeg"
CARDS = LIBRARY / "LightSegLib" / "catalog" / "cards"
BUSY = 0.3  # cores that others may use
LOOK = 5.0  # seconds over which that is looked at
PROGRAM = """
import json, resource, sys, time
started = float(sys.argv[3])
sys.path.insert(0, sys.argv[4])
from LightSegLib.catalog.lookup import find_card
from LightSegLib.imaging.readers import read_volume
from LightSegLib.inference.segmenter import Segmenter
volume, segmenter = read_volume(sys.argv[2]), Segmenter(find_card(sys.argv[1]))
first = segmenter.segment([volume])
cold = time.time() - started
again = time.time()
segmenter.segment([volume])
warm = time.time() - again
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000  # Linux: in kB
grid = volume.geometry
size = " x ".join(map(str, grid.shape[::-1])) + " voxels of " + " x ".join(f"{mm:g}" for mm in grid.spacing) + " mm"
print(json.dumps({
    "volume": size, "seconds": round(warm, 1), "cold_seconds": round(cold, 1), "memory_mb": round(peak),
    "processor": first.provenance["processor"], "form": first.provenance["computed_in"],
}))
"""


def main() -> None:
    """Measure the models that are named, and write what they took into their cards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("volume")
    parser.add_argument("models", nargs="+")
    parser.add_argument(
        "--wait", type=float, default=60, metavar="MINUTES", help="for an idle computer, for each model"
    )
    parser.add_argument("--print", action="store_true", help="only print, on a busy computer as well")
    arguments = parser.parse_args()
    sys.path.insert(0, str(LIBRARY))
    from LightSegLib.catalog.lookup import find_card
    from LightSegLib.weights.store import WeightStore

    for model in arguments.models:
        WeightStore().ensure(find_card(model))
        until = time.monotonic() + 60 * arguments.wait
        found, others = _measured(model, arguments.volume, None if arguments.print else until)
        while others > BUSY and not arguments.print:
            print(f"{model}: others used {others:.1f} cores meanwhile, so it is measured again.", flush=True)
            _check(others, until)
            found, others = _measured(model, arguments.volume, until)
        print(model, json.dumps(found | {"cores_used_by_others": round(others, 2)}), flush=True)
        if not arguments.print:
            path = CARDS / f"{model}.json"
            card = json.loads(path.read_text(encoding="utf-8")) | {"measured": found}
            path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _measured(model: str, volume: str, until: float | None) -> tuple[dict[str, object], float]:
    """What a run took, and the cores that others used meanwhile; begun when the computer is idle, if that is wanted."""
    if until is not None:
        _wait(until)
    computed, own, started = _computed(), _own(), time.monotonic()
    command = [sys.executable, "-c", PROGRAM, model, volume, str(time.time()), str(LIBRARY)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    others = (_computed() - computed) - (_own() - own)
    found = json.loads(done.stdout.splitlines()[-1]) | {"cores": os.cpu_count()}
    return found, max(0.0, others / (time.monotonic() - started))


def _wait(until: float) -> None:
    """Wait until the computer is idle; end the program where it is not in time."""
    told = False
    while True:
        computed, started = _computed(), time.monotonic()
        time.sleep(LOOK)
        used = (_computed() - computed) / (time.monotonic() - started)
        if used <= BUSY:
            return
        _check(used, until)
        if not told:
            minutes = (until - time.monotonic()) / 60
            print(f"Waiting for an idle computer ({used:.1f} cores in use), {minutes:.1f} minutes at most.", flush=True)
            told = True


def _check(used: float, until: float) -> None:
    """End the program when it has waited long enough."""
    if time.monotonic() > until:
        sys.exit(
            f"This computer is busy ({used:.1f} cores in use). Try again when it is idle, or with a longer --wait."
        )


def _computed() -> float:
    """Seconds that the computer's cores have computed, for whatever program."""
    user, nice, system, _idle, _waiting, irq, soft_irq, *_ = Path("/proc/stat").read_text(encoding="ascii").split()[1:]
    return sum(map(int, (user, nice, system, irq, soft_irq))) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """Seconds of processor time of this program and of those that it started and that have ended."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main()
