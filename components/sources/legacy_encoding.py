"""Choose the encoding of text that is older than Unicode.

chardet alone is right in half of the cases: product names are short, and most of a file is ASCII.
It gets the fields with other letters only, and its candidates are judged by how well they read:
each text must fit the alphabet of one language.
"""

import codecs
import contextlib
import re
import unicodedata
from collections.abc import Iterator, Sequence

CANDIDATES = (
    "cp1252", "cp1254", "cp1250", "cp1251", "cp1253", "cp1255", "cp1256", "cp1257", "cp1258",
    "iso8859-1", "iso8859-15", "iso8859-2", "iso8859-5", "iso8859-6", "iso8859-7", "iso8859-8",
    "iso8859-9", "iso8859-13", "koi8-r", "koi8-u", "mac-roman", "cp850", "cp437", "cp852",
    "cp857", "cp866", "cp932", "euc-jp", "gb18030", "big5", "cp949",
)  # fmt: skip
"""The first of equals is chosen: Windows before Unix before DOS."""
MULTI_BYTE = CANDIDATES[-5:]

ALPHABETS = {
    "English": "éèçñ",
    "French": "àâæçéèêëîïôœùûüÿ",
    "German": "äöüßéèêà",
    "Spanish": "áéíóúüñç",
    "Portuguese": "áâãàçéêíóôõúü",
    "Italian": "àèéìíîòóùú",
    "Swedish": "åäöéüà",
    "Danish": "æøåéöäü",
    "Dutch": "éëïóöüèáê",
    "Turkish": "çğıöşüâîûİ",
    "Polish": "ąćęłńóśźżé",
    "Czech": "áčďéěíňóřšťúůýž",
    "Slovak": "áäčďéíĺľňóôŕšťúýž",
    "Hungarian": "áéíóöőúüű",
    "Romanian": "ăâîșțşţ",
    "Croatian": "čćđšž",
    "Lithuanian": "ąčęėįšųūž",
    "Latvian": "āčēģīķļņšūž",
    "Estonian": "äöõüšž",
    "Vietnamese": "àáâãèéêìíòóôõùúýăđĩũơưåđ\u0300\u0301\u0303\u0309\u0323",
    "Greek": "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ",
    "Russian": "абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
    "Ukrainian": "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя",
    "Hebrew": "אבגדהוזחטיךכלםמןנסעףפץצקרשת",
    "Arabic": "ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىي",
}
REGIONS = {
    "Icelandic": "áðéíóúýþæö",
    "Western European": "àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿßœ",
    "Central European": "áăâąćčçďđéęěëíîĺľłńňóôöőŕřşśšșţťțúůüűýźżž",
}
"""Of shops that sell in several languages; ð and þ are more often a Turkish ğ and ş."""
REGION_WEIGHT = 0.8
PUNCTUATION = set("’‘“”„–—…•€£°®™©«»¿¡ºª½¼²³×\u00a0§₪№µ")
RARE_PUNCTUATION = set("‚´·¢¥±¹¾‹›÷¬¶†‡‰¨¸¯¤¦")
RARE_WEIGHT = 0.65

CONFIDENCE_WEIGHT = 0.3
"""Of chardet against the alphabets: measured on made-up exports in 22 languages."""
RANK_WEIGHT = 0.01
"""Of one place in `CANDIDATES`, divided by the number of bytes beyond ASCII."""
ASCII = bytes(range(128))
CERTAIN_LEAD = 0.15
FEW = 11
"""With fewer bytes beyond ASCII, nothing is certain."""


def choose_encoding(fields: Sequence[bytes], unseen: bytes = b"") -> tuple[str, bool, str, float]:
    """Python's name, whether no other reads about as well, why, and how well it reads (1 is best).

    `fields` are those that are not ASCII; no byte of `unseen` is anywhere in the file.
    """
    sample = b"\n".join(fields)
    confidences = _ask_chardet(sample)
    strongest = max(confidences.values(), default=0) or 1
    n_foreign = max(1, len(sample.translate(None, ASCII)))
    found = []
    for place, (codec, text) in enumerate(_decode_by_all(sample, unseen)):
        fit, language = rate_text(text)
        fit -= (sample.count(b"|") - text.count("|")) / max(
            1, sum(not one.isascii() for one in text)
        )
        score = fit + CONFIDENCE_WEIGHT * confidences.get(codec, 0) / strongest
        found.append((score - place * RANK_WEIGHT / n_foreign, codec, language, text, fit))
    found.sort(key=lambda one: one[0], reverse=True)
    score, codec, language, text, fit = found[0]
    rivals = [one[0] for one in found[1:] if one[3] != text]
    is_certain = n_foreign >= FEW and (not rivals or score - rivals[0] > CERTAIN_LEAD)
    return codec, is_certain, f"{language} letters: {name_encoding(codec)}", fit


