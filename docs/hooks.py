"""The documentation site also serves the files of the repository that its pages link to."""  # noqa: INP001

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
_LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s#]+)(#[^)\s]*)?\)")
_PAGES = ("benchmarks/README.md",)


def _home(source: str) -> Path:
    """Return the folder in the repository that a page's links start from."""
    return (ROOT if source in _PAGES else DOCS) / PurePosixPath(source).parent


def _outside(source: str, link: str) -> Path | None:
    """Return what a link means if it is in the repository and not a page of docs/."""
    if re.match(r"[a-z]+:", link):
        return None
    target = (_home(source) / link).resolve()
    if not target.is_relative_to(ROOT) or (target.is_relative_to(DOCS) and source not in _PAGES):
        return None
    return target


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what the pages link to outside docs/."""
    texts = {page.name: page.read_text(encoding="utf-8") for page in DOCS.glob("*.md")}
    texts |= {name: (ROOT / name).read_text(encoding="utf-8") for name in _PAGES}
    wanted = {ROOT / name for name in _PAGES}
    for source, text in texts.items():
        wanted |= {t for _, link, _ in _LINK.findall(text) if (t := _outside(source, link))}
    for path in sorted(wanted):
        name = path.relative_to(ROOT).as_posix()
        if path.is_file() and not path.is_relative_to(DOCS):
            # Markdown that is no page of the site is served as it is.
            kept = name if name in _PAGES or path.suffix != ".md" else f"{name}.txt"
            files.append(File.generated(config, kept, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_context: Any) -> str:
    """Point links to the files that were added; a folder's link becomes its name."""
    source = page.file.src_uri
    up = "../" * len(PurePosixPath(source).parent.parts)

    def replaced(match: re.Match[str]) -> str:
        label, link, anchor = match.groups()
        target = _outside(source, link)
        if target is None:
            return match[0]
        if target.is_dir():
            return label[1:-1]
        if target.is_relative_to(DOCS):
            return f"{label}({up}{target.relative_to(DOCS).as_posix()}{anchor or ''})"
        name = target.relative_to(ROOT).as_posix()
        kept = name if name in _PAGES or target.suffix != ".md" else f"{name}.txt"
        return f"{label}({up}{kept}{anchor or ''})"

    return _LINK.sub(replaced, markdown)
