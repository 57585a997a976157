"""How the tissues look in one synthetic image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .draw import Draw
from .options import SynthesisOptions
from .settings import Settings

SCALE = 1.3  # the brightest typical intensity of a structure becomes 1 / SCALE, which leaves room for the brighter
PATCH_NODES = 24  # of the field that decides where a rim is left after stripping


class Contrast:
    """The intensities of one synthetic image.

    Args:
        means: of each source's intensity, [sources].
        deviations: of each source's intensity, [sources].
        kind: name of the contrast, for the record.
        removed: [sources] what was removed around the structures, as skull stripping does.
        partial: the same, in patches.
    """

    def __init__(self, settings: Settings, options: SynthesisOptions, draw: Draw, kind: str | None = None) -> None:
        self._settings, self._draw = settings, draw
        self.kind = self._kind(options) if kind is None else kind
        self.means = self._means(options)
        span = draw.span(options.texture)
        self.deviations = draw.uniforms(len(self.means)) * span
        outside = torch.tensor(settings.source_classes) == 0
        inside = torch.tensor([True, *(value.inside for value in settings.values)])
        around = outside & ~inside
        if around.any() and draw.happens(options.merged):
            self.means[around] = self.means[around][draw.choice(int(around.sum()))]
        same = torch.tensor(settings.mirrored_sources)
        same = torch.minimum(same, torch.arange(len(same)))  # left and right have one Gaussian
        self.means, self.deviations = self.means[same].clamp(min=0), self.deviations[same]
        if draw.happens(options.empty_background):
            self.means[0] = self.deviations[0] = 0
        else:
            self.means[0] = draw.uniform(0, options.background)
        self.removed = torch.zeros(len(self.means), dtype=torch.bool)
        self.partial = torch.zeros_like(self.removed)
        if draw.happens(options.stripped):
            rim = torch.tensor([False, *(value.rim for value in settings.values)])
            self.removed = around | (torch.arange(len(self.means)) == 0)
            extent = draw.choice(3)  # the rim stays, goes, or goes in patches
            if extent == 1:
                self.removed = self.removed | rim
            elif extent == 2:
                self.partial = rim

    def _kind(self, options: SynthesisOptions) -> str:
        """Return a known contrast, "tissues" or "values"."""
        at = self._draw.uniform(0, 1)
        known = self._settings.contrasts
        if known and at < options.first_contrast:
            return known[0]
        at -= options.first_contrast
        if len(known) > 1 and 0 <= at < options.other_contrasts:
            return known[1 + self._draw.choice(len(known) - 1)]
        at -= options.other_contrasts
        return "tissues" if at < options.tissue_contrast or at < 0 else "values"

    def _means(self, options: SynthesisOptions) -> Tensor:
        """Return the mean intensity of every source."""
        draw, settings = self._draw, self._settings
        count = len(settings.source_tissues)
        if self.kind == "values":
            return draw.uniforms(count)
        tissues = self._random_tissues() if self.kind == "tissues" else self._known_tissues(options)
        means = torch.tensor([0.0, *(tissues[value.tissue] for value in settings.values)])
        jitter = torch.full((count,), options.value_jitter)
        known = self.kind != "tissues"
        around = [n for n, label in enumerate(settings.source_classes) if label == 0]
        jitter[around] = options.outside_jitter
        return means * (1 + jitter * draw.normal(count)) if known else means + options.value_jitter * draw.normal(count)

    def _known_tissues(self, options: SynthesisOptions) -> dict[str, float]:
        """Typical intensities, each a little different; those between two others stay between."""
        settings = self._settings
        typical = {name: tissue.intensity[self.kind] for name, tissue in settings.tissues.items()}
        most = max(typical[value.tissue] for value in settings.structures)
        result = {
            name: mean / most / SCALE * math.exp(options.tissue_jitter * float(self._draw.normal(1)))
            for name, mean in typical.items()
        }
        for name, tissue in settings.tissues.items():
            if tissue.between is not None:
                low, high = sorted(result[other] for other in tissue.between)
                result[name] = min(max(result[name], low), high)
        return result

    def _random_tissues(self) -> dict[str, float]:
        """Return a random intensity for every tissue."""
        result = {name: self._draw.uniform(0, 1) for name in self._settings.tissues}
        for name, tissue in self._settings.tissues.items():
            if tissue.between is not None:
                first, second = (result[other] for other in tissue.between)
                share = self._draw.span(tissue.share)
                result[name] = first * (1 - share) + second * share
        return result
