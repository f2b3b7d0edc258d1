"""Page docs/results.html: the text of docs/results.md with its pictures, in one file.

The text is rendered by markdown-it. Pictures are set into the page, tables can be sorted, and words
of the glossary show their meaning. The page asks for no other file and for no network.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from patchscale.report.glossary import TERMS, Term

STYLE = Path(__file__).with_name("page.css")
SCRIPT = Path(__file__).with_name("page.js")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""Content security policy: whatever the page holds, it loads nothing."""
SCROLLED = '<div class="scroll" tabindex="0"><table>\n'
GLOSSARY = "Glossary"
NAMES = {f"term{number}": term for number, term in enumerate(TERMS)}
COLOUR = re.compile(r"(?:fill|stroke): #\w+;? ?")
ANY = "|".join(f"(?P<{name}>{term.pattern})" for name, term in NAMES.items())
WORDS = re.compile(rf"(?<![\w-])(?:{ANY})(?![\w-])", re.IGNORECASE)


def web_page(text: str, pictures: Mapping[str, str]) -> str:
    """Return the page.

    Parameters
    ----------
    text
        Text of docs/results.md.
    pictures
        For each figure that the text shows the content of its SVG file, by the file's name.
    """
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    tokens = parser.parse(text)
    contents = _arrange(tokens)

    def picture(_: Any, row: Sequence[Token], at: int, *__: Any) -> str:
        name = Path(str(row[at].attrGet("src"))).stem
        return inlined(pictures[name], name, row[at].content)

    parser.add_render_rule("image", picture)
    parser.add_render_rule("table_open", lambda *_: SCROLLED)
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    body = parser.renderer.render(tokens, parser.options, {})
    links = "".join(f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title in contents)
    title = escape(tokens[1].content)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{title} of patchscale</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<nav aria-label="Contents">{links}<a href="#{_slug(GLOSSARY)}">{GLOSSARY}</a></nav>
<main>
{body}{_glossary()}</main>
<script>
{SCRIPT.read_text(encoding="utf-8")}</script>
</body>
</html>
"""


def _arrange(tokens: list[Token]) -> list[tuple[str, str]]:
    """Prepare blocks for the page and return the anchors and titles of its sections."""
    contents = []
    for block, inside, end in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if block.type == "heading_open" and block.tag == "h2":
            contents.append((_slug(inside.content), inside.content))
            block.attrSet("id", _slug(inside.content))
        elif block.type in ("paragraph_open", "th_open") and inside.children:
            if [child.type for child in inside.children] == ["image"]:
                block.tag = end.tag = "figure"
            else:
                inside.children = _explained(inside.children, link=block.type != "th_open")
    return contents


def _explained(children: Sequence[Token], link: bool) -> list[Token]:
    """Return inline tokens in which the first use of every word has its meaning."""
    used: set[str] = set()
    found: list[Token] = []
    for child in children:
        if child.type != "text":
            found.append(child)
            continue
        at = 0
        for match in WORDS.finditer(child.content):
            term = NAMES[match.lastgroup or ""]
            if term.name in used:
                continue
            used.add(term.name)
            found.append(Token("text", "", 0, content=child.content[at : match.start()]))
            found.append(Token("html_inline", "", 0, content=_word(match[0], term, link)))
            at = match.end()
        found.append(Token("text", "", 0, content=child.content[at:]))
    return found


def _word(word: str, term: Term, link: bool) -> str:
    shown = f'<abbr title="{escape(term.meaning)}">{escape(word)}</abbr>'
    return f'<a class="term" href="#{term.anchor}">{shown}</a>' if link else shown


def inlined(svg: str, name: str, alternative: str) -> str:
    """Return a picture to be set into a page: with identifiers and a width of its own.

    Parameters
    ----------
    svg
        Content of the SVG file.
    name
        Name of the picture, unique on the page.
    alternative
        Its alternative text.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = svg.replace("; stroke-linejoin: miter", "").replace("; stroke-linecap: square", "")
    # a mark takes its colour where it is used, which a style sheet can reach
    svg = re.sub(r"<defs>.*?</defs>", lambda part: COLOUR.sub("", part[0]), svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', rf'id="{name}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    head, rest = svg.split(">", 1)
    width = float(re.search(r'\swidth="([\d.]+)pt"', head)[1])  # type: ignore[index]
    head = re.sub(r'\s(?:width|height|version|xmlns(?::\w+)?)="[^"]*"', "", head)
    head += f' class="plot" aria-label="{escape(alternative)}" style="max-width: {width:g}pt"'
    return f"{head}>{rest.strip()}"


def _glossary() -> str:
    rows = "".join(
        f'<dt id="{term.anchor}"><dfn>{escape(term.name)}</dfn></dt>\n'
        f"<dd>{escape(term.meaning)}</dd>\n"
        for term in TERMS
    )
    return f'<h2 id="{_slug(GLOSSARY)}">{GLOSSARY}</h2>\n<dl>\n{rows}</dl>\n'


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
