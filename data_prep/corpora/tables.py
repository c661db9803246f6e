"""Tables with a header, as people and spreadsheets write them: rows by column, or what is wrong with which line.

Nothing is lost or altered unseen: a table that can be understood in two ways is a problem, not a guess.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence

from data_prep.corpora.annotations import Problems, clean, read_text

LINE = "line"  # in every row, beside its columns: where it begins in the file, counted from 1
_DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_SHOWN = 60  # letters of a row in a message
_DELIMITER_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # which Excel reads, and some write


def read_rows(
    path: str, columns: Sequence[str], problems: Problems, optional: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Rows of a table by column, and LINE; optional columns that it lacks are "". Rows without anything are no rows.

    Headers may have another case and spaces around them; commas, semicolons, tabs or bars stand between fields. A
    problem if the file cannot be read, lacks one of the columns or has it twice, has rows with more fields than
    columns, or a quotation mark that is not closed.
    """
    if (text := read_text(path, problems)) is None:
        return []
    first = 1
    if match := _DELIMITER_LINE.match(text):
        text, first = text[match.end() :], 2
    delimiter = _delimiter_of(text, columns)
    lines = _lines(text, delimiter, first)
    try:
        header = [name.strip() for name in next(lines, (first, []))[1]]
        names = [" ".join(name.lower().split()) for name in header]
        if missing := [name for name in columns if name not in names]:
            problems.add(f"{path} has the columns {[name[:_SHOWN] for name in header]}, it lacks", missing)
            return []
        if twice := [name for name in (*columns, *optional) if names.count(name) > 1]:
            problems.add(f"{path} has columns more than once: which is meant?", twice)
            return []
        places = {name: names.index(name) if name in names else None for name in (*columns, *optional)}
        rows, long, swallowed = [], [], []
        for number, fields in lines:
            row = {
                name: clean(fields[place]) if place is not None and place < len(fields) else ""
                for name, place in places.items()
            }
            if any(surplus := fields[len(header) :]):  # empty columns at the end are a spreadsheet's, and harmless
                long.append(f"line {number}, at {clean(delimiter.join(surplus))[:_SHOWN]}")
            if other := _swallowed(row[columns[0]], fields, delimiter):
                swallowed.append(f"line {number}: {other[:_SHOWN]}")
            rows.append(row | {LINE: str(number)})
    except csv.Error as error:
        problems.add(
            f"{path} cannot be read ({error}): a quotation mark is not closed, or a text with quotation marks in it "
            f'does not stand as "he said ""so"""'
        )
        return []
    if long:
        problems.add(
            f"{path}: {len(long)} rows have more fields than the {len(header)} columns; a text with "
            f'{_DELIMITERS[delimiter]} in it needs quotation marks, "like this{delimiter} say"',
            long,
        )
    if swallowed:
        problems.add(f"{path}: {len(swallowed)} rows hold another row: is a quotation mark not closed?", swallowed)
    return rows


def _delimiter_of(text: str, columns: Sequence[str]) -> str:
    """What stands between the names of the columns; a comma where that does not help."""
    line = re.split(r"[\r\n]", text.lstrip(" \r\n"), maxsplit=1)[0]
    found = {mark: {name.strip(" \"'").lower() for name in line.split(mark)} for mark in _DELIMITERS}
    return max(_DELIMITERS, key=lambda mark: (len(found[mark] & {*columns}), len(found[mark])))


def _lines(text: str, delimiter: str, first: int) -> Iterator[tuple[int, list[str]]]:
    """(number of the line where it begins, fields) of each row that has any. Raises csv.Error that names the line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    before = csv.field_size_limit(len(text) + 1)  # three hours of speech are more than the 128 KB of the library
    number = first
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield number, fields
            number = first + reader.line_num
    except csv.Error as error:
        raise csv.Error(f"the row that begins in line {number}: {error}") from error
    finally:
        csv.field_size_limit(before)


def _swallowed(key: str, fields: Sequence[str], delimiter: str) -> str:
    """The first line within a field that looks like a row: it begins with a name of the form of this row's; else ""."""
    inner = [line for field in fields if "\n" in field for line in field.splitlines()[1:] if delimiter in line]
    return next((line for line in inner if _form(line.split(delimiter)[0]) == _form(key)), "")


def _form(name: str) -> str:
    """What names of one table have in common: the suffix of a file, or everything but the digits."""
    name = name.strip(" \"'")
    suffix = re.search(r"\.[a-z]\w{1,4}$", name, re.IGNORECASE)
    return suffix[0].lower() if suffix else re.sub(r"\d+", "0", name)
