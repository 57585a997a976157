"""DICOM: which files are one volume, in what order, at what place, and with which values."""
