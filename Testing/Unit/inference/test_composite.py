"""A model that consists of others: one label map of all, one of them in memory at a time, one progress."""

from __future__ import annotations

import csv
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from composite_models import write_composite
from LightSegLib.catalog.card import OuterResampling, Preprocessing, RegionFrom, Source, Step, Weights
from LightSegLib.catalog.card_file import card_from_dict, card_to_dict
from LightSegLib.catalog.lookup import find_card
from LightSegLib.catalog.needed import check_part
from LightSegLib.cli.main import main
from LightSegLib.core.errors import Canceled, DownloadError, ModelError
from LightSegLib.core.progress import Progress
from LightSegLib.imaging.geometry import Geometry, to_sitk
from LightSegLib.imaging.readers import read_grid
from LightSegLib.imaging.roi import RegionOfInterest
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.weights.store import WeightStore
from LightSegLib.worker.client import Worker
from threshold_models import UNCHANGED, write_threshold_model

OPTIONS = InferenceOptions(device="cpu", precision="float32")
OUTER = Preprocessing(normalization=(UNCHANGED,), outer_resampling=OuterResampling((3.0, 3.0, 3.0), True))
PARTS = {"dim": (2, 0), "bright": (3, 1)}
NAMES = ["Sun", "Twilight", "Day"]


@pytest.fixture
def models(user_models: Path) -> Path:
    """The user's models: two that compare brightness, and one that consists of them."""
    write_threshold_model(user_models / "dim", ["Dim", "Glare"], [50, 700])
    write_threshold_model(user_models / "bright", ["Bright", "Brightest"], [100, 200])
    write_composite(user_models / "sky", NAMES, PARTS)
    return user_models


def sky(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), noisy: bool = True) -> Volume:
    """Brighter from slice to slice, with some noise."""
    voxels = np.linspace(0, 300, 24)[:, None, None] * np.ones((24, 20, 18))
    voxels += np.random.default_rng(3).normal(0, 20, voxels.shape) if noisy else 0
    return Volume(voxels.astype(np.float32), Geometry((24, 20, 18), spacing), "sky")


def expected(voxels: np.ndarray) -> np.ndarray:
    """What the later part says where it says something, else what the first says."""
    return np.select([voxels > 200, voxels > 100, voxels > 50], [1, 3, 2], 0)


def test_the_labels_of_all_become_one_and_a_later_part_wins(models: Path) -> None:
    volume = sky()
    result = Segmenter(find_card("sky"), OPTIONS).segment([volume])
    np.testing.assert_array_equal(result.voxels, expected(volume.voxels))
    assert [label.name for label in result.labels] == NAMES and result.voxels.dtype == np.uint8


def test_the_record_names_each_part_with_its_weights(models: Path) -> None:
    facts = Segmenter(find_card("sky"), OPTIONS).segment([sky()]).provenance
    assert [part["model"] for part in facts["parts"]] == ["dim", "bright"]
    for part in facts["parts"]:
        assert part["weights_sha256"] == find_card(part["model"]).weights.sha256 and part["version"] == "1"
        assert part["citation"] == f"{part['model']}." and part["computed_in"] == "float32"
    assert facts["model"] == "sky" and facts["computed_in"] == "float32" and len(facts["weights_sha256"]) == 64
    assert facts["memory_estimate_mb"] >= 0 and facts["notices"] == []


def test_confidence_is_that_of_the_part_whose_label_it_is(models: Path) -> None:
    volume = sky()
    segment = lambda model: Segmenter(find_card(model), replace(OPTIONS, confidence=True)).segment([volume])  # noqa: E731
    whole, dim, bright = (segment(model).confidence for model in ("sky", "dim", "bright"))
    assert whole is not None and dim is not None and bright is not None
    labels = expected(volume.voxels)
    np.testing.assert_array_equal(whole[labels == 2], dim[labels == 2])
    np.testing.assert_array_equal(whole[(labels == 1) | (labels == 3)], bright[(labels == 1) | (labels == 3)])
    np.testing.assert_array_equal(whole[labels == 0], np.minimum(dim, bright)[labels == 0])


def test_a_region_limits_all_parts(models: Path) -> None:
    volume = sky()
    region = RegionOfInterest.of_slices((slice(4, 20), slice(3, 9), slice(0, 18)), volume.geometry)
    result = Segmenter(find_card("sky"), OPTIONS).segment([volume], region)
    inside = np.zeros(volume.voxels.shape, bool)
    inside[4:20, 3:9] = True
    np.testing.assert_array_equal(result.voxels, np.where(inside, expected(volume.voxels), 0))


