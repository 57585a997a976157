"""What a clinician calls a structure that a model's authors call "kidney_right": "Right kidney".

The words stay where that can be read, so that a search for either finds the other.
"""

from __future__ import annotations

import re

SIDES = ("left", "right")
WORDS = {
    "autochthon": "autochthonous back muscle",
    "carpal": "carpal bones",
    "clavicula": "clavicle",
    "chord": "cord",
    "hip": "hip bone",
    "metacarpal": "metacarpal bones",
    "metatarsal": "metatarsal bones",
    "tarsal": "tarsal bones",
    "trunc": "trunk",
}
NAMES = {  # where no rule gives the usual name
    "Anomalies": "Anomalies",
    "BAT": "Brown adipose tissue",
    "CSF": "Cerebrospinal fluid",
    "CSFv": "Cerebrospinal fluid of the ventricles",
    "Accu": "Nucleus accumbens",
    "Amyg": "Amygdala",
    "Caud": "Caudate nucleus",
    "Dura": "Dura mater",
    "GM": "Gray matter",
    "Head": "Other tissue of the head",
    "HeartInside": "Heart, inside",
    "HeartOutside": "Heart, outside",
    "Hippo": "Hippocampus",
    "IVD": "Intervertebral discs",
    "Maxilla & Upper Skull": "Maxilla and upper skull",
    "InnerKidney": "Kidney, inside",
    "OuterKidney": "Kidney, outside",
    "Pal": "Globus pallidus",
    "Put": "Putamen",
    "Skull": "Skull",
    "Thal": "Thalamus",
    "WAT Subcutaneous": "Subcutaneous white adipose tissue",
    "WAT Visceral": "Visceral white adipose tissue",
    "WM": "White matter",
    "bone_other": "Other bones",
    "body_extremities": "Extremities of the body",
    "bowel_bag": "Bowel bag",
    "cerGM": "Cerebellar gray matter",
    "heart_myocardium": "Myocardium of heart",
    "hip_implant": "Hip implant",
    "liver_vessels": "Vessels of the liver",
    "lung_airways_wall": "Wall of the lung airways",
    "lung_pleural": "Lung (pleural)",
    "lung_trachea_bronchia": "Trachea and bronchi of the lung",
    "lung_vessels": "Vessels of the lung",
    "portal_splenic_vein": "Portal and splenic vein",
    "portal_vein_and_splenic_vein": "Portal vein and splenic vein",
    "sigmoid": "Sigmoid colon",
    "spinal_channel": "Spinal canal",
    "vascular": "Vessels",
    "vertebra_body": "Vertebral bodies",
    "vertebra_posterior_elements": "Posterior elements of vertebrae",
    "vertebrae_body": "Vertebral bodies",
}


def readable(name: str) -> str:
    """Return the usual English name of a structure."""
    if name in NAMES:
        return NAMES[name]
    words = [word for word in re.split(r"[_\s]+", name) if word]
    if match := re.fullmatch(r"fdi(\d+)", words[-1]):
        words[-1] = f"(FDI {match[1]})"
    sides = [word.lower() for word in words if word.lower() in SIDES]
    others = [word for word in words if word.lower() not in SIDES]
    if others[0] in ("lower", "upper") or len(sides) != 1:  # the names of teeth have their sides in the middle
        return _sentence([word if word in others else word.lower() for word in words])
    (side,) = sides
    if others[0] == "lung" and others[-1] == "lobe":
        return f"{others[1].capitalize()} lobe of {side} lung"
    if others[0] == "heart":
        return _sentence([side, *others[1:], "of heart"])
    if others[0] == "ventricle":
        return _sentence([side, "lateral ventricle,", *others[1:]])
    return _sentence([side, *others])


def _sentence(words: list[str]) -> str:
    """Return words as a name: in lower case but for the first letter, and for C1, T12 and the like."""
    if len(words) == 2 and words[0] in ("vertebrae", "vertebra") and re.fullmatch(r"[CTLS]\d+", words[1]):
        return f"Vertebra {words[1]}"
    kept = [word if re.search(r"\d|^[A-Z]{2,}$|^\(", word) else WORDS.get(word.lower(), word.lower()) for word in words]
    text = " ".join(kept).replace("iliac vena", "iliac vein")
    return text[0].upper() + text[1:]
