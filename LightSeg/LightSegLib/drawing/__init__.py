"""Pictures made of numbers alone: slices, text, charts. `pictures.py` adds what needs VTK."""
