"""Tables as people have them: any usual form of file, columns of any kind, and the same form back."""

from lowdim.tables._columns import KINDS, Column, Kind, identifies, marks_of
from lowdim.tables._file import GivenSource, Source, TextSource, read_file
from lowdim.tables._frames import is_frame, is_matrix, is_plain, to_pandas, with_filled, without_marks
from lowdim.tables._table import Filled, Table, rows_are_named, table_of_frame, table_of_texts, with_times

__all__ = [
    "KINDS",
    "Column",
    "Filled",
    "GivenSource",
    "Kind",
    "Source",
    "Table",
    "TextSource",
    "identifies",
    "is_frame",
    "is_matrix",
    "is_plain",
    "marks_of",
    "read_file",
    "rows_are_named",
    "table_of_frame",
    "table_of_texts",
    "to_pandas",
    "with_filled",
    "with_times",
    "without_marks",
]
