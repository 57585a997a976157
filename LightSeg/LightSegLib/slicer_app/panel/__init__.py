"""The parts of the module's window; each has its widgets of LightSeg.ui and tells the window what the user did."""
