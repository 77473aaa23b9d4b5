"""One self-contained page about a run or a benchmark, from the files of its folder; nothing of it is executed."""

from sciml.report._page import page as page
from sciml.report._page import report as report
