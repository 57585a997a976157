"""Structures by their names: the standard terms and colors that the classes of the large model families get.

`Testing/Data/class_names.json` has these classes as the families write them, with each family's source; those of the
cards that ship come to them, so that a new release is counted, too.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from LightSegLib.catalog import anatomy
from LightSegLib.catalog.anatomy import (
    Color,
    Structure,
    generic_color,
    look_up,
    may_have_side,
    structure_key,
    structures,
)
from LightSegLib.catalog.card import Label
from LightSegLib.catalog.families import family_cards
from LightSegLib.catalog.sides import sided
from LightSegLib.catalog.terminology import Code, Terminology, terminology_entry
from pydicom.sr.codedict import codes as dicom
from snomed import is_snomed

FAMILIES = json.loads((Path(__file__).parents[2] / "Data" / "class_names.json").read_text(encoding="utf-8"))
for card in family_cards():
    names = [label.original or label.name for label in card.labels]
    FAMILIES[card.family]["models"].setdefault(f"card {card.id}", names)
LINES = {line.name: line for line in structures()}
ORDINALS = [number.capitalize() for number in anatomy.NUMBERS[:12]]

# No public table has a code for these, or they are several structures in one. A release that adds names adds them
# here or to anatomy.csv; whoever finds a code removes one.
WITHOUT_CODE = {
    "TotalSegmentator": {
        "quadratus_lumborum_left",
        "quadratus_lumborum_right",
        "left_mandibular_incisive_canal_fdi103",
        "right_mandibular_incisive_canal_fdi104",
        "lingual_canal",
    },
    "MONAI Auto3DSeg": {"Extra-Axial_Haemorrhage"},
    "MOOSE": {
        "body",  # the trunk there, the whole body elsewhere; the rest is of mice
        *("HeartInside", "HeartOutside", "InnerKidney", "OuterKidney", "BAT"),
        *("WAT Subcutaneous", "WAT Visceral"),
        *("Muscle BB", "Muscle BF", "Muscle TB", "Muscle TF", "left_leg_muscle", "right_leg_muscle"),
    },
    "CADS": {"spongy bone", "Spongy bone"},
    "MRSegmentator": set(),
    "VIBESegmentator": {"inner_fat", "vertebra_posterior_elements"},
    "DentalSegmentator": {"Maxilla & Upper Skull"},
    "SIAM": set(),
    "HD-BET": set(),
    "UpperAirwaySegmentator": set(),
}


def names_of(family: str) -> set[str]:
    return {name for names in FAMILIES[family]["models"].values() for name in names}


ALL_NAMES = sorted(set().union(*map(names_of, FAMILIES)))


def codes_of(terms: Terminology) -> Iterator[Code]:
    return filter(None, (getattr(terms, field.name) for field in dataclasses.fields(terms)))


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Right kidney", "kidney_right", "right_kidney", "KIDNEY R", "right-kidney"])
def test_a_structure_is_known_however_a_data_set_writes_it(name: str) -> None:
    """Expected: what 3D Slicer's own list has for the right kidney."""
    terminology, color = look_up(name)
    assert terminology is not None and color == (185, 102, 83)
    assert terminology_entry(terminology) == (
        "Segmentation category and type - DICOM master list~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney"
        "~SCT^24028007^Right~Anatomic codes - DICOM master list~^^~^^"
    )


