"""The parts of the module's window; each has its widgets of LightSeg.ui and reports the user's actions."""
