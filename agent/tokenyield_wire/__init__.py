"""The words both programs speak: units, the window of additive facts, and how a batch of them is written down."""
