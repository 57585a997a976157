"""What reaches a user: the files that CMake installs, as where Slicer's extensions are built, work on their own.

A file that the module's CMakeLists.txt forgets goes unnoticed by all other tests, which run from the checkout.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from installing import CTEST, HERE, REPOSITORY, Installed, Refused, install
from needs_slicer import HAS_SLICER, needs_slicer

MODULE = REPOSITORY / "LightSeg"
BUNDLED = "Testing/Unit/inference/test_bundled_model.py"
CARDS = "Testing/Unit/catalog/test_cards.py::test_the_cards_that_ship_fit_the_schema_and_lose_nothing_when_read"
WORKER = "Testing/Unit/worker/test_worker.py::test_it_gives_what_the_segmenter_gives_and_is_warm_the_second_time"
WINDOW = "Testing/Gui/test_run.py::test_from_the_sample_to_a_segmentation"
COMMANDS = [
    f"Testing/Unit/cli/test_cli.py::test_{story}"
    for story in (
        "models_lists_own_models_and_their_state",
        "models_and_help_do_not_load_torch",
        "info_describes_a_model",
        "segment_writes_labels_on_the_inputs_grid",
        "evaluate_prints_a_table_and_writes_it_where_it_is_asked_to",
        "every_training_option_is_a_flag",
    )
]
# Fast tests of what needs the most of the package's files. The self-test is run by ctest.
LOGIC = [BUNDLED, CARDS, WORKER, *COMMANDS, *(["Testing/Slicer/test_module.py", WINDOW] if HAS_SLICER else [])]
SLOW = ["--deselect", f"{BUNDLED}::test_a_whole_head_without_a_region_is_warned_of"]
AGAIN = ["--deselect", "Testing/Slicer/test_module.py::test_the_self_test_of_the_module"]
SCRIPT = "PYTHON_SCRIPTS ${MODULE_NAME}.py"  # as the list of the module's files ends
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")


def of_the_checkout(module: Path = MODULE) -> dict[str, bytes]:
    """Every file of the module, by its path as CMake writes it."""
    found = (path for path in module.rglob("*") if path.is_file() and path.suffix not in (".pyc", ".part"))
    files = {path.relative_to(module).as_posix(): path.read_bytes() for path in found}
    del files["CMakeLists.txt"]
    return files


def test_the_package_holds_the_whole_module_and_nothing_else(installed: Installed) -> None:
    packaged, expected = installed.files(), of_the_checkout()
    assert packaged.keys() == expected.keys()
    assert packaged == expected
    outside = {path for path in installed.prefix.rglob("*") if path.is_file()} - set(installed.modules.rglob("*"))
    assert [path.name for path in outside] == ["LightSeg.s4ext"]


@pytest.mark.slow
def test_the_tests_of_the_logic_pass_on_the_installed_files_alone(installed: Installed, run_away) -> None:
    done = run_away(installed, *PYTEST, *SLOW, *AGAIN, *LOGIC)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 20
    assert installed.files() == of_the_checkout(), "using the extension changes nothing in Slicer's folder"


def test_a_program_that_reads_the_checkout_or_calls_out_is_stopped(installed: Installed, run_away) -> None:
    """The guard of the tests here, which would be worth nothing if it let everything pass."""
    done = run_away(
        installed, "-c", f"import sys; sys.path.insert(0, {str(MODULE)!r}); import LightSegLib.imaging.volume"
    )
    assert "read from the checkout" in done.stderr
    done = run_away(installed, "-c", "import socket; socket.create_connection(('192.0.2.1', 80), timeout=0.1)")
    assert "a connection to 192.0.2.1" in done.stderr


@pytest.mark.parametrize(
    ("kind", "other", "example"),
    [
        ("LightSegLib/*.py", "LightSegLib/c*.py", "LightSegLib/imaging/readers.py"),
        ("LightSegLib/*.json", "LightSegLib/t*.json", "LightSegLib/catalog/schema.json"),
    ],
)
def test_a_kind_of_file_that_the_lists_forget_is_missed(
    kind: str, other: str, example: str, checkout: Path, tmp_path: Path, run_away
) -> None:
    lists = checkout / "LightSeg" / "CMakeLists.txt"
    change(lists, kind, other)
    incomplete = install(checkout, tmp_path)
    missing = of_the_checkout(checkout / "LightSeg").keys() - incomplete.files().keys()
    assert example in missing and {Path(file).suffix for file in missing} == {Path(example).suffix}
    done = run_away(incomplete, *PYTEST, "-x", CARDS)
    assert done.returncode != 0


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        (
            "LightSeg/CMakeLists.txt",
            "${MODULE_NAME}.py)",
            "${MODULE_NAME}.py LightSegLib/volumes.py)",
            r"LightSegLib/volumes\.py",
        ),
        (
            "LightSeg/CMakeLists.txt",
            "${MODULE_NAME}.py)",
            "${MODULE_NAME}.py LightSegLib/weights)",
            "LightSegLib/weights",
        ),
        ("LightSeg/CMakeLists.txt", "WITH_GENERIC_TESTS", "WITH_TESTS", "WITH_TESTS"),
        ("Testing/CMakeLists.txt", "LightSeg.py)", "LightSegTest.py)", r"LightSegTest\.py"),
        ("CMakeLists.txt", "EXTENSION_ICONURL", "EXTENSION_ICON", "EXTENSION_ICON is not known"),
        ("CMakeLists.txt", "included.", "included; others follow.", "EXTENSION_DESCRIPTION has a semicolon"),
    ],
    ids=["no such file", "a folder", "no such option", "no such test", "no such fact", "text that is cut"],
)
def test_a_mistake_in_the_lists_is_an_error(
    name: str, old: str, new: str, reason: str, checkout: Path, tmp_path: Path
) -> None:
    change(checkout / name, old, new)
    with pytest.raises(Refused, match=reason):
        install(checkout, tmp_path)


@pytest.mark.slow
@needs_slicer
def test_ctest_runs_the_self_test(installed: Installed, run_away) -> None:
    """As in Slicer's nightly build, which asks for the tests of the script by its name."""
    listed = run_away(installed, "-N", "--test-dir", installed.build, program=CTEST)
    assert re.findall(r"Test\s+#\d+: (\w+)", listed.stdout) == ["py_LightSeg"]
    done = run_away(installed, "--output-on-failure", "--test-dir", installed.build, program=CTEST)
    assert done.returncode == 0, done.stdout
    log = (installed.build / "Testing" / "Temporary" / "LastTest.log").read_text(encoding="utf-8")
    assert "test_hippocampusOfSample" in log and "OK" in log and "skipped" not in log


