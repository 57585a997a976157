"""Weights files: verified before use, read without executing anything."""
