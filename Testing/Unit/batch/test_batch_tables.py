"""The tables of a batch, and its page: the notes of a reviewer stay, and one that is open elsewhere costs no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from batch_cases import MODEL, PLAIN, QUICK, TESTING, counts, run_batch, table, write_cohort, write_volume
from LightSegLib.batch.engine import Engine
from LightSegLib.batch.several import TABLE, segment_with_models
from LightSegLib.batch.tables import record_tables, write_batch_table
from LightSegLib.cli.main import main
from LightSegLib.core.errors import InputError, OutputError, ReportError
from threshold_models import write_threshold_model

NOTE = "seen by the radiologist"


@pytest.fixture
def cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two cases; workers find the tests' own kinds of work."""
    monkeypatch.setenv("PYTHONPATH", str(TESTING))
    return write_cohort(tmp_path / "scans", cases=2)


@pytest.fixture
def again(cohort: Path, tmp_path: Path) -> Callable[..., tuple[int, int, int]]:
    """Runs the batch: cases that were done now, before, and that failed."""
    return lambda **more: counts(run_batch(cohort, MODEL, tmp_path / "out", PLAIN, handler=QUICK, **more))


def annotate(file: Path) -> bytes:
    """Add a note, as a reviewer does in a spreadsheet; the content that must stay."""
    file.write_text(f"{NOTE}\n{file.read_text(encoding='utf-8')}", encoding="utf-8")
    return file.read_bytes()


IN_EXCEL = PermissionError(13, "Access is denied")  # as Windows calls it


def cannot_be_replaced(monkeypatch: pytest.MonkeyPatch, error: BaseException, name: str) -> None:
    """Let a file come whole, but not get its name."""
    move = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if Path(target).name == name:
            raise error
        return move(path, target)

    monkeypatch.setattr(Path, "replace", replace)