def test_progress_is_one_over_all_parts_and_never_goes_back(models: Path) -> None:
    steps: list[Progress] = []
    Segmenter(find_card("sky"), OPTIONS).segment([sky()], progress=steps.append)
    shares = [step.tile / step.tiles for step in steps if step.tiles]
    assert shares == sorted(shares) and max(shares) == 1 and 0.5 in shares
    assert any(step.step.startswith("Part 2 of 2: Segmenting") for step in steps)
    assert all(step.seconds_left is None or step.seconds_left >= 0 for step in steps)


def test_cancel_stops_within_a_part(models: Path) -> None:
    steps: list[Progress] = []
    with pytest.raises(Canceled):
        Segmenter(find_card("sky"), OPTIONS).segment(
            [sky()], progress=steps.append, canceled=lambda: bool(steps) and "Part 2" in steps[-1].step
        )
    assert "Part 2 of 2" in steps[-1].step and steps[-1].tile < steps[-1].tiles


def test_one_part_is_in_memory_at_a_time(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from LightSegLib.models import opening

    alive: list[weakref.ref[Any]] = []
    open_model = opening.open_model

    def watched(*given: Any) -> Any:
        assert not any(network() for network in alive)
        opened = open_model(*given)
        alive.append(weakref.ref(opened.networks[0]))
        return opened

    monkeypatch.setattr(opening, "open_model", watched)
    Segmenter(find_card("sky"), OPTIONS).segment([sky()])
    assert len(alive) == 2 and not any(network() for network in alive)


def test_what_is_the_same_for_all_parts_is_done_once(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One resampling around all gives the same labels as one around each of them."""
    from LightSegLib.inference.processing import outer_resampling

    for name, labels, levels in (("low", ["Dim"], [50]), ("high", ["Bright"], [200])):
        write_threshold_model(models / name, labels, levels, preprocessing=OUTER)
    write_composite(models / "once", ["Dim", "Bright"], {"low": (1,), "high": (2,)}, preprocessing=OUTER)
    write_composite(models / "each", ["Dim", "Bright"], {"low": (1,), "high": (2,)})
    done: list[bool] = []
    linear = outer_resampling.linear
    monkeypatch.setattr(outer_resampling, "linear", lambda *given: done.append(True) or linear(*given))
    once = Segmenter(find_card("once"), OPTIONS).segment([sky()])
    assert len(done) == 1
    each = Segmenter(find_card("each"), OPTIONS).segment([sky()])
    assert len(done) == 3
    np.testing.assert_array_equal(once.voxels, each.voxels)
    assert set(np.unique(once.voxels)) == {0, 1, 2}


def test_a_part_may_consist_of_others(models: Path) -> None:
    write_threshold_model(models / "top", ["Top"], [280])
    write_composite(models / "more", ["Sun", "Twilight", "Day", "Top"], {"sky": (1, 2, 3), "top": (4,)})
    volume = sky()
    steps: list[Progress] = []
    result = Segmenter(find_card("more"), OPTIONS).segment([volume], progress=steps.append)
    np.testing.assert_array_equal(result.voxels, np.where(volume.voxels > 280, 4, expected(volume.voxels)))
    shares = [step.tile / step.tiles for step in steps if step.tiles]
    assert shares == sorted(shares) and shares[-1] == 1


def test_all_parts_look_where_the_model_looks(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts with the rule of the whole do not search again, not even when their weights have completed their cards."""
    from LightSegLib.models import opening

    open_model = opening.open_model
    monkeypatch.setattr(
        opening, "open_model", lambda card, *given: replace(open_model(card, *given), card=find_card(card.id))
    )
    write_threshold_model(models / "sun", ["Sun"], [150])
    rule = RegionFrom("sun", (1,), 2.0)
    write_threshold_model(models / "near", ["Day"], [100], region_from=rule)
    write_composite(models / "days", ["Day"], {"near": (1,)}, region_from=rule)
    volume = sky(noisy=False)
    steps: list[Progress] = []
    result = Segmenter(find_card("days"), OPTIONS).segment([volume], progress=steps.append)
    first = int(np.argmax(volume.voxels[:, 0, 0] > 150)) - 2
    rows = np.arange(24)[:, None, None]
    np.testing.assert_array_equal(result.voxels, (volume.voxels > 100) & (rows >= first))
    assert sum("Finding the place: Loading" in step.step for step in steps) == 1
    assert result.provenance["region_from"]["model"] == "sun"
    shares = [step.tile / step.tiles for step in steps if step.tiles]
    assert shares == sorted(shares) and shares[-1] == 1


# --- what does not fit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"dim": (1, 2), "gone": (3,)}, "of which 'gone' is not on this computer"),
        ({"dim": (1, 2, 3)}, "uses label 3 of its part 'dim'"),
        ({"dim": (1,)}, "does not define what label 2 of its part 'dim' becomes"),
        ({"odd": (1,)}, "need each other in a circle: 'odd' needs 'odd'"),
    ],
)
def test_parts_that_do_not_fit_are_named_before_anything_runs(
    models: Path, parts: dict[str, tuple[int, ...]], words: str
) -> None:
    card = write_composite(models / "odd", NAMES, parts)
    steps: list[Progress] = []
    with pytest.raises(ModelError, match=words):
        Segmenter(card, OPTIONS).segment([sky()], progress=steps.append)
    assert not any("Part" in step.step for step in steps)


