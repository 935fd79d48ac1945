"""Spend: what is bought instead of made (tokens of vendors, coding agents, seats), as slices of days. Pure."""
