"""The demo: real collector and agent, in processes of their own, on recorded input where there is no GPU."""
