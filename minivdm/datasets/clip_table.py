"""The table of a folder of clips: a CSV file with one row for each video and its caption, as WebVid-10M has it."""

from csv import DictReader
from csv import Error as CSVError

COLUMNS = ("videoid", "page_dir", "name")  # those that are read; contentUrl and duration may be missing


def read_rows(path):
    """The rows of a table as dicts. A byte-order mark and any line ends are fine; the columns may come in any order.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not UTF-8, not CSV, has no row, or lacks a column of `COLUMNS`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no table of clips at {path}")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = DictReader(file, skipinitialspace=True)
            found = [(name or "").strip() for name in reader.fieldnames or ()]
            reader.fieldnames = found
            rows = list(reader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from error
    except CSVError as error:
        raise ValueError(f"{path} is not a CSV file: {error}") from error
    if not any(found):
        raise ValueError(f"{path} is empty: expected a line of column names, among them {', '.join(COLUMNS)}")
    missing = [name for name in COLUMNS if name not in found]
    if missing:
        raise ValueError(f"{path} lacks the column {', '.join(missing)}; it has {', '.join(found)}")
    if not rows:
        raise ValueError(f"{path} has column names, but no rows")
    return rows