def test_a_part_of_other_channels_is_named(models: Path) -> None:
    card = replace(find_card("sky"), channels=("image", "other"))
    with pytest.raises(ModelError, match="takes 2 volumes, but its part 'dim' takes 1"):
        Segmenter(card, OPTIONS).segment([sky(), sky()])


def test_a_part_whose_step_looks_at_the_place_that_all_share_is_refused(models: Path) -> None:
    place = RegionFrom("dim", (1,), 20)
    near = Step("keep_within", (1,), distance_mm=10, reference=(1,), grid="image")
    card, part = (replace(find_card(name), region_from=place) for name in ("sky", "bright"))
    with pytest.raises(ModelError, match=r"The part 'bright' .* Move this step to the card of"):
        check_part(card, card.parts[1], replace(part, postprocessing=(near,)))


def test_weights_that_are_missing_offline_are_named_before_any_part_runs(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source("url", url="https://example.org/far.pt")
    write_threshold_model(models / "far", ["Far"], [50], weights=Weights("far.pt", 100, "0f" * 32, sources=(source,)))
    card = write_composite(models / "both", ["Dim", "Far"], {"dim": (1, 0), "far": (2,)})
    assert WeightStore().state(card) == "available" and WeightStore().state(find_card("sky")) == "user"
    monkeypatch.setenv("LIGHTSEG_OFFLINE", "1")
    steps: list[Progress] = []
    with pytest.raises(DownloadError, match=r"weights of Far are not on this computer.*weights add far FILE"):
        Segmenter(card, OPTIONS).segment([sky()], progress=steps.append)
    assert not any("Part" in step.step for step in steps)


@pytest.mark.parametrize(
    "command",
    [
        "segment {cases}/sky.nii.gz --out {cases}/out.nrrd --model",
        "batch {cases} --out {cases}/all --model",
        "weights download",
        "weights path",
        "verify",
    ],
)
def test_all_weights_that_are_missing_are_named_at_once(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Of two parts and of what finds the place, so that one trip to a computer with a network is enough."""
    for name in ("far", "farther", "place"):
        source = Source("url", url=f"https://example.org/{name}.pt")
        weights = Weights(f"{name}.pt", 100, "0f" * 32, sources=(source,))
        write_threshold_model(models / name, [name.capitalize()], [50], weights=weights)
    finder = {} if command == "weights path" else {"region_from": RegionFrom("place", (1,), 20)}
    write_composite(models / "all", ["Dim", "A", "B"], {"dim": (1, 0), "far": (2,), "farther": (3,)}, **finder)
    (tmp_path / "cases").mkdir()
    sitk.WriteImage(to_sitk(sky().voxels, sky().geometry), str(tmp_path / "cases" / "sky.nii.gz"))
    monkeypatch.setenv("LIGHTSEG_OFFLINE", "1")
    assert main([*command.format(cases=tmp_path / "cases").split(), "all"]) == 1
    error = capsys.readouterr().err
    missing = ["far", "farther", *(["place"] if finder else [])]
    assert f"The weights of {len(missing)} models cannot be used. Get or correct each of them:" in error
    for name in missing:
        assert f"https://example.org/{name}.pt with a browser" in error and f"weights add {name} FILE" in error, error


def test_every_list_states_the_size_that_the_download_has(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That of the parts that are not here, and of what finds their place."""
    for name, size in (("far", 100_000_000), ("place", 30_000_000)):
        source = Source("url", url=f"https://example.org/{name}.pt")
        write_threshold_model(models / name, [name], [50], weights=Weights(f"{name}.pt", size, sources=(source,)))
    whole = write_composite(
        models / "whole", ["Dim", "Far"], {"dim": (1, 0), "far": (2,)}, region_from=RegionFrom("place", (1,), 20)
    )
    monkeypatch.setenv("LIGHTSEG_OFFLINE", "1")
    assert WeightStore().download_size(whole) == 130_000_000
    assert main(["models", "whole"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  whole ")]
    assert line.split()[2:5] == ["130", "MB", "available"]
    assert main(["weights", "download", "whole"]) == 1
    assert capsys.readouterr().out == "2 models, 130 MB to download\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network": "unetrpp"}, "network and network_arguments must be empty where there are parts"),
        ({"weights": {"file": "a.pt"}}, "weights must be there unless there are parts"),
        ({"metadata_in_weights": True}, "metadata_in_weights must be left out where there are parts"),
        ({"parts": [{"model": "dim", "labels": [9]}]}, r"parts\[0\].labels must be values of labels, or 0"),
        ({"parts": []}, "weights must be there unless there are parts"),
    ],
)
def test_a_card_with_parts_has_nothing_of_a_network(models: Path, change: dict[str, Any], words: str) -> None:
    data = card_to_dict(find_card("sky"))
    assert "weights" not in data
    assert card_from_dict(data) == find_card("sky")
    with pytest.raises(ValueError, match=words):
        card_from_dict(data | change)


