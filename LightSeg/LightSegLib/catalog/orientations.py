"""The orientations that a card, an option or an import may ask for: world directions of the axes i, j, k."""

from __future__ import annotations

from itertools import permutations, product

AS_STORED = "input"  # the axes of the file
ORIENTATIONS = (
    AS_STORED,
    *("".join(letters) for axes in permutations(("RL", "AP", "SI")) for letters in product(*axes)),
)
