"""A folder into which files of spend are put: each is imported once, when it is complete."""
