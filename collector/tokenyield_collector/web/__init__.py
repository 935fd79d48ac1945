"""The page at `/`: files in static/, read once at start. It asks the collector's own API and nothing else."""
