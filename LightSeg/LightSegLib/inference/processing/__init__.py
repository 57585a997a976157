"""What happens to voxels before and after the network."""
