"""The durable store of windows and hours, behind one protocol."""
