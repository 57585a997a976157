"""Time and memory of models on this computer, written into their cards: measure_cards.py VOLUME MODEL...

Each model segments the volume in a process of its own, twice; the weights are fetched before. Run it on an idle
computer: it refuses to write where others compute. LIGHTSEG_MIRROR may name a folder with the weights.
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
BUSY = 0.3  # processes that want a core, on the average of the last minute, beside this one
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
    parser.add_argument("--print", action="store_true", help="only print, on a busy computer as well")
    arguments = parser.parse_args()
    sys.path.insert(0, str(LIBRARY))
    from LightSegLib.catalog.lookup import find_card
    from LightSegLib.weights.store import WeightStore

    for model in arguments.models:
        WeightStore().ensure(find_card(model))
        load = os.getloadavg()[0]
        if load > BUSY and not arguments.print:
            sys.exit(f"This computer is busy (load {load:.2f}), so nothing was measured. Try again when it is idle.")
        command = [sys.executable, "-c", PROGRAM, model, arguments.volume, str(time.time()), str(LIBRARY)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1]) | {"cores": os.cpu_count()}
        print(model, json.dumps(found | {"load_before": round(load, 2)}), flush=True)
        if not arguments.print:
            path = CARDS / f"{model}.json"
            card = json.loads(path.read_text(encoding="utf-8")) | {"measured": found}
            path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
