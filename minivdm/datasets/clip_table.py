"""The table of a folder of clips: a CSV file with one row for each video and its caption, as WebVid-10M has it."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ("videoid", "page_dir", "name")  # those that are read; contentUrl and duration may be missing
DELIMITERS = ",;\t"
EMPTY = "no videoid or caption"


@dataclass
class Row:
    """One row of the table. `fault` is why it cannot be used, or empty."""

    line: int  # where it begins in the file, from 1
    videoid: str
    page_dir: str
    caption: str
    fault: str = ""


def read_rows(path: Path) -> list[Row]:
    """The rows of a table. Any line ends are fine, blank lines, too; the columns may come in any order.

    UTF-8, or UTF-16 with its mark; separated by commas, or by semicolons or tabs as some spreadsheets do. A cell with
    one of these in it must stand in quotes, and a quote within quotes is doubled. A row with more cells than there are
    columns has lost the quotes around its caption, and what the caption is cannot be known: its `fault` says so.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not text, not CSV, has no row, or lacks a column of `COLUMNS` or has it twice.
    """
    names, delimiter, rows = read_table(path, COLUMNS, "clips")
    return [row_of(line, cells, names, delimiter) for line, cells in rows]


def read_table(path: Path, columns: Sequence[str], what: str) -> tuple[list[str], str, list[tuple[int, list[str]]]]:
    """The names of a table's columns, what separates them, and its rows, each with the line in which it begins.

    `columns` are those that it must have, and `what` it is a table of. Raises what `read_rows` raises.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no table of {what} at {path}")
    content = path.read_bytes()
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{path} is not UTF-8: line {line}, {error}; save it as UTF-8") from error
    header = next((line for line in io.StringIO(text, newline="") if line.strip()), "")
    delimiter = max(DELIMITERS, key=header.count)  # the first of those that are there equally often
    rows = cells_of(path, text, delimiter)
    _, names = next(rows, (0, []))
    names = [name.strip() for name in names]
    if "\0" in "".join(names):  # which no screen shows
        raise ValueError(f"{path} is not UTF-8: null bytes between its letters, as in UTF-16; save it as UTF-8")
    if not any(names):
        raise ValueError(f"{path} is empty: expected a line of column names, among them {', '.join(columns)}")
    for told, wrong in (
        ("lacks", [name for name in columns if name not in names]),
        ("has twice", [name for name in columns if names.count(name) > 1]),
    ):
        if wrong:
            raise ValueError(f"{path} {told} the column {', '.join(wrong)}; it has {', '.join(names)}")
    rows = list(rows)
    if not rows:
        raise ValueError(f"{path} has column names, but no rows")
    return names, delimiter, rows


def cells_of(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, as lists of cells, each with the line in which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    line = 1
    try:
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip():
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        hint = "is a quote opened and not closed, or a quote within quotes not doubled?"
        raise ValueError(f"{path} is not a CSV file: in the row of line {line}, {error}; {hint}") from error


def row_of(line: int, cells: list[str], names: list[str], delimiter: str) -> Row:
    """A row's cells by the names of their columns."""
    values = dict(zip(names, cells))
    videoid, page_dir, caption = (values.get(name, "").strip() for name in COLUMNS)
    fault = "" if videoid and caption else EMPTY
    if any(cell.strip() for cell in cells[len(names) :]):
        fault = "more cells than columns"
    elif any(part.count(delimiter) >= len(names) - 1 for cell in cells for part in cell.splitlines()[1:]):
        fault = "a quote spans rows"
    return Row(line, videoid, page_dir, caption, fault)
