"""Text of any encoding comes back as it was, or is refused; never as other letters."""

import codecs
import io
import random

import pytest

from components.sources.encoding import detect_encoding, transcode
from components.sources.errors import SourceError
from components.sources.survey import survey

NAMES = {
    "Turkish": "çay bardağı|ince belli|süt|şeker|ÇİĞDEM|kışlık bot|gömlek|fındık ezmesi|zeytinyağı",
    "German": "Größe L|Käse|Brötchen|Süßstoff|Müsli|Ärmelhemd|Straßenschuh|Weißwein|Küchentuch",
    "French": "café moulu|crème brûlée|pâte à tartiner|thé vert|éponge|légumes|fenêtre|gâteau|maïs",
    "French with œ": "bœuf haché|cœur de palmier|crème brûlée|thé vert|œufs|éponge|pâte|Noël",
    "Polish": "żółty ser|masło|śmietana|jabłko|książka|kość|łyżka|ćwikła|pączek|świeca",
    "Czech": "žlutý sýr|máslo|chléb|šunka|jablečný džus|lžíce|čaj|svíčka|křeslo|těstoviny|rýže",
    "Russian": "хлеб|молоко|сыр твёрдый|масло сливочное|чай чёрный|рубашка|Свеча ароматная|вода",
    "Greek": "ψωμί|γάλα|τυρί φέτα|ελαιόλαδο|τσάι|πουκάμισο|βιβλίο|κερί|νερό|γιαούρτι|Άρωμα",
    "Hebrew": "לחם|חלב|גבינה צהובה|שמן זית|תה|חולצה|ספר|נר|מים|יוגורט",
    "Portuguese": "pão|açúcar|café|maçã|feijão|limão|sabão|lençol|água|coração|têxtil",
    "Spanish": "piña|niño|café|jamón|azúcar|limón|plátano|señal|cigüeña|muñeca",
    "Swedish": "smörgås|kött|ägg|grädde|ål|bröd|Ölkorv|kräftor|hår|nötter",
    "Japanese": "食パン|牛乳|チーズ|お茶|シャツ|ろうそく|ヨーグルト|醤油|毛布|タオル|スポンジ",
    "Chinese": "面包|牛奶|奶酪|绿茶|衬衫|图书|蜡烛|矿泉水|酸奶|酱油",
    "Taiwanese": "麵包|牛奶|乳酪|綠茶|襯衫|圖書|蠟燭|礦泉水|優格|醬油",
    "Korean": "빵|우유|치즈|녹차|셔츠|책|양초|생수|요구르트|간장",
}
ENCODINGS = {
    "Turkish": "cp1254 iso8859-9",
    "German": "cp1252 iso8859-1 iso8859-15 mac-roman cp850 cp437",
    "French": "cp1252 iso8859-1 mac-roman cp850",
    "French with œ": "cp1252 iso8859-15 mac-roman",
    "Polish": "cp1250 iso8859-2",
    "Czech": "cp1250 iso8859-2",
    "Russian": "cp1251 koi8-r iso8859-5 cp866",
    "Greek": "cp1253 iso8859-7",
    "Hebrew": "cp1255 iso8859-8",
    "Portuguese": "cp1252 iso8859-1 cp850",
    "Spanish": "cp1252 iso8859-1 cp850 mac-roman",
    "Swedish": "cp1252 iso8859-1 cp850",
    "Japanese": "shift_jis euc-jp",
    "Chinese": "gb18030",
    "Taiwanese": "big5",
    "Korean": "euc-kr",
}
LEGACY = [(one, codec) for one, codecs_ in ENCODINGS.items() for codec in codecs_.split()]
TURKISH = "order_id;name\r\n" + "".join(f"{n};çay bardağı ş{n}\r\n" for n in range(2_000))


def make_export(language, n_lines, share):
    """`share` of the names are in the language, the others are ASCII."""
    draw, names = random.Random(f"{language} {n_lines}"), NAMES[language].split("|")
    lines = [
        f"{1000 + n // 3};P{n % 97:04};{draw.choice(names) if draw.random() < share else 'Pan XL'};"
        f"{draw.randrange(1, 5)};{draw.randrange(300)},{draw.randrange(100):02};01.02.2024 09:00"
        for n in range(n_lines)
    ]
    return "\r\n".join(["order_id;product_id;name;quantity;price;ts", *lines])


def detect(data):
    return detect_encoding(io.BytesIO(data), "jan.csv")


def to_utf8(data, codec, **how):
    target = io.BytesIO()
    counts = transcode(io.BytesIO(data), target, codec, "jan.csv", **how)
    return target.getvalue().decode(), *counts


