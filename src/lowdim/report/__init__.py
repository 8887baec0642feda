"""Results into pictures and one page: the only room that draws."""

from lowdim.report._page import Page, Section, write_report
from lowdim.report._svg import to_svg

__all__ = ["Page", "Section", "to_svg", "write_report"]
