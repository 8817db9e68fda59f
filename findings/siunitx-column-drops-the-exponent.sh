#!/usr/bin/env bash
# A column of siunitx prints the p-value 1e-7 as 1.
#
# Expected: a number that does not fit the format of its column is an error, or sticks out.
# Happens:  in a column S[table-format=1.3] without room for an exponent, the exponent is left out:
#           1e-7 is printed as 1, and 3.2e-05 as 3.2; rounded to three places they are 1.000 and
#           3.200. The log has no warning and no overfull box. table-format=1.3e-1 has room for the
#           power of ten and prints it. See github.com/josephwright/siunitx/issues/865 (open).
# Versions: siunitx 3.2.0 of Debian 12 (TeX Live 2022).
# Matters:  Python prints small floats with an exponent by itself, so str(p) of the most significant
#           comparison becomes the least significant one in the paper.
# Our code: writes p-values as text, <0.001 below three decimals (`p_text` in reports/paired.py),
#           and all numbers of a column with a fixed number of decimals (reports/_latex_columns.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for tool in pdflatex pdftotext; do
  command -v "$tool" >/dev/null || { echo "needs $tool (texlive-science, poppler-utils)" >&2; exit 1; }
done
pdflatex --version | sed -n 1p
dpkg-query -W -f '${Package} ${Version}\n' texlive-science poppler-utils

# Prints a table with the p-values 0.02, 1e-7 and 3.2e-05 as one line. Arguments: name, options.
table() {
  cat >"$folder/$1.tex" <<TEX
\\documentclass{article}\\usepackage{siunitx}\\pagestyle{empty}\\begin{document}
\\begin{tabular}{lS[$2]}A&0.020\\\\B&1e-7\\\\C&3.2e-05\\\\\\end{tabular}
\\end{document}
TEX
  (cd "$folder" && pdflatex -interaction=batchmode -halt-on-error "$1.tex" >/dev/null)
  pdftotext -layout "$folder/$1.pdf" - | tr -s '\f\n ' ' '
  if grep -i -E 'warning|overfull' "$folder/$1.log"; then echo "(the log has warnings now)"; fi
}

plain=$(table plain table-format=1.3)
rounded=$(table rounded table-format=1.3,round-mode=places,round-precision=3)
roomy=$(table roomy table-format=1.3e-1)
echo "table-format=1.3:           $plain"
echo "... rounded to 3 places:    $rounded"
echo "table-format=1.3e-1:        $roomy"
[[ ${plain% } == "A 0.020 B 1 C 3.2" ]]
[[ ${rounded% } == "A 0.020 B 1.000 C 3.200" ]]
[[ $roomy == *10* ]]
