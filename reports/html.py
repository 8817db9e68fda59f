"""The page: every table, figure and cell in one HTML file that opens offline."""

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

# The order in which the browser gets them: each uses what is above it.
_SCRIPTS = ("state.js", "cells.js", "tables.js", "panel.js", "page.js")
# JSON that ends no element and starts no comment, whatever names are in it.
_HARMLESS = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


@dataclass(frozen=True, kw_only=True)
class Page(Report):
    """One self-contained HTML page: tables to sort and filter, figures, and each cell's origin."""

    suffix: ClassVar[str] = ".html"
    stem: ClassVar[str] = "page"

    title: str = option("", "title of the page; default: the data sets")
    aliases: str = option("", "names to print, LABEL=NAME by comma: sem=Ours,em=EM*")

    def render(self, frame: pd.DataFrame) -> str:
        """Return the file's text.

        Raises:
            UserError: aliases that cannot be read.
        """
        data = page_data(frame, self.aliases)
        datasets = [data["names"][label] for label in dict.fromkeys(frame["dataset"])]
        title = self.title or f"Unlearnable examples on {', '.join(datasets)}"
        return assembled(title, data)


def assembled(title: str, data: dict[str, Any]) -> str:
    """Return the page of some data: one file, that asks for nothing else and runs only itself.

    Args:
        title: of the page.
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
    # In one go: what is put in may hold the marks of a place itself.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return (resources.files(__package__) / "page" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
