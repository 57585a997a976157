"""From volumes to labels."""
