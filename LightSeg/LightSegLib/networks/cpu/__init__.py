"""Second forms of networks and modules that give the same numbers faster on a CPU."""
