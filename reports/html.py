"""The page: all tables, figures and cells in one HTML file that works offline."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any, ClassVar

import pandas as pd

from unlearnable_bench import Report
from unlearnable_bench.options import option
from unlearnable_bench.reports._page import page_data

# In order of dependence: each script uses the ones above it.
_SCRIPTS = ("state.js", "cells.js", "tables.js", "panel.js", "page.js")
# Escapes with which JSON cannot end an element or start a comment.
_HARMLESS = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


@dataclass(frozen=True, kw_only=True)
class Page(Report):
    """One self-contained HTML page: sortable tables, filters, figures and the origin of cells."""

    suffix: ClassVar[str] = ".html"
    stem: ClassVar[str] = "page"

    title: str = option("", "title of the page; default: the data sets")
    aliases: str = option("", "names to print instead of labels, e.g. sem=Ours,em=EM*")

    def render(self, frame: pd.DataFrame) -> str:
        """Return the file's text.

        Raises:
            UserError: invalid aliases.
        """
        data = page_data(frame, self.aliases)
        datasets = [data["names"][label] for label in dict.fromkeys(frame["dataset"])]
        title = self.title or f"Unlearnable examples on {', '.join(datasets)}"
        return assembled(title, data)


def assembled(title: str, data: dict[str, Any]) -> str:
    """Return the page as one file that loads nothing else and runs only its own script.

    Args:
        title: title of the page.
        data: from `page_data`.
    """
    style = _asset("page.css")
    script = "".join(_asset(name) for name in _SCRIPTS)
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    text = json.dumps(
        data | {"title": title}, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    parts = {
        "policy": policy,
        "title": escape(title),
        "style": style,
        "script": script,
        "data": text.translate(_HARMLESS),
    }
    # In a single pass, because inserted text may contain placeholders.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return (resources.files(__package__) / "page" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
