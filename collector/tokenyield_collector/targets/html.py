"""Text in HTML: what nobody would see is visible. Escaping itself is the template's, which escapes everything. Pure."""

from tokenyield_settings.visible import visible


def html_text(value: object) -> object:
    """For jinja's `finalize`. What is markup of the template itself stays, as do numbers."""
    return visible(value) if type(value) is str else value