# --- every way in --------------------------------------------------------------------------------


@pytest.mark.slow
def test_command_line_batch_and_worker_run_it(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume = sky()
    cases = tmp_path / "cases"
    cases.mkdir()
    sitk.WriteImage(to_sitk(volume.voxels, volume.geometry), str(cases / "sky.nii.gz"))
    model = ["--model", "sky", "--device", "cpu"]
    assert main(["segment", str(cases / "sky.nii.gz"), *model, "--out", str(tmp_path / "out.seg.nrrd")]) == 0
    assert np.array_equal(read_grid(tmp_path / "out.seg.nrrd")[0], expected(volume.voxels))
    assert main(["reproduce", str(tmp_path / "out.seg.nrrd"), str(cases / "sky.nii.gz")]) == 0
    assert main(["batch", str(cases), *model, "--out", str(tmp_path / "all"), "--workers", "1"]) == 0
    (row,) = csv.DictReader((tmp_path / "all" / "results.csv").open(encoding="utf-8"))
    counts = np.bincount(expected(volume.voxels).ravel())
    assert [float(row[f"{name} (ml)"]) for name in NAMES] == pytest.approx(counts[1:] / 1000, abs=1e-3)
    worker = Worker()
    try:
        answer = worker.segment("sky", [volume], options=OPTIONS)
    finally:
        worker.stop()
    np.testing.assert_array_equal(answer.voxels, expected(volume.voxels))
    capsys.readouterr()
    for command in (["info", "sky"], ["info", "sky", "--json"], ["weights", "verify", "sky"], ["models", "sky"]):
        assert main(command) == 0, command
    shown = capsys.readouterr().out
    assert "dim, bright (" in shown and "dim: OK" in shown and "bright: OK" in shown
    assert main(["weights", "path", "sky"]) == 0 and main(["weights", "download", "sky"]) == 0
    paths = [str(models / part / "weights.pt") for part in PARTS]
    assert capsys.readouterr().out.splitlines() == [*paths, f"dim: {paths[0]}", f"bright: {paths[1]}"]
    assert main(["weights", "add", "sky", paths[0]]) == 2
    assert (
        "each with weights of its own: dim, bright. Add the file of each to it: lightseg weights add dim"
        in capsys.readouterr().err
    )
    assert main(["weights", "remove", "sky"]) == 2 and "No weights of sky" in capsys.readouterr().err


def test_a_folder_with_such_a_card_can_be_imported(models: Path, tmp_path: Path) -> None:
    from LightSegLib.models.importing import import_model

    card = write_composite(tmp_path / "night", NAMES, PARTS)
    assert import_model(tmp_path / "night") == find_card("night") == card
    write_composite(tmp_path / "void", ["Void"], {"nothing": (1,)})
    with pytest.raises(ModelError, match="of which 'nothing' is not on this computer"):
        import_model(tmp_path / "void")
    assert not (models / "void").exists()
