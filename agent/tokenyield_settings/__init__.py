"""How both programs read their settings: file, then environment, then flags; all faults at once."""
