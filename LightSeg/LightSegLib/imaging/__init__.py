"""Images and their geometry: volumes, readers, writers, regions of interest."""
