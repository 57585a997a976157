"""Model cards: a model is data, one JSON file each."""
