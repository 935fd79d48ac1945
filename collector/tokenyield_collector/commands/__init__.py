"""The commands of `tokenyield-collector`, one file each.

A command's file exports `HELP` (one line), `EXAMPLE` (a call), `add_flags(parser)` and `run(arguments)`, which returns
the exit code. It imports what it needs inside `run`, so that no command pays for another's imports. `run` may raise
`ParameterError`, `LedgerError` and OSError; cli.py reports them.
"""
