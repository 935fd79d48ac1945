"""What both programs share: units, the window of additive facts, and a batch of them as bytes."""
