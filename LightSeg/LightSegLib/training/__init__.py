"""Training of LightSeg models on the same preprocessing that inference uses."""
