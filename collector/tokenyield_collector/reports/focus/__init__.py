"""FOCUS datasets of a statement: columns by version, rows, prices of the price list, the invoice. https://focus.finops.org

Formats (reports/formats/focus*.py) write them. What each version asks for is held by tests/focus_rules.py.
"""
