"""Whether a code can be one of SNOMED CT at all: the check of its last digit finds mistyped and invented ones."""

from __future__ import annotations

from LightSegLib.catalog.terminology import Code


def is_snomed(code: Code) -> bool:
    """Whether the last digit is the check digit of a concept's identifier (SNOMED CT release file specification:
    Verhoeff's dihedral check over all digits; '0' before it marks an international concept).
    """
    product, step = 0, list(range(10))
    for digit in reversed(code.value):
        product = dihedral(product, step[int(digit)])
        step = [step[n] for n in (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)]
    return 6 <= len(code.value) <= 18 and product == 0 and code.value[-3:-1] == "00"


def dihedral(a: int, b: int) -> int:
    """Product in the symmetry group of the pentagon: 0 to 4 are rotations, 5 to 9 reflections."""
    if a < 5:
        return (a + b) % 5 if b < 5 else (a + b) % 5 + 5
    return (a - b) % 5 + 5 if b < 5 else (a - b) % 5
