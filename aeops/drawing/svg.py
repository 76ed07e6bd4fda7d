"""Figures inside a page: SVG files made part of the HTML, so that they load nothing and follow the page's theme."""

import re

from markupsafe import Markup, escape

from aeops.drawing.palette import THEME

NOT_FOR_HTML = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>|\sxmlns(?::\w+)?=\"[^\"]*\"", re.DOTALL)
SIZE = re.compile(r'\swidth="([\d.]+)pt" height="[\d.]+pt"')
REFERENCE = re.compile(r'(?:href="#|url\(#)([^")]+)')
NATURAL = 4 / 3  # CSS pixels in a point: a figure shrinks on a narrow page and does not grow on a wide one
IDENTITY = re.compile(r'\sid="([^"]*)"')


def inline(svg: str, name: str, alt: str) -> Markup:
    """A figure as an element of a page.

    Args:
        svg: the file, as the evaluation draws it.
        name: unique in the page: it keeps the ids of one figure apart from those of another.
        alt: what the figure shows, for those who cannot see it.

    Returns:
        The SVG without what only a file needs, as wide as its place allows, its colours as the page's variables.
    """
    body = NOT_FOR_HTML.sub("", svg[svg.index("<svg") :])
    body = own_ids(body, name)
    for colour, (word, _) in THEME.items():
        body = body.replace(colour, f"var(--{word})")
    head = f' role="img" aria-label="{escape(alt)}" style="max-width:'
    body = SIZE.sub(lambda found: f'{head}{float(found[1]) * NATURAL:.0f}px"', body, count=1)
    return Markup(body)  # our own drawing, its texts escaped by matplotlib


def own_ids(svg: str, name: str) -> str:
    """The figure with ids that no other figure has, and only those that something in it refers to."""
    used = set(REFERENCE.findall(svg))
    svg = IDENTITY.sub(lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", svg)
    return REFERENCE.sub(lambda found: found[0].replace("#", f"#{name}-"), svg)


def theme_css() -> Markup:
    """The palette as CSS variables, for light pages and for dark ones."""
    bright = ";".join(f"--{word}:{colour}" for colour, (word, _) in THEME.items())
    night = ";".join(f"--{word}:{dark}" for word, dark in THEME.values())
    return Markup(f":root{{{bright}}}@media (prefers-color-scheme:dark){{:root{{{night}}}}}")
