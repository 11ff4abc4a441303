r"""Equations as MathML, made when the site is built: a reader's browser needs no script and no network.

``$...$`` and ``$$...$$`` in a page become what arithmatex marks as ``\(...\)`` and ``\[...\]``, and this turns it into
MathML. An unknown command of LaTeX is a warning, which ends a strict build.
"""

from __future__ import annotations

import html
import logging
import re
from typing import Any

from latex2mathml.converter import convert

log = logging.getLogger("mkdocs.hooks.equations")

MARKED = re.compile(r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<latex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL)
TAG = re.compile(r"\\tag\{([^}]*)\}")
NAME = re.compile(r"<mo>([A-Za-z]{2,})</mo>")  # as an operator it would be set apart from its argument
SPACED = re.compile(r"(?<!<msub>)<mi>(?:log|ln|cos|exp)</mi>(?!<mo[^>]*>&#x00028;)")
VARIANT = re.compile(r'<(?P<tag>mi|mn|mo) mathvariant="(?P<variant>[a-z-]+)">(?P<text>[^<]+)</(?P=tag)>')

# MathML Core knows one variant only ("normal"); the others are letters of their own in Unicode.
FIRST = {"double-struck": (0x1D538, 0x1D7D8), "script": (0x1D49C, None), "bold": (0x1D400, 0x1D7CE)}
HOLES = {"ℂ": 0x1D53A, "ℍ": 0x1D53F, "ℕ": 0x1D545, "ℙ": 0x1D547, "ℚ": 0x1D548, "ℝ": 0x1D549, "ℤ": 0x1D551}
HOLES |= {
    "ℬ": 0x1D49D,
    "ℰ": 0x1D4A0,
    "ℱ": 0x1D4A1,
    "ℋ": 0x1D4A3,
    "ℐ": 0x1D4A4,
    "ℒ": 0x1D4A7,
    "ℳ": 0x1D4A8,
    "ℛ": 0x1D4AD,
}
FILLED = {code: letter for letter, code in HOLES.items()}


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Every marked equation of a page as MathML."""
    return MARKED.sub(lambda found: mathml(found["latex"], found["tag"] == "div", page.file.src_uri), content)


def mathml(latex: str, block: bool, where: str) -> str:
    """One equation; ``where`` is named by the warning about what LaTeX has and MathML lacks."""
    text, number = _numbered(html.unescape(latex).strip())
    made = VARIANT.sub(_as_letters, convert(text, display="block" if block else "inline"))
    made = SPACED.sub(
        r"\g<0><mspace width='0.17em'/>", NAME.sub(r"<mi>\1</mi>", made).replace(r">\|</mo>", ">&#x02016;</mo>")
    )
    made = made.replace("<mo>/</mo>", '<mo lspace="0" rspace="0">/</mo>')
    made = made.replace("<mo>&#x02016;</mo>", '<mo stretchy="false" lspace="0" rspace="0">&#x02016;</mo>')
    if unknown := re.findall(r"\\[A-Za-z]+|<mi>&(?:amp;)?</mi>", made):
        log.warning("%s: %s in %r is not known to latex2mathml", where, ", ".join(unknown), text)
    spoken = html.escape(" ".join(text.split()), quote=True)
    made = made.replace("<math ", f'<math aria-label="{spoken}" ', 1)
    return f'<div class="equation">{made}{number}</div>' if block else made


def _numbered(latex: str) -> tuple[str, str]:
    """An equation without its ``\\tag``, and that as it stands beside it."""
    found = TAG.search(latex)
    if found is None:
        return latex, ""
    return TAG.sub("", latex).strip(), f'<span class="number">({found[1].replace("--", "–")})</span>'


def _as_letters(found: re.Match[str]) -> str:
    text = html.unescape(found["text"])
    shown = "".join(_letter(symbol, found["variant"]) for symbol in text)
    return f"<{found['tag']}>{shown}</{found['tag']}>"


def _letter(symbol: str, variant: str) -> str:
    letters, digits = FIRST.get(variant, (None, None))
    if letters and symbol.isascii() and symbol.isalpha():
        code = letters + ord(symbol.upper()) - ord("A") + (26 if symbol.islower() else 0)
        return FILLED.get(code, chr(code))
    return chr(digits + ord(symbol) - ord("0")) if digits and symbol.isdigit() else symbol
