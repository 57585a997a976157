"""nnU-Net v2's own files, plans.json, dataset.json and checkpoints, as fields of a card."""
