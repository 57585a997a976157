"""Images synthesized from label maps: any contrast, resolution and pose, for training without images."""
