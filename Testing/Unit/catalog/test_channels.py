"""Which series is which channel of a model, by the names that scanners and people give them."""

from __future__ import annotations

import pytest
from LightSegLib.catalog.channels import matched

GLIOMA = ("T1", "T1ce", "T2", "FLAIR")


@pytest.mark.parametrize(
    "names",
    [
        ("t1n", "t1c", "t2w", "t2f"),
        ("AX T1 PRE", "AX T1 + C", "AX T2", "AX T2 FLAIR"),
        ("t1_mprage_sag", "t1_mprage_sag_post", "t2_space", "t2_space_dark-fluid"),
        ("sub-01_T1w", "sub-01_ce-gd_T1w", "sub-01_T2w", "sub-01_FLAIR"),
        ("T1 nativ", "T1 KM", "t2_tse_tra", "t2_tirm_tra_dark-fluid"),
    ],
    ids=lambda names: names[0],
)
def test_each_channel_has_its_series(names: tuple[str, ...]) -> None:
    assert matched(GLIOMA, names) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "name",
    [
        *("T2*", "T2* GRE", "AX T2 *", "t2star", "T2_star", "T2w-Star GRE", "FLAIR*", "SWI T2", "T2 map", "T2_MAPIT"),
        *("t1_tir", "T2 STIR cor", "t1_tirm_dark-fluid", "Ax T1 FLAIR", "T1 subtraction", "DWI T2"),
    ],
)
def test_an_image_of_another_contrast_is_no_channel(name: str) -> None:
    assert matched(GLIOMA, (name, "T1ce")) == [None, 1, None, None]


@pytest.mark.parametrize(
    "case",
    ["MAP-001_", "MAP-IT_", "Swan_", "DWI study 7 ", "sub-01_ses-adc_", "T1-012_", "FLAIR-7 ", "POST-3_", "Gadot_"],
)
def test_a_name_of_the_case_is_no_contrast(case: str) -> None:
    """A project MAP, a Mrs. Swan: a word that all names begin with distinguishes none of them."""
    names = [case + name for name in ("t1", "t1ce", "t2", "flair", "t2_map")]
    assert matched(GLIOMA, names) == [0, 1, 2, 3]


@pytest.mark.parametrize("names", [("T2-007_t1", "T2-007_flair"), ("T1W-7_t2",), ("POST-3_t1", "POST-3_flair")])
def test_an_image_that_may_be_of_two_contrasts_is_no_channel(names: tuple[str, ...]) -> None:
    """The subject T2-007 has no T2 image, and that of the project POST may have a contrast agent or not."""
    wanted = ("T1ce", "T2") if "POST" in names[0] else ("T2", "FLAIR")
    assert matched(wanted, names)[0] is None


@pytest.mark.parametrize("names", [("T1 map", "T2 map"), ("T1 map", "T1 map GD"), ("MAP_t1",)])
def test_a_contrast_that_several_images_share_stays_one(names: tuple[str, ...]) -> None:
    """The parametric maps of a heart, T1 and T2, are not the images that a model needs."""
    assert matched(GLIOMA, names) == [None] * 4


def test_a_model_of_such_images_gets_them() -> None:
    channels = ("SWI", "T2star", "T2")
    assert matched(channels, ("T2* GRE", "t2 tse", "AX SWI")) == [2, 0, 1]
