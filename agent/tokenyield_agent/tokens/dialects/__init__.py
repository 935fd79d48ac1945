"""What each inference server and gateway reports and how it is read: one file each, found by registry.py."""
