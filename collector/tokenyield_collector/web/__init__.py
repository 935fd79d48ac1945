"""The page at `/`: files in static/, read once at start. It sends requests to the collector's own API only."""
