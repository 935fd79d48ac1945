"""The daemon on a GPU host: readings and token events in, numbered batches of windows out."""
