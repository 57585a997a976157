"""`make benchmark`: LightSeg's speed and memory on this machine, beside published figures, other programs, targets.

Each measurement runs in a process of its own, so that its peak memory is its own. The other programs, nnU-Net and
MONAI, are run by the Python that LIGHTSEG_PEERS names (default: the one in .venv-peers), TotalSegmentator by that in
.venv-totalsegmentator; without them their rows say so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from growth import growth
from in_process import BUNDLED, SAMPLE
from measure import MEMORY_MEASURE, Cost
from precisions import precisions
from report import GIGABYTE, PEERS, Report, how, sizes, words
from roofline import roofline
from whole_program import totalsegmentator

CT = (115, 256, 256), (1.5, 1.5, 2.5)  # voxels k, j, i and mm i, j, k
LONG_CTS = {slices: ((slices, 512, 512), (0.8, 0.8, 1.5)) for slices in (300, 600)}
GROWING_CTS = [((slices, 192, 192), (1.5, 1.5, 2.5)) for slices in (60, 120, 240, 480)]
BATCH_CASES, SINGLE_CASES, LONG_MANIFEST = 200, 5, 100_000
WINDOW = (144, 192, 192)  # voxels at the model's spacing; MONAI's tiles then are where nnU-Net's are
FASTER = {"full precision": 1.5, "default without OpenVINO": 4.0, "default with OpenVINO": 7.0}  # than nnU-Net
VOXEL_BYTES = 5  # two of the CT, one of the labels, and while these are written a copy and what is read back to check


@dataclass(frozen=True)
class Published:
    """What the authors (or, for LightMedSeg and UNETR++ on BraTS, the LightMedSeg paper, table 3) state."""

    parameters: str = "-"
    multiply_adds: str = "-"
    seconds: str = "-"
    memory: str = "-"


# One model of every network that differs in cost, and what is published about it.
NETWORKS = {
    "lightmedseg": Published("0.48M", "14.64G", "0.505 (16 cores)", "1174"),
    "wholebody-tumor-ct-flare24": Published("5.6M"),
    "brain-tumor-mr-slim-unetrv2": Published(),
    "slim-unetrv2, 96": Published(),
    "abdomen-ct-unetrpp": Published("42.96M"),
    "heart-mr-unetrpp": Published(),
    "brain-tumor-mr-unetrpp": Published("42.96M", "70.1G", "-", "2458"),
    "lung-tumor-ct-unetrpp": Published(),
}


def networks(report: Report) -> None:
    print("One patch; in brackets what is published. Memory with PyTorch (published: the network alone).")
    line = "{:<30} {:<16} {:<18} {:<18} {:<24} {}"
    print(line.format("network of", "patch", "parameters", "multiply-adds", "median seconds", "peak memory, MB"))
    for name, known in NETWORKS.items():
        here = report.facts("in_process.py", "network", name, "full")
        print(
            line.format(
                name,
                here["patch"],
                f"{here['parameters'] / 1e6:.3f}M ({known.parameters})",
                f"{here['multiply_adds'] / 1e9:.2f}G ({known.multiply_adds})",
                f"{here['seconds']:.2f} ({known.seconds})",
                f"{here['peak_bytes'] / 1e6:.0f} ({known.memory})",
            ),
            flush=True,
        )
        if name == "lightmedseg":
            report.claim("LightMedSeg, 4x128x128x128, full precision", here["seconds"], 0.505, " s")
            here = report.facts("in_process.py", "network", name, "default")
            print(f"  by default ({here['computed_in']}): {here['seconds']:.2f} s")
            report.claim(f"LightMedSeg, 4x128x128x128, {here['computed_in']}", here["seconds"], 0.505, " s")


def bundled(report: Report) -> None:
    print("The bundled model on the sample")
    loaded = report.facts("in_process.py", "loaded_model")["seconds"]
    corners = json.loads((SAMPLE / "icbm152_rois.json").read_text(encoding="utf-8"))["rois"][0]["corners"]
    roi = ",".join(str(number) for corner in corners for number in corner)
    out = report.folder / "sample.seg.nrrd"
    cold = report.lightseg(BUNDLED, SAMPLE / "icbm152_t1_1mm.nii.gz", out, f"--roi={roi}")
    print(f"  64 x 80 x 64 region, loaded: {loaded:.2f} s; `lightseg segment`, cold: {words(cold)}")
    report.claim("Bundled model, 64x80x64, loaded", loaded, 1, " s")
    report.claim("Bundled model, `lightseg segment`, cold", cold.seconds, 6, " s")
    report.claim("Bundled model, `lightseg segment`, memory", cold.peak_bytes / 1e6, 1200, " MB")


def nnunet(report: Report) -> None:
    """The same model folder and CT file by both programs, from the start of the program to the written file.

    With --full the network is trained for some minutes, so that the default is what a trained model gets.
    """
    model, image = report.model("flare-trained" if report.full else "flare-sized"), report.ct(*CT)
    print(
        f"nnU-Net's model folder and a CT file of {sizes(CT[0])} voxels, {'x'.join(map(str, CT[1]))} mm, file to file: "
        "FLARE24's U-Net\nwith 14 labels, 1.5 mm, patch 96x128x128, without mirroring; nnU-Net with -npp 1 -nps 1 and "
        "a thread per CPU"
    )
    theirs, their_labels = None, report.folder / "nnunet" / "out" / "case.nii.gz"
    program = PEERS.with_name("nnUNetv2_predict_from_modelfolder")
    if program.is_file():
        theirs = report.nnunet(model["folder"], image.parent, their_labels.parent)
        print(f"  {'nnU-Net':<34} {words(theirs)}", flush=True)
    ways = {"default without OpenVINO": ["--no-openvino"], "full precision": ["--precision", "float32"]}
    if importlib.util.find_spec("openvino"):
        ways |= {"default with OpenVINO": [], "int8": ["--precision", "int8"]}
    else:
        report.skip("nnU-Net's time over LightSeg's, default with OpenVINO", "the package openvino is not installed")
    costs: dict[str, Cost] = {}
    for name, options in ways.items():
        out = report.folder / f"{name}.seg.nrrd"
        if name == "full precision" and "float32" in costs:  # it was what runs by default
            computed_in = "float32"
            out = report.folder / "default without OpenVINO.seg.nrrd"
        else:
            cost = report.lightseg(model["id"], image, out, *options)
            computed_in = how(out)
            if name != "full precision" and computed_in != "float32":  # that run made checks whose outcome is kept
                print(f"  {f'LightSeg, {name}, first run':<34} {words(cost)}")
                cost = report.lightseg(model["id"], image, out, *options)
            costs[computed_in] = cost
        ours = costs[computed_in]
        print(f"  {f'LightSeg, {name}':<34} {words(ours)}, {computed_in}", flush=True)
        what = f"nnU-Net's time over LightSeg's, {name}"
        if theirs is None:
            report.skip(what, f"there is no {program}")
            continue
        speed, share = theirs.seconds / ours.seconds, ours.peak_bytes / theirs.peak_bytes
        equal = report.facts("in_process.py", "agreement", their_labels, out)["equal"]
        print(f"  {'':<34} {speed:.2f} times faster, {share:.2f} of the memory, {equal:.3%} of voxels equal")
        if name == "int8":  # of which nothing is claimed: whether it is used depends on the volume
            continue
        if name == "full precision" or "bfloat16" in computed_in:
            report.claim(what, speed, FASTER[name], "", at_least=True)
        else:
            report.claims.append(
                (what, f"{speed:.3g}", f"at least {FASTER[name]:g}", f"needs bfloat16, not {computed_in}")
            )
        report.claim(f"LightSeg's memory over nnU-Net's, {name}", share, 0.5, "")


def memory(report: Report) -> None:
    print("Long CTs, 14 labels, `lightseg segment` by default")
    costs = {}
    for name, slices in (("flare-sized", 300), ("thin", 300), ("thin", 600), ("flare-sized", 600)):
        what = f"{name} network, 512x512x{slices}"
        if (name, slices) == ("flare-sized", 600) and not report.full:
            report.skip(what, "it takes long; --full measures it")
            continue
        shape, spacing = LONG_CTS[slices]
        image, out = report.ct(shape, spacing), report.folder / "long.seg.nrrd"
        costs[name, slices] = report.lightseg(report.model(name)["id"], image, out)
        print(f"  {what:<44} {words(costs[name, slices])}, {how(out)}", flush=True)
    report.claim("512x512x300 CT, 14 labels", costs["flare-sized", 300].peak_bytes / GIGABYTE, 3, " GB")
    for name in ("thin", "flare-sized"):
        if (name, 600) in costs:
            grown = costs[name, 600].peak_bytes - costs[name, 300].peak_bytes
            report.claim(f"Memory for a voxel more, {name} network", grown / (300 * 512 * 512), VOXEL_BYTES, " bytes")


def monai(report: Report) -> None:
    """The same network, patches and prepared volume, in memory and once loaded."""
    model, size = report.model("flare-sized"), sizes(WINDOW)
    print(f"The sliding window alone, {size} voxels, FLARE24's U-Net, full precision, the same tiles one by one")
    out = {name: report.folder / f"{name}.npy" for name in ("lightseg", "monai", "nnunet")}
    ours = report.facts("in_process.py", "window", model["id"], out["lightseg"], *WINDOW)["seconds"]
    print(f"  LightSeg, with preparing and labels {ours:.1f} s", flush=True)
    if not PEERS.is_file() or subprocess.run([PEERS, "-c", "import monai"], capture_output=True).returncode:
        report.skip("MONAI's time over LightSeg's", f"{PEERS} has no MONAI")
        return
    for weights, label in (("monai", "its own weights of a tile"), ("nnunet", "nnU-Net's weights of a tile")):
        arguments = (model["folder"], out[weights], weights, *WINDOW)
        theirs = report.facts("monai_window.py", *arguments, python=PEERS)["seconds"]
        equal = report.facts("in_process.py", "agreement", out[weights], out["lightseg"])["equal"]
        print(f"  MONAI, {label:<28} {theirs:.1f} s, {theirs / ours:.2f} times LightSeg's, {equal:.4%} of voxels equal")
        if weights == "monai":
            report.claim("MONAI's time over LightSeg's", theirs / ours, 1, "", at_least=True)
        else:
            report.claim("Voxels as MONAI has them, same weights of a tile", 100 * equal, 99.99, " %", at_least=True)


def linear(report: Report) -> None:
    print("Time and volume, a small U-Net, `lightseg segment`")
    print(f"  {'voxels':<16} {'Mvoxel':>8} {'seconds':>8} {'s/Mvoxel':>9}", flush=True)
    measured = []
    for shape, spacing in GROWING_CTS:
        # what is tried once for a model would count for the first volume alone
        run_of = (report.model("small")["id"], report.ct(shape, spacing), report.folder / "g.seg.nrrd", "--no-openvino")
        cost = report.lightseg(*run_of)
        millions = math.prod(shape) / 1e6
        measured.append((millions, cost.seconds))
        line = f"  {sizes(shape):<16} {millions:>8.1f} {cost.seconds:>8.1f} {cost.seconds / millions:>9.2f}"
        print(line, flush=True)
    # Between two volumes, so that the start of the program does not count.
    (first, start), (second, early), *_, (third, late), (last, end) = measured
    growth = (end - late) / (last - third) / ((early - start) / (second - first))
    report.claim("Time for a voxel more, largest volumes over smallest", growth, 1.2, "")


def batch(report: Report) -> None:
    crops = report.facts("batch.py", "cohort", report.folder / "crops", BATCH_CASES)
    given = Path(crops["folder"])
    print(f"Batch: {BATCH_CASES} {crops['what']}; without OpenVINO")
    images = sorted(given.iterdir())[:SINGLE_CASES]
    single = sum(
        report.lightseg(BUNDLED, image, report.folder / "c.seg.nrrd", "--no-openvino").seconds for image in images
    )
    alone = SINGLE_CASES / single
    print(f"  one `lightseg segment` for each case: {alone:.2f} cases a second", flush=True)

    def throughput(engine: str, workers: int = 0, threads: int = 0) -> float:
        out = report.folder / f"{engine} {workers}"
        found = report.facts("batch.py", "throughput", out, given, engine, workers, threads)["cases_per_second"]
        how_many = f"{workers} worker(s) of one thread" if workers else "as many workers as fit"
        print(f"  {engine}, {how_many}: {found:.2f} cases a second", flush=True)
        return float(found)

    report.claim("Throughput of a batch over a program a case", throughput("local") / alone, 8, "", at_least=True)
    for engine in ("local", "dask"):
        if engine == "dask" and importlib.util.find_spec("distributed") is None:
            report.skip("The engine dask", "distributed is not installed")
            continue
        what = f"Throughput of two workers over one, {engine}"
        if (os.cpu_count() or 1) < 2:
            report.skip(what, "this machine has one core")
        else:
            one = throughput(engine, 1, 1)
            report.claim(what, throughput(engine, 2, 1) / one, 1.8, "", at_least=True)
        rows = LONG_MANIFEST if report.full else LONG_MANIFEST // 50
        cost = report.facts("batch.py", "overhead", report.folder / f"long {engine}", engine, rows)
        report.claim(f"A case without its computation, {rows} rows, {engine}", cost["ms"], 10, " ms")
        report.claim(f"Memory of the client, {rows} rows, {engine}", cost["client_bytes"] / 1e6, 500, " MB")


def responsiveness(report: Report) -> None:
    print("The window while a job runs, a volume of 256x256x256 voxels, a region of 48x64x48 mm; best of 6 runs")
    missing = [name for name in ("slicer", "PySide6") if importlib.util.find_spec(name) is None]
    if missing:
        report.skip("The window while a job runs", f"{' and '.join(missing)} not installed")
        return
    found = report.facts("responsiveness.py")
    for name, what, target in (
        ("gap", "Longest standstill of the window during a job", 100),
        ("added", "What a warm job takes besides its computation", 200),
        ("cancel", "From the click on Cancel to the end of a job", 1000),
        ("download", "From the click on Cancel to the end of a download", 1000),
    ):
        report.claim(what, found[name], target, " ms")


ALL = (
    networks,
    bundled,
    responsiveness,
    batch,
    nnunet,
    totalsegmentator,
    memory,
    monai,
    linear,
    growth,
    roofline,
    precisions,
)
PARTS = {work.__name__: work for work in ALL}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--full", action="store_true", help="measure what takes long, too")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}")
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    if hasattr(os, "getloadavg"):
        print(f"Load before it began: {os.getloadavg()[0]:.1f}; the times mean little unless that is near 0.")
    print(f"Peak memory of a command: {MEMORY_MEASURE}.")
    with tempfile.TemporaryDirectory(prefix="lightseg-benchmark-", ignore_cleanup_errors=True) as folder:
        report = Report(Path(folder), arguments.full)
        for name in arguments.parts or PARTS:
            print(flush=True)
            try:
                PARTS[name](report)
            except (RuntimeError, subprocess.CalledProcessError) as error:  # the others are worth knowing all the same
                print(f"  failed: {error}")
                report.claims.append((name, "-", "-", "FAILED"))
    print(f"\n{'claim':<60} {'measured':>12} {'target':>18}")
    for what, measured, target, verdict in report.claims:
        print(f"{what:<60} {measured:>12} {target:>18}  {verdict}")
    sys.exit(any(verdict == "FAILED" for *_, verdict in report.claims))


if __name__ == "__main__":
    main()
