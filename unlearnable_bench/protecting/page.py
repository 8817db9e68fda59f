"""The report: one self-contained page, and its figures as JSON."""

import base64
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from unlearnable_bench.images import Pixels
from unlearnable_bench.protecting.check import Row, jpeg_loss
from unlearnable_bench.protecting.measures import Measures
from unlearnable_bench.protecting.pictures import read
from unlearnable_bench.protecting.sources import Sources
from unlearnable_bench.storage.files import write_text

if TYPE_CHECKING:
    from unlearnable_bench.protecting.protect import Job

_SHOWN = 8  # pictures
_SIDE = 224  # pixels: longest side of a picture on the page

LIMITS = (
    "Protection lowers what a network learns from these files by training. It does not hold "
    "against every trainer: strong lossy compression (JPEG) removes noise, adversarial "
    "training with a radius of the strength or above learns past it, and a network that already "
    "knows such pictures and is only fine-tuned needs little from them. Whoever has the originals "
    "can subtract them."
)
LIMITS_OF_FIGURES = (
    "The figures are of the learners and transformations above, on these pictures; other networks, "
    "longer training or more pictures may learn more."
)


_PERSON = (
    "Accuracy is the share of the held-out originals that are recognised. The networks tell them "
    "from generated textures, which look like no photograph. That is easier than telling people "
    "apart: these figures do not show how well the person is protected among other people; "
    "--others DIR measures that."
)
_PERSON_AMONG_OTHERS = (
    "Accuracy is the share of the held-out originals of the person that are recognised among the "
    "pictures of the other people, which are not protected."
)


def write_page(
    folder: Path,
    job: "Job",
    sources: Sources,
    pairs: Sequence[tuple[Path, Path]],
    measures: Measures,
    rows: Sequence[Row],
    meaning: str,
    tested: int,
) -> Path:
    """Write `index.html` and `report.json`; return the path of the page.

    Args:
        folder: the folder of the report.
        job: what was asked for.
        sources: the originals.
        pairs: original and protected file of each picture.
        measures: distance between them.
        rows: figures of the check; empty: not checked.
        meaning: what these figures mean.
        tested: number of held-out pictures of the check.
    """
    figures = {
        "pictures": len(pairs), "classes": sources.counts(), "method": job.method,
        "strength": str(job.strength), "format": job.form, "measures": asdict(measures),
        "check": [asdict(row) for row in rows],
    }  # fmt: skip
    write_text(folder / "report.json", json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    title = f"Protected pictures: {job.root.resolve().name}"
    text = "\n".join(
        [
            _HEAD.format(title=escape(title), style=_style()),
            *_facts(job, sources, measures),
            *_check(job, rows, meaning, tested),
            "<h2>What it does not hold against</h2>",
            f"<p>{escape(' '.join((LIMITS, LIMITS_OF_FIGURES) if rows else (LIMITS,)))}</p>",
            *_gallery(job, pairs),
            "</main></body></html>",
        ]
    )
    page = folder / "index.html"
    write_text(page, text + "\n")
    return page


def _style() -> str:
    """Return the colours and type of the page of results, and the rules of this page."""
    shared = resources.files("unlearnable_bench.reports.page") / "page.css"
    root = shared.read_text(encoding="utf-8").partition("[data-theme")[0]
    return root.rpartition(":root")[0] + _STYLE


def _facts(job: "Job", sources: Sources, measures: Measures) -> Iterator[str]:
    counts = sources.counts()
    smallest, largest = min(counts.values()), max(counts.values())
    each = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
    yield f"<h1>Protected pictures: {escape(job.root.resolve().name)}</h1>"
    yield (
        f'<p class="lead">{sum(counts.values())} pictures, {len(counts)} '
        f"{'class' if len(counts) == 1 else 'classes'} of {each}. Method {escape(job.method)}, "
        f"strength {escape(str(job.strength))}: {_bound(job)}.</p>"
    )
    facts = [("Largest change", f"{measures.largest} levels")]
    if measures.psnr is not None:
        facts.append(("PSNR", f"{measures.psnr:.1f} dB"))
    if measures.ssim is not None:
        facts.append(("SSIM", f"{measures.ssim:.3f}"))
    if measures.lpips is not None:
        facts.append(("LPIPS", f"{measures.lpips:.3f}"))
    facts.append(("Size of all files", f"{measures.bytes / 1e6:.1f} MB, {job.form.upper()}"))
    cells = "".join(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in facts)
    yield f"<dl>{cells}</dl>"
    lpips = (
        f"LPIPS was not measured: {measures.no_lpips}."
        if measures.no_lpips
        else "LPIPS (torchmetrics, AlexNet): at most 1,024 px; 0 means equal."
    )
    yield (
        f'<p class="note">Largest change, PSNR and SSIM (scikit-image) in the pictures\' own size, '
        f"from the files as written: means over {measures.pictures} of them. {escape(lpips)}</p>"
    )


def _bound(job: "Job") -> str:
    levels = f"{job.strength.levels} of 255 levels"
    if job.form == "jpeg":
        return f"noise of at most {levels}, and what JPEG changes besides"
    return f"no value changes by more than {levels}"


def _check(job: "Job", rows: Sequence[Row], meaning: str, tested: int) -> Iterator[str]:
    yield "<h2>Does it work?</h2>"
    if not rows:
        yield "<p>Not checked (--no-check).</p>"
        return
    learners = list(dict.fromkeys(row.learner for row in rows))
    yield (
        "<p>Small networks are trained on the originals and on the protected files as written, and "
        "tested on a fifth of the originals that neither is trained on. Lower accuracy after "
        "training on the protected files means stronger protection.</p>"
    )
    head = "".join(f'<th scope="colgroup" colspan="3">{escape(one)}</th>' for one in learners)
    sub = '<th scope="col">originals</th><th scope="col">protected</th><th scope="col">change</th>'
    yield f"<p><strong>{escape(meaning)}</strong></p>"
    yield f'<div class="scroll"><table><thead><tr><td></td>{head}</tr>'
    yield f'<tr><th scope="col">Before training</th>{sub * len(learners)}</tr></thead><tbody>'
    for view in dict.fromkeys(row.view for row in rows):
        found = {row.learner: row for row in rows if row.view == view}
        cells = "".join(
            f"<td>{one.clean:.1f}</td><td><strong>{one.protected:.1f}</strong></td>"
            f"<td>{one.protected - one.clean:+.1f}</td>"
            for one in (found[name] for name in learners)
        )
        yield f'<tr><th scope="row">{escape(view)}</th>{cells}</tr>'
    yield "</tbody></table></div>"
    yield f'<p class="note">Accuracy in percent on {tested} held-out originals; one seed.</p>'
    if job.person:
        yield f"<p>{escape(_PERSON_AMONG_OTHERS if job.others else _PERSON)}</p>"
    if job.form == "jpeg":
        yield f"<p>{escape(jpeg_loss(rows))}</p>"


def _gallery(job: "Job", pairs: Sequence[tuple[Path, Path]]) -> Iterator[str]:
    gain = max(1, 100 // max(1, job.strength.levels))
    yield "<h2>Before and after</h2>"
    yield (
        f'<p class="note">Original, protected picture, and the change magnified {gain} times '
        "around grey; scaled to this page.</p>"
    )
    yield '<div class="gallery">'
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), _SHOWN)).round())
    for k in chosen.astype(int):
        before, after = (read(file).pixels for file in pairs[k])
        change = after.astype(np.int16) - before
        noise = np.clip(128 + gain * change, 0, 255).astype(np.uint8)
        name = escape(pairs[k][1].name)
        images = "".join(
            f'<img alt="{what} of {name}" src="{_embedded(pixels)}">'
            for what, pixels in (("Original", before), ("Protected copy", after), ("Noise", noise))
        )
        yield f"<figure>{images}"
        yield f"<figcaption>{escape(_below(job, pairs[k][1]))}</figcaption></figure>"
    yield "</div>"


