"""Devices, precisions and programs in which a network computes."""
