"""What logs of DNS and proxies, and variables of pods, show of vendors being used: evidence, and never an amount."""