@pytest.mark.parametrize(
    ("names", "code", "side"),
    [
        (("vertebrae_T12", "vertebra_T12", "T12 vertebra", "Vertebra T12"), "23215003", None),
        (("rib_left_3", "Left Third rib", "Rib L 3", "left 3rd rib"), "25888004", "Left"),
        (("lung_upper_lobe_left", "Left Upper lobe of lung", "Upper lobe of lung L"), "45653009", "Left"),
        (("lung_middle_lobe_right", "Middle lobe of right lung", "Middle lobe of lung R"), "72481006", None),
        (("autochthon_left", "left_autochthonous_muscle", "Deep muscle of back L"), "244849004", "Left"),
        (("gluteus_medius_right", "Right Gluteus medius muscle", "Gluteus medius muscle R"), "78333006", "Right"),
        (("heart_atrium_left", "Left atrium", "Atrium L", "LA"), "82471001", None),
        (("lower_left_first_molar_fdi36", "Lower left first molar (FDI 36)"), "866006002", None),
        (("thyroid_left", "Left thyroid gland"), "69748006", "Left"),
        (("OAR_OpticNrv_L", "optic_nerve_left"), "18234004", "Left"),
        (("OAR_Eye_PR", "Posterior eyeball segment R"), "280659009", "Right"),
        (("Intraventricular_Haemorrhage", "Hemorrhage in Ventricular system of brain"), "50960005", None),
    ],
)
def test_the_same_structure_of_several_families_has_the_same_terms(
    names: tuple[str, ...], code: str, side: str | None
) -> None:
    """Expected: codes of DICOM PS3.16 (CID 4018 for the tooth), TotalSegmentator's table and the eHDSI body sites."""
    first, *others = map(look_up, names)
    terms = first[0]
    assert terms is not None and all(other == first for other in others)
    assert (terms.type.value, terms.modifier and terms.modifier.meaning) == (code, side)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_names_of_a_family_that_have_no_code_are_counted(family: str) -> None:
    assert {name for name in names_of(family) if look_up(name)[0] is None} == WITHOUT_CODE[family]


def test_the_families_are_complete() -> None:
    """As many as the projects' own label maps have; MOOSE's table lacks 23 names of its cards, most of
    them of mice; CADS publishes two spellings of each of its 167 names.
    """
    counted = [len(names_of(family)) for family in ("TotalSegmentator", "MONAI Auto3DSeg", "MOOSE", "CADS")]
    assert counted == [351, 160, 145 + 23, 2 * 167]
    assert [len(names_of(family)) for family in ("MRSegmentator", "VIBESegmentator", "SIAM")] == [40, 71, 17]


def test_no_name_means_two_structures() -> None:
    seen: dict[frozenset[str], str] = {}
    for line in structures():
        for name in line.names():
            assert seen.setdefault(anatomy._key(name), line.name) == line.name, name
    assert len(LINES) == len(structures()) > 350


def test_names_of_a_line_are_one_structure_and_no_two_lines_are() -> None:
    """Also where two lines have the same codes: no table has one for an enhancing tumor or for a dental crown."""
    keys = {line.name: structure_key(line.name) for line in structures()}
    assert len(set(keys.values())) == len(structures())
    for line in structures():
        assert {structure_key(name) for name in line.names()} == {keys[line.name]}
        if line.sides:
            sides = {structure_key(f"{side}{line.name}") for side in ("", "Left ", "Right ")}
            assert len(sides) == 3 and sides & set(keys.values()) == {keys[line.name]}
    assert look_up("Enhancing tumor")[0] == look_up("Non-enhancing tumor")[0]
    assert structure_key("kidney_l") == structure_key("Left kidney") == structure_key("KIDNEY LEFT")


# --- sides ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Kidney", True),
        ("Kidney cyst", True),
        ("Anterior hippocampus", True),
        ("Something that nobody has listed", True),
        ("Left kidney", False),
        ("kidney_R", False),
        ("Right something that nobody has listed", False),
        ("Liver", False),
        ("Cyst", False),
        ("Thyroid", False),
        ("Myocardium", False),
    ],
)
def test_a_side_is_possible_for_what_is_paired_and_does_not_state_it(name, expected):
    assert may_have_side(name, look_up(name)[0]) is expected


def test_right_and_left_differ_and_neither_is_guessed() -> None:
    sides = {name: look_up(name)[0] for name in ("kidney", "left kidney", "right kidney")}
    modifiers = [terms.modifier and terms.modifier.value for terms in sides.values() if terms]
    assert modifiers == [None, "7771000", "24028007"]


def test_terms_state_a_side_where_the_name_does_and_nowhere_else() -> None:
    """By a modifier, or by the meaning of a code ("Left atrium")."""
    for name in ALL_NAMES:
        terms, _ = look_up(name)
        if terms is None:
            continue
        words = {word.lower() for code in codes_of(terms) for word in code.meaning.split()}
        assert words & {"left", "right"} == anatomy._key(name) & {"left", "right"}, name


