"""The HTTP API, one file for each group of routes.

A file exports `ROUTES`, and `routes(services)`, which gives each of them its handler; registry.py finds the files.
"""
