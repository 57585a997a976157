"""Results and training curves as pictures."""