def _decode_by_all(sample: bytes, unseen: bytes) -> Iterator[tuple[str, str]]:
    seen = bytes(range(128, 256)).translate(None, unseen) if unseen else b""
    for codec in CANDIDATES:
        with contextlib.suppress(UnicodeDecodeError):
            if codec not in MULTI_BYTE:
                seen.decode(codec)
            yield codec, sample.decode(codec)


def _ask_chardet(fields: bytes) -> dict[str, float]:
    import chardet

    answers = chardet.detect_all(
        fields, ignore_threshold=True, include_encodings=CANDIDATES, compat_names=False
    )
    ours = {codecs.lookup(one).name: one for one in CANDIDATES}
    ours |= {"euc_jis_2004": "euc-jp", "shift_jis_2004": "cp932", "big5hkscs": "big5"}
    return {
        ours[codecs.lookup(one["encoding"]).name]: one["confidence"]
        for one in reversed(answers)
        if one["encoding"] and codecs.lookup(one["encoding"]).name in ours
    }


def rate_text(text: str) -> tuple[float, str]:
    """The share (1 is best) of letters beyond ASCII that one alphabet has, and its language."""
    foreign = [one for one in text if not one.isascii()]
    letters = [_lower(one) for one in foreign if one not in PUNCTUATION | RARE_PUNCTUATION]
    fits: dict[str, float] = {
        language: sum(one in alphabet for one in letters)
        for language, alphabet in ALPHABETS.items()
    }
    for region, alphabet in REGIONS.items():
        fits[region] = REGION_WEIGHT * sum(one in alphabet for one in letters)
    fits["East Asian"] = sum(_is_east_asian(one) for one in letters)
    language = max(fits, key=fits.__getitem__)
    fit = float(fits[language]) + sum(one in PUNCTUATION for one in foreign)
    fit += RARE_WEIGHT * sum(one in RARE_PUNCTUATION for one in foreign)
    return (fit - _count_odd_places(text)) / max(len(foreign), 1), language


def _lower(letter: str) -> str:
    lower = letter.lower()
    return lower if len(lower) == 1 else letter  # İ becomes two


def _is_east_asian(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith(
        ("CJK UNIFIED", "HIRAGANA", "KATAKANA", "HANGUL SYL", "IDEOGRAPHIC", "FULLWIDTH")
    )


ODD_PLACES = re.compile(
    r"(?<=[0-9])[^\W\d_a-zA-Zºªµ]|(?<=[^\W\d_a-zA-Zºªµ])[0-9]"
    r"|(?<=[^\W\d_A-Z])[A-ZÀ-ÞĀ-ſΑ-ΩА-ЯЁ](?=.)"
    r"|(?<=[^\W\d_])[¼½¾¹²³](?=[^\W\d_])"
    r"|(?<=[^\W\d_])[^\w\s!-~’‘\u0300-\u036f–—”…®™](?=[^\W\d_])"
)


def _is_odd(before: str, here: str) -> bool:
    """Ł5 for £5, caf√© for café, aÁb."""
    if before.isdigit():
        return _name_script(here) == "LATIN"  # 1л and 6枚 are usual
    if here.isdigit():
        return not _is_east_asian(before)
    if here.isalpha():
        return before.islower() and here.isupper() and not (before + here).isascii()
    return True


def _count_odd_places(text: str) -> int:
    """Capitals and symbols inside of words, words of two scripts."""
    odd = sum(_is_odd(text[place.start() - 1], place[0]) for place in ODD_PLACES.finditer(text))
    for word in re.findall(r"[^\W\d_]{2,}", text):
        scripts = {_name_script(one) for one in word if one.isalpha()}
        odd += sum(not one.isascii() for one in word) if len(scripts) > 1 else 0
    return odd


SAME_SCRIPT = {"MASCULINE": "LATIN", "FEMININE": "LATIN", "MICRO": "LATIN"}
SAME_SCRIPT |= dict.fromkeys(("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"), "CJK")


def _name_script(letter: str) -> str:
    if letter.isascii():
        return "LATIN"
    script = unicodedata.name(letter, "").partition(" ")[0]
    return SAME_SCRIPT.get(script, script)


def name_encoding(codec: str) -> str:
    """As people write it: windows-1254."""
    if re.fullmatch(r"cp12\d\d", codec):
        return f"windows-{codec[2:]}"
    return codec.replace("iso8859", "iso-8859")
