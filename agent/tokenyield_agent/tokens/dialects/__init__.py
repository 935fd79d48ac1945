"""The log formats of inference servers, one file each."""
