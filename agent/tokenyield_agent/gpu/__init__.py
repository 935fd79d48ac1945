"""What one GPU showed at one poll, and where that comes from."""
