"""Text files in the encodings that people have: read right, or refused by name; what was guessed is told."""

import pytest

from data_prep.encoding import decode

TEXTS = {
    "Добрый день, друзья. Как дела?": ("cp1251", "koi8_r", "cp866"),
    "собака лает на улице": ("cp1251",),
    "今天天气很好，我们去公园散步。": ("gb18030",),
    "今天天氣很好，我們去公園散步。": ("big5",),
    "今日はとても天気がいいですね。": ("cp932", "euc_jp"),
    "안녕하세요, 오늘 날씨가 좋네요.": ("cp949",),
    "Café au lait, naïve. Où êtes-vous, à côté?": ("cp1252", "mac_roman"),
    "It’s – “fine”": ("cp1252",),
    "Größe und Straße, müde.": ("cp1252",),
    "Zażółć gęślą jaźń. Dzień dobry!": ("cp1250", "iso8859_2"),
    "Příliš žluťoučký kůň úpěl.": ("cp1250",),
    "Günaydın, nasılsınız? İyi şanslar.": ("cp1254",),
    "Καλημέρα σας, φίλοι μου.": ("cp1253",),
    "שלום לכולם, מה שלומכם": ("cp1255",),
    "صباح الخير يا أصدقاء": ("cp1256",),
    "สวัสดีครับ วันนี้อากาศดี": ("cp874",),
}
CASES = [(text, encoding) for text, encodings in TEXTS.items() for encoding in encodings]


@pytest.mark.parametrize(("text", "encoding"), CASES, ids=[encoding for _, encoding in CASES])
def test_one_sentence_is_enough(text, encoding):
    """Punctuation alone, as in "It’s", is the same in several of them: the first is named."""
    content = f"1\r\n00:00:01,000 --> 00:00:02,000\r\n{text}\r\n"
    assert decode(content.encode(encoding), "a.srt") == (content, encoding)


@pytest.mark.parametrize(
    "text",
    [
        "Add ¼ cup of sugar,Add ¾ cup of milk",
        "± 1",
        "25 ¢",
        "§ 4",
        "2 µm and 10µm",
        "®™ ©",
        "Save® is ½ price: £5, ¥9 or 25¢, at 20 °C ± 1, 4 m²",
        "¿Que? ¡No!",
        "A café of 40 m²",
    ],
)
def test_signs_are_no_letters(text):
    """Rows of plain letters with a few signs, as a spreadsheet of captions has them."""
    content = "video,caption\r\n" + f"a.mp4,{text}\r\n" + "b.mp4,A man cooks.\r\n" * 300
    assert decode(content.encode("cp1252"), "captions.csv") == (content, "cp1252")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *(("Może", "cp1250"), ("był", "cp1250"), ("są", "iso8859_2"), ("teď je čas", "cp1250"), ("mīļa", "cp1257")),
        *(("не", "cp1251"), ("да", "cp866"), ("ış", "cp1254"), ("ได้", "cp874")),
        *(("は", "cp932"), ("不", "gb18030"), ("不", "big5")),
        *(("Ciao, perché è così?", "cp1252"), ("el niño", "cp1252"), ("naïve café", "cp1252")),
        *(("It’s “fine”", "mac_roman"), ("Add ¼ cup of crème fraîche, s'il vous plaît", "cp1252")),
    ],
)
def test_few_letters_are_read_right_or_refused(text, encoding):
    data = f"1\r\n00:00:01,000 --> 00:00:02,000\r\n{text}\r\n".encode(encoding)
    try:
        assert decode(data, "a.srt").text == data.decode(encoding)
    except ValueError as error:
        assert str(error).endswith("save it as UTF-8")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "iso2022_jp"])
def test_what_is_known_is_no_guess(encoding):
    content = "1\n00:00:01,000 --> 00:00:02,000\n今日は good\n"
    assert decode(content.encode(encoding), "a.srt") == (content, "")


@pytest.mark.parametrize("data", ["你好".encode("gbk"), "Dzień dobry".encode("cp1250"), bytes(range(128, 256))])
def test_what_cannot_be_told_is_refused_by_name(data):
    with pytest.raises(ValueError, match=r"^films/a\.srt: not UTF-8 \(line 2\).*; save it as UTF-8$"):
        decode(b"1\n" + data, "films/a.srt")


def test_utf_8_with_a_damaged_letter_is_no_other_encoding():
    data = "Добрый день, друзья".encode()
    assert decode(data[:-1], "a.srt") == ("Добрый день, друзь\ufffd", "UTF-8 with 1 damaged characters")
    with pytest.raises(ValueError, match=r"a\.srt: begins as utf-16 and is damaged at byte 4"):
        decode("ab".encode("utf-16")[:-1], "a.srt")
