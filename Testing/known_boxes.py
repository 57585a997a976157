"""The answer that the tests' segmenter gives: two boxes of labels, and a third label that it does not find."""

from __future__ import annotations

from LightSegLib.catalog.card import Label
from LightSegLib.catalog.terminology import Code, Terminology

SHAPE = (12, 14, 16)  # k, j, i
BOXES = {1: ((2, 5), (3, 9), (4, 12)), 2: ((6, 10), (1, 4), (0, 16))}  # label: first and one past last of k, j, i

ANATOMY = Code("SCT", "123037004", "Anatomical Structure")
HIPPOCAMPUS = Code("SCT", "5366008", "Hippocampus")
ANTERIOR = Code("SCT", "255549009", "Anterior")
POSTERIOR = Code("SCT", "255551008", "Posterior")
LABELS = (
    Label(1, "Anterior hippocampus", (70, 180, 220), Terminology(ANATOMY, HIPPOCAMPUS, ANTERIOR)),
    Label(2, "Posterior hippocampus", (240, 150, 60), Terminology(ANATOMY, HIPPOCAMPUS, POSTERIOR)),
    Label(3, "CSF", (10, 20, 30)),
)
