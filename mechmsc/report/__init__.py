"""What a reader sees of a run: its figures, and one page with a verdict in words.

make_figures    draws `FIGURES` into RUN/figures
write_report    RUN/report.html: verdict, tables, figures, settings
verdict         the sentences of the verdict, link by link
"""

from mechmsc.report.drawing import FIGURES, SMALL, caption, figures_of, make_figures
from mechmsc.report.judging import Finding
from mechmsc.report.page import verdict_lines, write_report
from mechmsc.report.reading import verdict_of
from mechmsc.report.verdict import verdict

__all__ = [
    "FIGURES",
    "SMALL",
    "Finding",
    "caption",
    "figures_of",
    "make_figures",
    "verdict",
    "verdict_lines",
    "verdict_of",
    "write_report",
]
