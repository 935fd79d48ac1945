"""Text that others chose (names, above all), neutralized for where it is shown: one file a target.

Label values of metrics are neutralized in metrics/labelled.py (the agent's in status/exposition.py), lines of commands
and of logs by tokenyield_settings/visible.py, because the agent has these too; the page has static/js/dom.js. JSON and
Parquet carry names as they are.
"""
