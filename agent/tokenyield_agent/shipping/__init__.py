"""From windows to the collector: the spool on disk and what sends it."""
