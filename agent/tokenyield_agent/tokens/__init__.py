"""Token events: which tokens were made, when, and how that is known."""