@pytest.mark.parametrize("name", ["kidney_cyst_left", "Cyst in Left Kidney"])
def test_the_side_of_a_lesion_is_that_of_its_organ(name: str) -> None:
    terms, color = look_up(name)
    assert terms is not None and terms.modifier is None
    assert (terms.region, terms.region_modifier) == (Code("SCT", "64033007", "Kidney"), anatomy.SIDE_CODES["left"])
    plain, _ = look_up("Kidney cyst")
    assert sided(Label(1, "Kidney cyst", color, plain), "left").terminology == terms, "a side that is found later"


def test_a_tumor_states_in_which_organ() -> None:
    terminology, _ = look_up("lung tumor")
    assert terminology is not None and terminology.region is not None
    assert (terminology.type.value, terminology.region.value) == ("108369006", "39607008")


# --- codes ---------------------------------------------------------------------------------------


def test_codes_can_be_codes_of_their_scheme_and_each_has_one_meaning() -> None:
    """Two structures lack a code in SNOMED CT: DICOM (context group 7140) and NeuroNames have them."""
    meanings: dict[str, str] = {}
    own = {code for table in (anatomy.CATEGORIES, anatomy.SIDE_CODES, anatomy.MODIFIERS) for code in table.values()}
    for code in {line.type for line in structures()} | own:
        known = {("DCM", "110700"), ("NEU", "217")}
        assert is_snomed(code) if code.scheme == "SCT" else (code.scheme, code.value) in known, code
        assert meanings.setdefault(code.value, code.meaning) == code.meaning
    assert len(set(meanings.values())) == len(meanings), "and each meaning one code"


@pytest.mark.parametrize(
    "code",
    [
        Code("SCT", "10200003", "one digit mistyped"),
        Code("SCT", "12002004", "two digits exchanged"),
        Code("SCT", "77634003", "in a public table, though no concept of SNOMED CT"),
    ],
)
def test_a_code_that_is_none_is_found(code: Code) -> None:
    assert not is_snomed(code) and is_snomed(Code("SCT", "10200004", "Liver"))


def test_codes_that_the_table_says_are_of_dicom_are_in_its_dictionary() -> None:
    """pydicom's dictionary is made from the standard's PS3.16; the letters are explained in terminology.md."""
    known = {(scheme, code.value) for scheme in ("SCT", "DCM") for code in getattr(dicom, scheme).concepts.values()}
    for line in structures():
        assert ((line.type.scheme, line.type.value) in known) == (line.source == "D"), line
    assert all((code.scheme, code.value) in known for code in anatomy.CATEGORIES.values())
    sources = Counter(line.source for line in structures())
    assert sources == {"D": 271, "E": 71, "T": 25, "U": 11, "A": 3, "M": 2, "N": 1}


def test_lines_are_complete() -> None:
    for line in structures():
        assert line.category in anatomy.CATEGORIES and line.modifier in ("", *anatomy.MODIFIERS)
        assert line.sides in ("", "pair", "halves") and line.region in ("", *LINES)
        if line.region:
            terms, _ = look_up(line.name)
            assert terms is not None and terms.region == LINES[line.region].type
        if line.category == "altered" and any(part in line.name.lower() for part in ("brain", "liver", "kidney")):
            assert line.region, f"{line.name} is somewhere"


