"""What runs inside of 3D Slicer alone: the window, the MRML scene, jobs beside the application."""
