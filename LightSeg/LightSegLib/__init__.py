"""LightSeg's library: lightweight 3D segmentation without 3D Slicer, on torch, numpy, scipy and SimpleITK."""

__version__ = "0.2.0"
