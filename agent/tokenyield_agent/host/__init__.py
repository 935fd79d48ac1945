"""What the host itself uses."""
