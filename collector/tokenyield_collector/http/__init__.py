"""What every HTTP answer shares: problems and the shapes of documents."""
