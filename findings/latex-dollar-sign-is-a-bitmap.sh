#!/usr/bin/env bash
# A dollar sign, or the minus of siunitx in text mode, puts a bitmap font into a pdflatex paper.
#
# Expected: a document in the default fonts (Computer Modern) contains outline fonts only.
# Happens:  LaTeX takes \$, \S and \pounds from the text companion encoding TS1. Unless the package
#           cm-super is installed, the font tcrm exists only as Metafont source, so pdflatex embeds a
#           bitmap (Type 3), without a warning. {\char36} prints the same dollar sign from the
#           outline font. siunitx with mode=text does the same for the minus of \num{-1.5}, but not
#           for \num{1.5}, so one negative number in a table is enough.
# Versions: TeX Live 2022 and siunitx 3.2.0 of Debian 12 (texlive-latex-recommended,
#           texlive-fonts-recommended, texlive-science), without cm-super.
# Matters:  conferences ask for papers without Type 3 fonts (the instructions of NeurIPS and ICML do),
#           and some submission sites check it. One table of results is enough to fail.
# Our code: writes {\char36} for a dollar sign (reports/_latex_text.py), and asks siunitx for text
#           mode only in tables with a bold number (reports/_latex.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for tool in pdflatex pdffonts; do
  command -v "$tool" >/dev/null || { echo "needs $tool (texlive-latex-base, poppler-utils)" >&2; exit 1; }
done
pdflatex --version | sed -n 1p
dpkg-query -W -f '${Package} ${Version}\n' texlive-latex-base texlive-science poppler-utils

# Prints how many Type 3 fonts a document has. Arguments: name, preamble, text.
bitmaps() {
  printf '\\documentclass{article}%s\\begin{document}%s\\end{document}\n' "$2" "$3" >"$folder/$1.tex"
  (cd "$folder" && pdflatex -interaction=batchmode -halt-on-error "$1.tex" >/dev/null)
  pdffonts "$folder/$1.pdf" | awk '/ Type 3 / {n++} END {print n + 0}'
}

failed=0
check() {
  local found
  found=$(bitmaps "$1" "$2" "$3")
  printf '%-28s bitmap fonts: %s\n' "$3" "$found"
  [[ $found == "$4" ]] || { echo "expected $4" >&2; failed=1; }
}

number='\usepackage{siunitx}\sisetup{mode=text}'
# shellcheck disable=SC2016  # TeX's dollar sign
check dollar '' 'costs \$5' 1
check char '' 'costs {\char36}5' 0
check section '' '\S 5' 1
check pounds '' '\pounds 5' 1
check negative "$number" '\num{-1.5}' 1
check positive "$number" '\num{1.5}' 0
check maths '\usepackage{siunitx}' '\num{-1.5}' 0
exit "$failed"
