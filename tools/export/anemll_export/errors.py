"""The one error type that the command line shows without a traceback."""


class ExportError(Exception):
    """An export that cannot go on: says what failed, what was found and what to do."""
