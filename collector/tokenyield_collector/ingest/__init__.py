"""From a request's bytes to committed batches."""