def _below(job: "Job", file: Path) -> str:
    return file.relative_to(job.out).as_posix()


def _embedded(pixels: Pixels) -> str:
    """Return a picture as a data URI, scaled down so that its longest side fits the page."""
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    stream: Any = io.BytesIO()
    image.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body><main>"""
_STYLE = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem clamp(1rem, 3vw, 2.5rem) 4rem;
  background: var(--paper); color: var(--ink); font: 0.9375rem/1.5 var(--sans);
  overflow-wrap: break-word; }
h1, h2 { font-family: var(--serif); font-weight: 600; line-height: 1.25; }
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); margin: 0 0 0.5rem; }
h2 { font-size: 1.35rem; margin: 2.25rem 0 0.5rem; padding-top: 1rem;
  border-top: 1px solid var(--rule); }
p { margin: 0.5rem 0; max-width: 48rem; }
.note, figcaption, dt { color: var(--muted); font-size: 0.8125rem; }
dl { display: flex; flex-wrap: wrap; gap: 0.75rem 2.5rem; margin: 1.25rem 0 0.5rem; }
dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0 0.5rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.9rem; text-align: right; font-weight: 400; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th[colspan] { text-align: center; font-weight: 600; border-bottom: 1px solid var(--rule); }
thead tr:last-child th { border-bottom: 1px solid var(--strong-rule); color: var(--muted); }
tbody tr + tr > * { border-top: 1px solid var(--rule); }
strong { font-weight: 600; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(26rem, 1fr));
  gap: 1.25rem 1.5rem; margin-top: 0.75rem; }
@media (max-width: 32rem) { .gallery { grid-template-columns: 1fr; } }
figure { margin: 0; display: grid; grid-template-columns: repeat(3, 1fr); gap: 0.4rem; }
figure img { width: 100%; height: auto; display: block; background: var(--raised); }
figcaption { grid-column: 1 / -1; }
"""
