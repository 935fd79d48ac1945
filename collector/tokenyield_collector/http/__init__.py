"""What HTTP answers share: problem documents for errors, and the shapes of all documents."""
