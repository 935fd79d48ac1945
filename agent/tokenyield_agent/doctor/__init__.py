"""What the doctor looks at: the GPUs, the logs, the host; each yields findings."""
