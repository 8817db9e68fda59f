"""Tables for a paper."""

import re
from dataclasses import dataclass

import pandas as pd

from unlearnable_bench import Report, option
from unlearnable_bench.results.table import Entry, Table, tables

_OVER = {
    "rho_a": "at each rho_a",
    "defense": "under each defense",
    "protect": "at each share of protected images",
}
_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


@dataclass(frozen=True, kw_only=True)
class Latex(Report):
    """LaTeX tables with booktabs: methods as rows, rho_a as columns, the best in bold."""

    document: bool = option(False, "a whole document that compiles, not only the tables")

    def render(self, frame: pd.DataFrame) -> str:
        """Return one `table` environment for each setting."""
        body = "\n\n".join(_environment(table) for table in tables(frame))
        if not self.document:
            return f"% needs \\usepackage{{booktabs}}\n{body}\n"
        return (
            "\\documentclass{article}\n\\usepackage{booktabs}\n"
            "\\setlength{\\belowcaptionskip}{6pt}\n\\begin{document}\n"
            f"{body}\n\\end{{document}}\n"
        )


def _environment(table: Table) -> str:
    dollar = "$" if table.axis == "rho_a" else ""
    columns = (f"{dollar}{escape(column)}{dollar}" for column in table.columns)
    over, better = _OVER[table.axis], "Lower is better for the noise."
    caption = escape(f"Clean test accuracy (%) {over}: {table.title}. {better}")
    caption = caption.replace(r"rho\_a", r"$\rho_a$")
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{l{'c' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(["Method", *columns]) + r" \\",
        r"\midrule",
        *(
            " & ".join([escape(name), *map(_entry, entries)]) + r" \\"
            for name, entries in table.rows.items()
        ),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _entry(entry: Entry | None) -> str:
    if entry is None:
        return "--"
    text = entry.text(r" $\pm$ ")
    return rf"\textbf{{{text}}}" if entry.best else text


def escape(text: str) -> str:
    """Return text as LaTeX prints it."""
    return re.sub(r"[\\~^&%$#_{}]", lambda match: _SPECIAL.get(match[0], "\\" + match[0]), text)
