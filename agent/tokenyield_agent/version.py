"""The version, kept here so that reading it costs no import of package metadata; a test keeps it pyproject.toml's."""

VERSION = "0.1.0"
