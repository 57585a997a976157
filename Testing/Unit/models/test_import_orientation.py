"""An import with an orientation: the authors turn images before nnU-Net does its part, which its plans do not say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from imported_models import ID
from LightSegLib.catalog.card_file import read_card, write_card
from LightSegLib.catalog.lookup import find_card
from LightSegLib.cli.main import main
from LightSegLib.core.errors import InputError
from LightSegLib.imaging.geometry import Geometry
from LightSegLib.imaging.volume import Volume
from LightSegLib.inference.options import InferenceOptions
from LightSegLib.inference.segmenter import Segmenter
from LightSegLib.models.importing import import_model
from LightSegLib.models.opening import open_model
from nnunet_models import make_plans, write_model

pytestmark = pytest.mark.usefixtures("nothing_left_over")


def segment(voxels: np.ndarray, direction: tuple[float, ...]) -> np.ndarray:
    volume = Volume(voxels, Geometry(voxels.shape, (1.5, 1.5, 3.0), direction=direction), "CT")  # type: ignore[arg-type]
    return Segmenter(find_card(ID), InferenceOptions(device="cpu", precision="float32")).segment([volume]).voxels


def test_the_network_sees_images_so_whatever_the_file_has(results: Path) -> None:
    """The same voxels, stored along L, P, S and along R, A, S: one answer with it, two without."""
    ras = np.random.default_rng(0).normal(0, 300, (6, 20, 24)).astype(np.float32)
    lps = ras[:, ::-1, ::-1].copy()
    along_ras, along_lps = (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
    import_model(results)
    as_stored = segment(ras, along_ras)
    assert (segment(lps, along_lps)[:, ::-1, ::-1] != as_stored).any()
    assert main(["import", str(results), "--orientation", "RAS", "--replace"]) == 0
    np.testing.assert_array_equal(segment(ras, along_ras), as_stored)
    np.testing.assert_array_equal(segment(lps, along_lps)[:, ::-1, ::-1], as_stored)


def test_the_plans_own_order_of_axes_follows(tmp_path: Path, models: Path) -> None:
    plans = {**make_plans(), "image_reader_writer": "SimpleITKIOWithReorient", "transpose_forward": [2, 0, 1]}
    steps = import_model(write_model(tmp_path, plans), orientation="LPS").preprocessing
    assert (steps.orientation, steps.transpose) == ("LPS", (2, 0, 1))


def test_it_survives_being_handed_on_and_what_the_weights_say_at_each_use(results: Path, models: Path) -> None:
    card = import_model(results, orientation="RAS")
    assert card.folder is not None
    assert import_model(card.folder, replace=True).preprocessing.orientation == "RAS"
    write_card(replace(read_card(card.folder / "model.json"), metadata_in_weights=True), card.folder / "model.json")
    again = import_model(card.folder, replace=True, orientation="LPS")
    assert again.kept == ("orientation",)
    assert open_model(again).card.preprocessing.orientation == "LPS"


@pytest.mark.parametrize("orientation", ["ras", "RAR", "", "RASS"])
def test_an_orientation_that_there_is_not_is_refused(
    results: Path, models: Path, orientation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="There is no orientation"):
        import_model(results, orientation=orientation)
    assert main(["import", str(results), "--orientation", orientation]) == 2
    assert "three letters such as LPS" in capsys.readouterr().err
    assert not models.exists()