@pytest.mark.parametrize(("language", "codec"), LEGACY)
@pytest.mark.parametrize(("n_lines", "share"), [(60, 1), (1_000, 0.05)])
def test_a_legacy_encoding_gives_the_letters_back(language, codec, n_lines, share):
    text = make_export(language, n_lines, share)
    assert text.encode(codec).decode(detect(text.encode(codec))[0]) == text


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("name;price\nMug;£5\nPan;£10\n", "cp1252"),
        ("name;price\nMug;€5\nPan;€10\n", "cp1252"),
        ("name\nMen’s shirt\nKids’ toys\n“Best” pan\n", "cp1252"),
        ("name\nGröße\nçay\nniño\nsmörgås\ncrème\nÅngström\npão\nØl\n", "cp1252"),
        ("name\nżółty\nlžíce\nőszi\nčaj\n", "cp1250"),
        ("name\nx²\nØ 30 mm\n20 °C\n½ kg\n", "cp1252"),
        ("name\nсок 1л\nвода 5л\nмолоко 2л\n", "cp1251"),
    ],
)
def test_quotes_currencies_and_units_decide(text, codec):
    assert text.encode(codec).decode(detect(text.encode(codec))[0]) == text


@pytest.mark.parametrize(
    ("mark", "codec"),
    [
        (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("has_mark", [True, False])
def test_unicode_with_and_without_its_mark(mark, codec, has_mark):
    data = (mark if has_mark else b"") + TURKISH.encode(codec)
    found, is_certain, evidence = detect(data)
    assert is_certain
    assert ("mark" in evidence) == has_mark
    assert to_utf8(data, found)[0] == TURKISH


def test_cyrillic_utf_16_without_mark():
    text = make_export("Russian", 50, 1)
    assert detect(text.encode("utf-16-le"))[0] == "utf-16-le"


def test_utf_8_is_read_to_its_end():
    data = (
        b"order_id;name\n"
        + b"1;pan\n" * 1_500_000
        + "2;çay bardağı\n3;kışlık şapka\n".encode("cp1254")
    )
    assert detect(data)[0] == "cp1254"


def test_a_letter_across_two_blocks_is_valid():
    found = survey(io.BytesIO(b"x" * ((4 << 20) - 1) + "ş".encode()))
    assert (found.n_bad, found.n_valid) == (0, 1)


def test_one_garbled_line_is_replaced_and_counted():
    data = TURKISH.encode() + b"7;\xff\xfe\xfd\n"
    assert detect(data)[::2] == (
        "utf-8", f"UTF-8 with 3 broken characters, first at byte {len(TURKISH.encode()) + 2:,}"
    )  # fmt: skip
    assert to_utf8(data, "utf-8", is_lenient=True) == (TURKISH + "7;\ufffd\ufffd\ufffd\n", 0, 3)


def garble(text, share):
    draw = random.Random(1)
    return b"".join(
        draw.randbytes(len(line)) + b"\n" if draw.random() < share else line
        for line in text.encode().splitlines(keepends=True)
    )


@pytest.mark.parametrize(
    "data",
    [
        garble(TURKISH, 0.6),
        garble("order_id;name\n" + "1;pan\n" * 2_000, 0.6),
        TURKISH.encode() + TURKISH.encode("cp1254"),
        TURKISH.encode("cp1254") + TURKISH.encode(),
        TURKISH.encode("cp1254") + TURKISH[:9_000].encode(),
        TURKISH.encode() + TURKISH[:9_000].encode("cp1254"),
    ],
    ids=["garbled", "garbled ASCII", "half", "other half", "a bit of UTF-8", "a bit of Turkish"],
)
def test_garbled_or_mixed_text_is_refused(data):
    with pytest.raises(SourceError, match=r"jan\.csv: (damaged text|binary data)"):
        detect(data)


def test_the_place_of_what_does_not_decode():
    with pytest.raises(SourceError, match=r"windows-1254 .byte 3 is not"):
        to_utf8(b"abc\x81", "cp1254")
    with pytest.raises(SourceError, match=r"byte 4,194,30\d is not"):
        to_utf8(b"x" * ((4 << 20) - 1) + b"\xc5x", "utf-8")


def test_nul_bytes_are_dropped_and_counted():
    assert to_utf8(b"a;b\0\0\n1;2\n\0", "utf-8") == ("a;b\n1;2\n", 3, 0)


def test_line_breaks_of_old_macs():
    assert to_utf8(b"a;b\r1;2\r", "mac-roman")[0] == "a;b\n1;2\n"
    assert to_utf8(b'a;b\r\n1;"x\ry"\n', "mac-roman")[0] == 'a;b\r\n1;"x\ry"\n'
