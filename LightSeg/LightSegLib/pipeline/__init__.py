"""From volumes to labels: preprocess, sliding window, restore."""