@needs_slicer
def test_ctest_without_pytorch_skips_the_self_test_and_reports_it(installed: Installed, run_away) -> None:
    """The machines that build all extensions have no PyTorch; a test that fails there would be reported every night."""
    program = (
        "import runpy, sys; sys.modules['torch'] = None; sys.argv = ['', 'LightSeg']; "
        f"runpy.run_path({str(HERE / 'ctest_runner.py')!r})"
    )
    done = run_away(installed, "-c", program)
    assert done.returncode == 0 and re.search(r"skipped.*PyTorch", done.stderr), done.stderr


def test_without_testing_there_is_not_a_test(checkout: Path, tmp_path: Path, run_away) -> None:
    quiet = install(checkout, tmp_path, "-DBUILD_TESTING=OFF")
    assert "Total Tests: 0" in run_away(quiet, "-N", "--test-dir", quiet.build, program=CTEST).stdout


@needs_slicer
def test_loading_the_module_runs_nothing(installed: Installed, run_away) -> None:
    """Slicer loads it at start-up, whether or not the user segments: it reads code and does nothing else."""
    program = (
        "import sys, vtk, fakes; fakes.install()\n"  # as in Slicer, these are there before
        "code, seen = ('compile', 'exec', 'import', 'marshal.loads', 'os.listdir', 'os.scandir'), []\n"
        "def watch(event, arguments):\n"
        "    python = event == 'open' and str(arguments[0]).endswith(('.py', '.pyc'))\n"
        "    if event not in code and not python: seen.append((event, *map(str, arguments)))\n"
        "sys.addaudithook(watch)\n"
        "import LightSeg\n"
        "print(seen[:9])\n"
    )
    done = run_away(installed, "-c", program)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def change(path: Path, old: str, new: str) -> None:
    """Replace a text that is there once or more."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
