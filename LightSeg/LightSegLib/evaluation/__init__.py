"""How good and how fast: agreement with expert labels, a result computed again, speed and memory."""
