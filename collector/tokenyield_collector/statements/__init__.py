"""Statements: a period's full cost, line by line."""
