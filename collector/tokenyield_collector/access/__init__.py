"""Nobody in who does not belong: who asks, what they may, how often, and what is written down of it."""
