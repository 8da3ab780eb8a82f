"""Reports of a schedule: a page for a browser, a picture."""

from topoformer.report.compared import Compared
from topoformer.report.drawing import svg
from topoformer.report.page import html

__all__ = ["Compared", "html", "svg"]
