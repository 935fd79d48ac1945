"""Reports: a period's statement as table, CSV, JSON, Parquet, HTML and FOCUS."""
