"""runbooks.md as one HTML page, each alert at `#its-name-in-small-letters`, to which the alerts lead. Pure.

Of Markdown it reads what that file uses: headings, paragraphs, `code`, *emphasis*; a test checks that there is no more.
"""

import re
from collections.abc import Iterator
from html import escape

_CODE_OR_EMPHASIS = re.compile(r"`([^`]+)`|\*([^*]+)\*")
_ALERT = re.compile(r"Tokenyield\w+")


def runbooks_page(markdown: str) -> str:
    body = "\n".join(_blocks(markdown))
    head = '<head><meta charset="utf-8"><title>Runbooks</title></head>'
    return f'<!DOCTYPE html>\n<html lang="en">\n{head}\n<body>\n{body}\n</body>\n</html>\n'


def _blocks(markdown: str) -> Iterator[str]:
    paragraph: list[str] = []
    for line in [*markdown.splitlines(), ""]:
        heading = re.fullmatch(r"(#+) (.*)", line)
        if (heading or not line) and paragraph:
            yield f"<p>{_inline(' '.join(paragraph))}</p>"
            paragraph = []
        if heading:
            level, title = len(heading[1]), escape(heading[2])
            yield f'<h{level} id="{title.lower()}">{title}</h{level}>'
        elif line:
            paragraph.append(line)


def _inline(text: str) -> str:
    out, end = [], 0
    for match in _CODE_OR_EMPHASIS.finditer(text):
        out.append(_linked(text[end : match.start()]))
        out.append(f"<code>{escape(match[1])}</code>" if match[1] else f"<em>{escape(match[2])}</em>")
        end = match.end()
    return "".join([*out, _linked(text[end:])])


def _linked(text: str) -> str:
    """With the names of other alerts as links."""
    return _ALERT.sub(lambda match: f'<a href="#{match[0].lower()}">{match[0]}</a>', escape(text))