def test_the_table_is_read_once_when_it_is_needed_and_at_once() -> None:
    look = "import sys; from LightSegLib.catalog import anatomy; sys.exit(anatomy._lines.cache_info().currsize)"
    folder = Path(anatomy.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", look], cwd=folder, check=False).returncode == 0
    seconds = []
    for _ in range(5):
        anatomy.structures.cache_clear()
        anatomy._lines.cache_clear()
        start = time.process_time()
        look_up("liver")
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.02


# --- colors --------------------------------------------------------------------------------------


def distance(one: Color, other: Color) -> float:
    """Distance of two sRGB colors in CIELAB (CIE 1976, D65); about 2 is just noticeable."""
    return math.dist(lab(one), lab(other))


def lab(color: Color) -> list[float]:
    """Return a color of sRGB (IEC 61966-2-1) in CIELAB."""
    part = np.array(color) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    xyz = xyz / (0.9505, 1.0, 1.089)
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return [float(116 * y - 16), float(500 * (x - y)), float(200 * (y - z))]


def test_the_distance_of_colors_is_that_of_the_standard() -> None:
    """White is L* 100, a mid gray of 119 L* 50; red is (53.2, 80.1, 67.2)."""
    assert lab((255, 255, 255)) == pytest.approx([100, 0, 0], abs=0.1)
    assert lab((119, 119, 119)) == pytest.approx([50, 0, 0], abs=0.1)
    assert lab((255, 0, 0)) == pytest.approx([53.2, 80.1, 67.2], abs=0.1)


def rows() -> Iterator[list[str]]:
    """Structures in a row, each beside the next."""
    vertebrae = [f"{part}{n}" for part, count in (("C", 7), ("T", 12), ("L", 5)) for n in range(1, count + 1)]
    yield [*(f"{level} vertebra" for level in vertebrae), "Sacrum"]
    yield [f"{number} rib" for number in ORDINALS]
    kinds = ["central incisor", "lateral incisor", "canine", "first premolar", "second premolar"]
    kinds += ["first molar", "second molar", "third molar"]
    for jaw in ("Upper", "Lower"):
        arch = [f"{jaw} right {kind}" for kind in reversed(kinds)] + [f"{jaw} left {kind}" for kind in kinds]
        yield arch
        yield from ([tooth, f"{tooth} pulp"] for tooth in arch)


TOUCHING = (
    ("Upper lobe of lung", "Middle lobe of right lung", "Lower lobe of lung"),
    ("Caudate lobe of liver", *(f"Liver segment {n}" for n in range(2, 9))),
    ("Left ventricle", "Right ventricle", "Left atrium", "Right atrium", "Myocardium"),
    ("Liver", "Stomach"),
    ("Liver", "Gallbladder"),
    ("Kidney", "Adrenal gland"),
    ("Pancreas", "Duodenum"),
    ("Colon", "Small intestine"),
    ("Rectum", "Prostate", "Urinary bladder"),
    ("Aorta", "Inferior vena cava"),
    ("Hip", "Sacrum"),
    ("Hip", "Femur"),
    ("Skull", "Mandible"),
    ("Gluteus maximus muscle", "Gluteus medius muscle", "Gluteus minimus muscle"),
    ("Rectus abdominis muscle", "External oblique muscle of abdomen", "Internal oblique muscle of abdomen"),
    ("Scalenus anterior muscle", "Scalenus medius muscle", "Scalenus posterior muscle"),
    ("Lateral pterygoid muscle", "Medial pterygoid muscle"),
    ("Anterior horn of lateral ventricle", "Body of lateral ventricle", "Collateral trigone"),
    ("Third ventricle", "Fourth ventricle"),
)


def test_neighbors_have_colors_far_apart() -> None:
    pairs = [pair for row in rows() for pair in itertools.pairwise(row)]
    pairs += [pair for group in TOUCHING for pair in itertools.combinations(group, 2)]
    pairs += [(f"{name} vertebra", "Intervertebral disc") for name in ("C4", "T6", "L3")]
    for one, other in pairs:
        assert distance(LINES[one].rgb, LINES[other].rgb) > 25, (one, other)
    assert len(pairs) > 150


def known(names: list[str]) -> dict[str, Structure]:
    """Return the lines of a model's names, those of both sides once."""
    keys = (anatomy._key(name) for name in names)
    lines = (anatomy._lines().get(key) or anatomy._lines().get(key - {"left", "right"}) for key in keys)
    return {line.name: line for line in lines if line is not None}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_two_structures_of_a_model_look_the_same(family: str) -> None:
    for model, names in FAMILIES[family]["models"].items():
        for one, other in itertools.combinations(known(names).values(), 2):
            assert distance(one.rgb, other.rgb) > 7, (model, one.name, other.name)


def test_names_that_are_unknown_get_stable_colors_that_distinguish_them() -> None:
    colors = [look_up(f"structure {value}", value) for value in range(1, 31)]
    assert all(terminology is None for terminology, _ in colors)
    assert colors[4][1] == generic_color(5) == look_up("anything else", 5)[1]
    for (_, one), (_, other) in itertools.combinations(colors[:10], 2):
        assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) > 50
    assert len({color for _, color in colors}) == 30


def test_the_table_is_what_a_spreadsheet_would_write() -> None:
    """So that a line can be added with any editor, and a difference shows lines that changed and no others."""
    text = Path(anatomy.__file__).with_name("anatomy.csv").read_text(encoding="utf-8")
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([Structure._fields, *structures()])
    assert text == written.getvalue()
