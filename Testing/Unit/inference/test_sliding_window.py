"""Sliding window and restoring: tiles, their weighted mean, and labels decided slab by slab."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from LightSegLib.inference.processing.restore import Decision, LabelRestorer
from LightSegLib.inference.sliding_window import TileAggregator, TileSampler


@pytest.mark.parametrize(("shape", "tile", "overlap"), [((5, 7, 9), (3, 3, 4), 0.5), ((4, 4, 4), (8, 2, 4), 0.0)])
def test_tiles_cover_every_voxel_and_overlap_as_asked(
    shape: tuple[int, int, int], tile: tuple[int, int, int], overlap: float
) -> None:
    sampler = TileSampler(shape, tile, overlap)
    seen = np.zeros(shape, int)
    positions = list(sampler)
    for k, j, i in positions:
        depth, height, width = sampler.tile_size
        assert seen[k : k + depth, j : j + height, i : i + width].shape == sampler.tile_size
        seen[k : k + depth, j : j + height, i : i + width] += 1
    assert seen.min() >= 1 and len(positions) == len(sampler)
    for axis in range(3):
        starts = sorted({position[axis] for position in positions})
        steps = np.diff(starts)
        assert (steps <= np.ceil(tile[axis] * (1 - overlap))).all()  # whole voxels, as even as they can be


@pytest.mark.parametrize(
    ("length", "tile", "starts"), [(9, 4, [0, 2, 3, 5]), (10, 4, [0, 2, 4, 6]), (11, 8, [0, 3]), (13, 6, [0, 2, 5, 7])]
)
def test_tiles_are_where_nnunet_puts_them(length: int, tile: int, starts: list[int]) -> None:
    """Half a tile apart at most, as even as whole voxels can be, halves to the even one; by hand."""
    sampler = TileSampler((length, tile, tile), (tile,) * 3, 0.5)
    assert [k for k, _, _ in sampler] == starts


def test_streamed_slabs_equal_the_weighted_mean_over_the_whole_volume() -> None:
    """The aggregator that forgets finished rows against a plain sum over the full volume."""
    shape, classes = (13, 6, 7), 3
    sampler = TileSampler(shape, (4, 4, 4), 0.5)
    random = torch.Generator().manual_seed(0)
    tiles = [torch.randn(classes, *sampler.tile_size, generator=random) for _ in sampler]
    aggregator = TileAggregator(classes, shape, sampler.importance())
    slabs = [slab for tile, at in zip(tiles, sampler, strict=True) for slab in aggregator.add(tile, at)]
    slabs += aggregator.finish()
    total, weights = torch.zeros(classes, *shape), torch.zeros(shape)
    axis = torch.exp(-0.5 * ((torch.arange(4) - 2) / 0.5) ** 2)
    bell = axis[:, None, None] * axis[:, None] * axis
    for tile, (k, j, i) in zip(tiles, sampler, strict=True):
        total[:, k : k + 4, j : j + 4, i : i + 4] += tile * bell
        weights[k : k + 4, j : j + 4, i : i + 4] += bell
    torch.testing.assert_close(torch.cat(slabs, dim=1), total / weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("working", "shape"), [((4, 5, 6), (9, 10, 7)), ((9, 8, 7), (4, 4, 11)), ((6, 6, 6), (6, 6, 6))]
)
@pytest.mark.parametrize("rows", [1, 2, 9])
def test_labels_decided_slab_by_slab_equal_one_interpolation(
    working: tuple[int, int, int], shape: tuple[int, int, int], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = torch.randn(3, *working, generator=torch.Generator().manual_seed(1))
    labels = np.zeros(shape, np.uint8)
    restorer = LabelRestorer(working, labels)
    monkeypatch.setattr(
        "LightSegLib.inference.processing.restore.SLAB_BYTES", 2 * 4 * 3 * shape[1] * shape[2]
    )  # two rows
    for first in range(0, working[0], rows):
        restorer.add(logits[:, first : first + rows])
    whole = torch.nn.functional.interpolate(logits[None], size=shape, mode="trilinear", align_corners=False)
    np.testing.assert_array_equal(labels, whole[0].argmax(dim=0).numpy())


def test_a_small_image_is_padded_with_zeros_all_around_up_to_the_patch() -> None:
    volume = torch.ones(1, 3, 9, 4)
    sampler = TileSampler((3, 9, 4), (6, 4, 4), 0.5, pad=True)
    tiles = [sampler.tile(volume, position) for position in sampler]
    assert all(tile.shape == (1, 6, 4, 4) for tile in tiles)
    assert all(tile[0, :, 0, 0].tolist() == [0, 1, 1, 1, 0, 0] for tile in tiles)
    aggregator = TileAggregator(1, (3, 9, 4), sampler.importance())
    slabs = [
        slab for tile, at in zip(tiles, sampler, strict=True) for slab in aggregator.add(sampler.covered(tile), at)
    ]
    slabs += aggregator.finish()
    torch.testing.assert_close(torch.cat(slabs, dim=1), volume)


@pytest.mark.parametrize("probabilities", [False, True])
def test_later_regions_are_painted_over_earlier_ones(probabilities: bool) -> None:
    """Whole tumor, core, enhancing part: each is within the one before, as in BraTS."""
    inside = torch.tensor([[0, 1, 1, 1, 1], [0, 0, 1, 1, 0], [0, 0, 0, 1, 0]])[:, None, None, :]
    values = inside * 0.8 + 0.1 if probabilities else inside * 2.0 - 1
    labels = np.zeros((1, 1, 5), np.uint8)
    restorer = LabelRestorer((1, 1, 5), labels, Decision((2, 1, 3), 0.5 if probabilities else 0))
    restorer.add(values)
    assert labels.ravel().tolist() == [0, 2, 1, 3, 2]


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1, 2)])
def test_along_a_coarse_axis_labels_come_from_the_nearest_slice(axes: tuple[int, ...]) -> None:
    """Against torch's own interpolation, slice by slice, and picking by hand."""
    working, shape = (5, 6, 7), (9, 11, 4)
    logits = torch.randn(3, *working, generator=torch.Generator().manual_seed(2))
    labels = np.zeros(shape, np.uint8)
    restorer = LabelRestorer(working, labels, nearest_axes=axes)
    for row in range(working[0]):
        restorer.add(logits[:, row : row + 1])

    smooth = [old if axis in axes else new for axis, (old, new) in enumerate(zip(working, shape, strict=True))]
    expected = torch.nn.functional.interpolate(logits[None], size=smooth, mode="trilinear", align_corners=False)[0]
    for axis in axes:
        picked = np.floor((np.arange(shape[axis]) + 0.5) * working[axis] / shape[axis]).astype(int)
        expected = expected.index_select(axis + 1, torch.from_numpy(picked))
    np.testing.assert_array_equal(labels, expected.argmax(dim=0).numpy())
