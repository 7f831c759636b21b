"""The memory loop over the frames of a clip or a video."""
