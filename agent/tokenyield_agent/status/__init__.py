"""What the agent reports of itself: metrics, health, access to them."""
