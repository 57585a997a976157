"""The sentence for a paper."""

from __future__ import annotations

from LightSegLib.inference.methods import methods_sentence

PROVENANCE = {
    "model": "liver-ct",
    "version": "2.1",
    "weights_sha256": "0123456789abcdef" * 4,
    "lightseg": "0.1.0",
    "computed_in": "float32",
    "settings": {"precision": "auto", "mirror": False, "largest_component": "none"},
    "citation": "Nobody et al. (2026).",
}


def test_it_names_structures_model_version_weights_and_citation() -> None:
    assert methods_sentence(PROVENANCE, ["Liver", "Right kidney", "IVC"]) == (
        "Liver, right kidney and IVC were segmented automatically with LightSeg 0.1.0 in 3D Slicer "
        "(model liver-ct, version 2.1, weights SHA-256 0123456789ab, computed in float32). Nobody et al. (2026)."
    )


def test_settings_that_change_the_result_are_named() -> None:
    sentence = methods_sentence(PROVENANCE | {"computed_in": "bfloat16", "settings": {"mirror": True}}, ["Liver"])
    assert sentence.startswith("Liver was segmented")
    assert "0123456789ab, computed in bfloat16 and averaged over mirror images)" in sentence
