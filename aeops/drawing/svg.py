"""Inline SVG figures: part of the HTML, so that they load no file and follow the page's theme."""

import re

from markupsafe import Markup, escape

from aeops.drawing.palette import THEME_COLOURS

NOT_FOR_HTML = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>|\sxmlns(?::\w+)?=\"[^\"]*\"", re.DOTALL)
SIZE_ATTRIBUTES = re.compile(r'\swidth="([\d.]+)pt" height="[\d.]+pt"')
ID_REFERENCE = re.compile(r'(?:href="#|url\(#)([^")]+)')
PIXELS_PER_POINT = 4 / 3  # CSS pixels: a figure shrinks on a narrow page and does not grow on a wide one
ID_ATTRIBUTE = re.compile(r'\sid="([^"]*)"')


def inline_svg(svg: str, name: str, alt_text: str) -> Markup:
    """Return a figure as an element of a page.

    Args:
        svg: content of the SVG file.
        name: unique in the page; the figure's ids begin with it.
        alt_text: description of the figure for screen readers.

    Returns:
        The SVG without the parts that only a file needs, at most as wide as its column, with the page's variables as colours.
    """
    body = NOT_FOR_HTML.sub("", svg[svg.index("<svg") :])
    body = _prefix_ids(body, name)
    for colour, (variable, _) in THEME_COLOURS.items():
        body = body.replace(colour, f"var(--{variable})")
    head = f' role="img" aria-label="{escape(alt_text)}" style="max-width:'
    body = SIZE_ATTRIBUTES.sub(lambda match: f'{head}{float(match[1]) * PIXELS_PER_POINT:.0f}px"', body, count=1)
    return Markup(body)  # our own drawing, its texts escaped by matplotlib


def _prefix_ids(svg: str, name: str) -> str:
    """Put `name` before each id that is referred to, and remove the other ids."""
    referenced_ids = set(ID_REFERENCE.findall(svg))

    def rename_id(match: re.Match[str]) -> str:
        if match[1] not in referenced_ids:
            return ""
        return f' id="{name}-{match[1]}"'

    svg = ID_ATTRIBUTE.sub(rename_id, svg)
    return ID_REFERENCE.sub(lambda match: match[0].replace("#", f"#{name}-"), svg)


def theme_css() -> Markup:
    """Return the palette as CSS variables, for light and for dark pages."""
    light_rules = []
    dark_rules = []
    for light_colour, (variable, dark_colour) in THEME_COLOURS.items():
        light_rules.append(f"--{variable}:{light_colour}")
        dark_rules.append(f"--{variable}:{dark_colour}")
    dark_css = f"@media (prefers-color-scheme:dark){{:root{{{';'.join(dark_rules)}}}}}"
    return Markup(f":root{{{';'.join(light_rules)}}}{dark_css}")