def test_the_summary_counts_what_the_tables_have_of_earlier_inputs(
    cohort: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Last week's scans, and today's in a folder of their own."""
    out, today = tmp_path / "out", tmp_path / "today"
    run_batch(cohort, MODEL, out, PLAIN, handler=QUICK)
    write_volume(today / "Fall 9.nii.gz", 9)
    (cohort / "Fall 1.nii.gz").rename(today / "Fall 1.nii.gz")
    assert run_batch(today, MODEL, out, PLAIN, handler=QUICK).count_earlier() == 1
    assert len(table(out)) == 3
    line = ["batch", str(today), "--model", MODEL, "--out", str(out), "--no-pictures", "--no-openvino"]
    assert main([*line, "--precision", "float32", "--device", "cpu"]) == 0
    printed = capfd.readouterr().out
    assert "2 of 2 cases, 2 done before; " in printed
    assert printed.endswith("results.csv and report.html written (with 1 case of earlier runs)\n")


def test_notes_in_a_table_are_not_written_over(again: Callable[..., object], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert again() == (2, 0, 0)
    noted = {name: annotate(out / name) for name in ("results.csv", "report.html", "skipped_inputs.csv")}
    with pytest.raises(InputError, match=rf"changed after it wrote them: {', '.join(noted)}\)\. Choose another"):
        again()
    for name, content in noted.items():
        assert (out / name).read_bytes() == content
        (out / name).rename(tmp_path / name)
    assert again() == (0, 2, 0)
    assert not [name for name in noted if NOTE in (out / name).read_text(encoding="utf-8")]


def test_a_preview_names_what_is_in_the_way_and_shows_the_cases(
    again: Callable[..., object], cohort: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It writes nothing, so there is nothing to refuse."""
    again()
    noted = annotate(tmp_path / "out" / "results.csv")
    line = ["batch", str(cohort), "--model", MODEL, "--out", str(tmp_path / "out"), "--no-pictures", "--device", "cpu"]
    assert main([*line, "--precision", "float32", "--no-openvino", "--dry-run"]) == 0
    printed = capfd.readouterr()
    assert "0 of 2 cases to do" in printed.out and printed.out.count("done before") == 2
    assert "the batch would be refused: " in printed.err
    assert "(changed after it wrote them: results.csv). Choose another folder" in printed.err
    assert (tmp_path / "out" / "results.csv").read_bytes() == noted


def test_notes_that_are_saved_while_the_batch_runs_stay_too(
    again: Callable[..., object], cohort: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    again()
    write_cohort(cohort, cases=3)
    with pytest.raises(ReportError, match=r"results\.csv was changed after .* What was computed is kept"):
        again(on_state=lambda state: NOTE in (out / "results.csv").read_text() or annotate(out / "results.csv"))
    assert NOTE in (out / "results.csv").read_text() and "Fall 2" in (out / "report.html").read_text("utf-8")
    (out / "results.csv").unlink()
    assert again() == (0, 3, 0)
    assert len(table(out)) == 3


def test_a_table_that_is_open_elsewhere_costs_neither_a_case_nor_the_other_reports(
    again: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        cannot_be_replaced(patch, IN_EXCEL, "results.csv")
        with pytest.raises(ReportError) as caught:
            again()
    assert f"{out / 'results.csv'} could not be written (Access is denied), probably because" in str(caught.value)
    assert sorted(path.name for path in out.glob("*.*[vl]")) == ["report.html", "skipped_inputs.csv"]
    assert again() == (0, 2, 0) and len(table(out)) == 2


def test_a_table_is_the_batchs_own_whenever_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the new table has its name, or after."""
    file = tmp_path / "results.csv"
    record_tables(tmp_path, [file.name])
    write_batch_table([["case"], ["a"]], file)
    with monkeypatch.context() as patch:
        cannot_be_replaced(patch, KeyboardInterrupt(), file.name)
        with pytest.raises(KeyboardInterrupt):
            write_batch_table([["case"], ["a"], ["b"]], file)
    assert "b" not in file.read_text()
    for _run in range(2):
        write_batch_table([["case"], ["a"], ["b"]], file)
    annotate(file)
    with pytest.raises(OutputError, match="was changed after the batch wrote it"):
        write_batch_table([["case"], ["a"], ["b"]], file)


def test_tables_of_a_version_that_recorded_their_names_alone_are_gone_on_with(tmp_path: Path) -> None:
    """Whether they were changed is not known; from then on it is."""
    file, record = tmp_path / "results.csv", tmp_path / ".records" / ".tables.json"
    file.write_text("case\n")
    record.parent.mkdir()
    record.write_text('["misfits.csv", "results.csv"]')
    record_tables(tmp_path, [file.name])
    write_batch_table([["case"], ["a"]], file)
    annotate(file)
    with pytest.raises(OutputError, match="was changed after the batch wrote it"):
        write_batch_table([["case"], ["b"]], file)


@pytest.mark.slow
def test_the_table_of_several_models_is_kept_and_an_open_one_stops_no_other_model(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTSEG_MODELS", str(tmp_path / "models"))
    write_threshold_model(tmp_path / "models" / "bright", ["Bright"], [100])
    write_threshold_model(tmp_path / "models" / "two", ["Middle", "Bright"], [50, 200])
    out = tmp_path / "out"

    def segment() -> None:
        segment_with_models(cohort, ["bright", "two"], out, PLAIN, Engine(workers=1))

    with monkeypatch.context() as patch:
        cannot_be_replaced(patch, IN_EXCEL, "results.csv")
        with pytest.raises(ReportError, match="open in another program"):
            segment()
    assert (out / "two" / "Fall 1.seg.nrrd").is_file() and (out / TABLE).read_text().count("Fall 1,") == 2
    noted = annotate(out / TABLE)
    with pytest.raises(InputError, match="was changed after LightSeg wrote it"):
        segment()
    assert (out / TABLE).read_bytes() == noted
