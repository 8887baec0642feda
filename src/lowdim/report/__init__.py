"""Results into pictures, tables and one page: the only room that draws."""

from lowdim.report._page import Card, Drawn, Page, Section, write_report
from lowdim.report._result import Result
from lowdim.report._svg import to_svg

__all__ = ["Card", "Drawn", "Page", "Result", "Section", "to_svg", "write_report"]
