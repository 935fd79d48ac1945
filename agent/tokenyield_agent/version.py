"""The version, kept here so that reading it costs no import of package metadata; a test holds it to pyproject.toml."""

VERSION = "0.1.0"
