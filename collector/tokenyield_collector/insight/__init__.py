"""What is said about costs beyond a report: why two periods differ."""
