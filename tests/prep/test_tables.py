"""Tables as spreadsheets and people write them: read right, or refused with the line; nothing is lost unseen."""

import csv

import pytest

from data_prep.corpora.annotations import Problems
from data_prep.corpora.tables import read_rows

ROWS = [("a.mp4", "a dog, running"), ("b.mp4", "the café")]
PLAIN = 'video,caption\na.mp4,"a dog, running"\nb.mp4,the café\n'


def read(path, content, columns=("video", "caption")):
    """The rows as pairs, and the problems in one text."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    problems = Problems("root")
    rows = read_rows(str(path), columns, problems)
    return [tuple(row[name] for name in columns) for row in rows], "\n".join(problems.lines)


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n") + ",\r\n , \r\n\r\n",  # Excel's rows without anything
        PLAIN.replace("\n", "\r"),
        PLAIN.encode("utf-8-sig"),
        PLAIN.replace("video,", " Video ,").replace("caption", '"CAPTION "'),
        PLAIN.replace("video,caption", "video;caption").replace("mp4,", "mp4;"),
        "sep=;\n" + PLAIN.replace("video,caption", "video;caption").replace("mp4,", "mp4;"),
        PLAIN.replace("video,caption", "video|caption").replace("mp4,", "mp4|"),
        PLAIN.replace("video,caption", "video\tcaption").replace("mp4,", "mp4\t").encode("utf-16"),  # "Unicode text"
        PLAIN.replace("video,", "number,video,").replace("\na", "\n1,a").replace("\nb", "\n2,b"),
    ],
)
def test_nearly_of_the_documented_form(tmp_path, content):
    assert read(tmp_path / "a.csv", content) == (ROWS, "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('video,caption\na.mp4,"a dog\nb.mp4,a cat\n', "the row that begins in line 2: unexpected end of data"),
        ('video,caption\na.mp4,a dog\nb.mp4,"a" cat\n', "the row that begins in line 3: ',' expected after '\"'"),
        (
            'video,caption\na.mp4,"a dog\nb.mp4,a cat\nc.mp4,"\n',
            "1 rows hold another row: is a quotation mark not closed",
        ),
        ('id,text\nvideo1,"a dog\nvideo20,a cat\nvideo3,"\n', "'line 2: video20,a cat'"),
        ("video,caption,Caption\na.mp4,a dog,a cat\n", "a.csv has columns more than once: which is meant?: 'caption'"),
        ("video;caption\na.mp4;a dog; asleep\n", "a text with a semicolon in it needs quotation marks"),
        ("video,caption\na.mp4,a dog\nb.mp4,a\0cat\n", "a.csv: line 3 holds a NUL byte"),
        ("a.mp4,a dog\n", "has the columns ['a.mp4', 'a dog'], it lacks: 'video', 'caption'"),
        ("", "has the columns [], it lacks"),
        (b"video,caption\na.mp4," + "你好".encode("gbk"), "a.csv: not UTF-8 (line 2); it may be"),
        (b"video,caption\na.mp4," + "Добрый".encode()[:-1], "1 damaged characters, the first in line 2"),
    ],
)
def test_what_could_be_understood_in_two_ways_is_refused_with_the_line(tmp_path, content, message):
    _, problems = read(
        tmp_path / "a.csv", content, ("id", "text") if "id,text" in str(content) else ("video", "caption")
    )
    assert message in problems


def test_lines_within_a_text_are_kept(tmp_path):
    rows, problems = read(
        tmp_path / "a.csv", 'video,caption\na.mp4,"a dog,\nwhich runs, and a cat"\nb.mp4,"a 5"" screen"\n'
    )
    assert rows == [("a.mp4", "a dog,\nwhich runs, and a cat"), ("b.mp4", 'a 5" screen')] and not problems


def test_texts_of_three_hours(tmp_path):
    text, limit = "and so on " * 20_000, csv.field_size_limit()
    assert read(tmp_path / "a.csv", f"video,caption\na.mp4,{text}\n") == ([("a.mp4", text.strip())], "")
    assert csv.field_size_limit() == limit


def test_another_encoding_is_told(tmp_path, caplog):
    content = "video,caption\na.mp4,Добрый день, друзья\n".replace("день,", "день").encode("cp1251")
    assert read(tmp_path / "a.csv", content) == ([("a.mp4", "Добрый день друзья")], "")
    assert "a.csv: read as cp1251, which was guessed from its letters" in caplog.records[0].message
