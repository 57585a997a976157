"""Numbers in a message that compares them: whoever reads it sees which one is larger."""

from __future__ import annotations

import pytest
from LightSegLib.core.figures import distinct, distinct_sizes, gigabytes, rounded_ml


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((0.5, 0.73), ("0.50", "0.73")),
        ((0.728, 0.73), ("0.728", "0.730")),
        ((0.7299999, 0.73), ("0.7299999", "0.7300000")),
        ((0.73, 0.73), ("0.73", "0.73")),
    ],
)
def test_a_figure_and_its_limit_look_different_where_they_are(
    values: tuple[float, ...], texts: tuple[str, ...]
) -> None:
    assert distinct(*values) == texts


def test_numbers_that_differ_by_the_last_bit_look_different() -> None:
    low, high = distinct(0.1 + 0.2, 0.3)
    assert low != high


def test_significant_digits_stay_as_few_as_possible() -> None:
    assert distinct(0.8, 1.2, digits=3, kind="g") == ("0.8", "1.2")
    assert distinct(1.0, 1.002, digits=3, kind="g") == ("1", "1.002")


@pytest.mark.parametrize(
    ("sizes", "texts"),
    [
        ((2_100_000_000, 300_000_000), ("2.1 GB", "300 MB")),
        ((2_110_000_000, 2_060_000_000), ("2.11 GB", "2.06 GB")),
        ((1_000_400_000, 999_700_000), ("1.0004 GB", "0.9997 GB")),  # of which one is a gigabyte by rounding
        ((67_100_000, 67_090_000), ("67.10 MB", "67.09 MB")),
    ],
)
def test_what_is_needed_looks_more_than_what_is_free(sizes: tuple[int, ...], texts: tuple[str, ...]) -> None:
    assert distinct_sizes(*sizes) == texts


def test_no_size_is_a_thousand_megabytes() -> None:
    assert gigabytes(999_700_000) == "1.0 GB"


@pytest.mark.parametrize(
    ("ml", "shown"), [(1234.567891, 1234.568), (3.140625, 3.141), (0.034567, 0.0346), (0.000216, 0.000216), (0.0, 0.0)]
)
def test_a_volume_in_a_table_has_no_digits_that_nobody_measured(ml: float, shown: float) -> None:
    assert rounded_ml(ml) == shown
