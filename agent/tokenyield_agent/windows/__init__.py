"""Readings and tokens into the additive facts of one window."""
