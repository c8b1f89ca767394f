"""Words behind a number in other languages: their letters, and what they make of the number.

``5 тысяч`` and ``5万`` are no 5, and ``3小时半`` is no 3. Only scripts are read whose words of that
kind are listed here; English has its own in :mod:`extracot.number_words`. Knows no units.
"""

from __future__ import annotations

import re
import unicodedata
from math import prod

LETTERS = (
    "A-Za-zÀ-ÖØ-öø-ɏḀ-ỿ\u0300-\u036f"  # Latin, and marks
    "\u0370-\u0373\u0376\u0377\u0386\u0388-\u03ff\u1f00-\u1fff"  # Greek
    "\u0400-\u0481\u048a-\u052f"  # Cyrillic
    "\u05b0-\u05bd\u05d0-\u05ea"  # Hebrew
    "\u0620-\u065f\u066e-\u06d3\u06d5\u200c\u200d"  # Arabic, and joiners
    "\u0900-\u0963\u0970-\u097f\u0980-\u09e3"  # Devanagari, Bengali
    "\u0e01-\u0e3a\u0e40-\u0e4e"  # Thai
    "\u3005\u3041-\u3096\u30a1-\u30fa\u30fc\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
)
"""Letters and their marks, for a class of a pattern; texts have to be composed (NFC)."""

_SCALES = {
    10: "십 สิบ 十",
    100: "백 ร้อย सौ শত yüz trăm 百",
    1000: """
        тысяча тысячи тысяч тыс тисяча тисячі тисяч tausend mille tysiąc tysiące tysięcy tisíc
        tisíce duizend tusen tusind nghìn ngàn ribu ezer ألف الف آلاف ألفا هزار ہزار אלף אלפים हज़ार
        হাজার พัน χιλιάδες 천 千
    """,
    10**4: "หมื่น 만 万 萬",
    10**5: "lakh लाख লাখ লক্ষ لاکھ แสน 십만",
    10**6: """
        миллион миллиона миллионов млн мільйон мільйони мільйонів millón millones millionen milhão
        milhões milione milioni milion miliony milionów milionů milyon miljoen miljoner millioner
        triệu juta millió milioane مليون ملايين میلیون מיליון ล้าน εκατομμύριο εκατομμύρια 백만
    """,
    10**7: "crore करोड़ কোটি کروڑ 천만",
    10**8: "억 亿 億",
    10**9: """
        миллиард миллиарда миллиардов млрд мільярд мільярди мільярдів milliard milliarde milliarden
        miliard miliarda miliardy miliardów bilhão bilhões miliardo miliardi milyar miljard
        miljarder tỷ tỉ miliar milliárd miliarde مليار مليارات میلیارد מיליארד δισεκατομμύρια
    """,
    10**12: "billones billionen",
}
# Words that make another number of it, or none: halves, thirds, tenths, "or", "about", "not".
_CHANGING = """
    oder halb halbe halber halbes einhalb demi demie medio mezzo meio meia halv halvt fél jumătate
    pół půl puoli yarım buçuk rưỡi nửa setengah terço
    eller vagy sau lub nebo veya hoặc atau nicht
    или не половина половины половиной полтора полторы або половиною
    треть трети третей третьих четверть четверти четвертей четвёртых четвертых пятых шестых седьмых
    восьмых девятых десятая десятых сотая сотых тысячная тысячных квадрате кубе степени
    نصف ونصف أو او ربع وربع ثلث نیم یا חצי וחצי רבע ורבע או आधा आधे या অর্ধেক আধা বা μισή μισό
    반 시간반 개반 년반 달반 또는 정도 쯤 または
"""
_PHRASES = (
    "y media", "y cuarto", "au carré", "au cube", "al cuadrado", "al cubo", "zum quadrat",
)  # fmt: skip
_ENDINGS = re.compile(
    r"\w*(?:drit|vier|fünf|sechs|sieb|sieben|ach|neun|zehn|hunderts|tausends)teln?|\w+ièmes?"
    r"|(?:décim|centésim|milésim)[oa]s?|.*(?:이상|이하|미만|초과|분의).*|.*(?:ครึ่ง|หรือ).*"
)
_HAN_NUMBER = "[一二三四五六七八九十百千万萬亿億兆两兩]"
_HAN_CHANGING = re.compile(
    rf"^{_HAN_NUMBER}|[点點又零]{_HAN_NUMBER}|[个個][百千万萬亿億兆]|半(?![径徑圆圓球])|多(?![边邊])"
    "|[余餘几幾或]|以上|以下|左右|未[满満滿]|分之|分の|または|的[平立]方|次方"
)
_HAN_SCALE = re.compile("(?:百(?!分)|千(?![克米瓦卡帕焦赫伏字])|[十万萬亿億])+")
_HAN_PREFIX = re.compile("[千兆](?=[克米瓦卡帕焦赫伏字])|百(?=分[比点點])")
_HANGUL_SCALE = re.compile("(십만|백만|천만|십|백|천|만|억)(원|명|개|달러)?")
_HANGUL_NUMBER = re.compile("[십백천만억]|조(?!각)")
_THAI_NUMBER = re.compile("สิบ|ร้อย|พัน|หมื่น|แสน|ล้าน")

_UNSPACED = re.compile("[\u3005-\u4dbf\u4e00-\u9fff\uac00-\ud7a3]")
_UNIT_LETTERS = frozenset("гмтлчср")
_GREEK = re.compile("[\u0370-\u03ff\u1f00-\u1fff]")
_SHORTEST_GREEK = 4
_LIKE_LATIN = frozenset("асеорхук")


def _words(text: str) -> list[str]:
    return unicodedata.normalize("NFC", text).split()


_SCALE = {
    word.removesuffix("s"): scale for scale, words in _SCALES.items() for word in _words(words)
}
_CHANGES = frozenset(_words(_CHANGING))


def scaled(words: tuple[str, ...]) -> tuple[int, tuple[str, ...]] | None:
    """What words behind a number multiply it by, and the words that are left; ``None`` where they
    make something else of it. Words are in lower case, without an ``s`` at their ends.

    >>> scaled(("тысяч", "рублей")), scaled(("万元",)), scaled(("千克",))
    ((1000, ('рублей',)), (10000, ('元',)), (1, ('千克',)))
    >>> scaled(("小时半",)), scaled(("или", "больше"))
    (None, None)
    """
    if not words:
        return 1, words
    scale, rest = _scale(words[0])
    left = ((rest,) if rest else ()) + words[1:]
    spaced = f" {' '.join(left)} "
    if any(map(_changes, left)) or any(f" {phrase} " in spaced for phrase in _PHRASES):
        return None
    return scale, left


def _scale(word: str) -> tuple[int, str]:
    """By what a word begins to multiply, and the rest of the word."""
    if word in _SCALE:
        return _SCALE[word], ""
    if han := _HAN_SCALE.match(word):
        return prod(_SCALE[character] for character in han[0]), word[han.end() :]
    if hangul := _HANGUL_SCALE.fullmatch(word):
        return _SCALE[hangul[1]], hangul[2] or ""
    return 1, word


def _changes(word: str) -> bool:
    return (
        word in _CHANGES
        or word in _SCALE
        or _ENDINGS.fullmatch(word) is not None
        or _HAN_CHANGING.search(_HAN_PREFIX.sub("", word)) is not None
        or _HANGUL_NUMBER.match(word) is not None
        or _THAI_NUMBER.match(word) is not None
    )


def is_letter(word: str, *, glued: bool) -> bool:
    """Whether a word may be a variable or a sign of mathematics: a single letter that is no unit by
    itself, a few Greek ones. ``glued``: it stands right behind the digits.

    >>> is_letter("個", glued=True), is_letter("г", glued=False), is_letter("αβ", glued=False)
    (False, False, True)
    """
    if word.isascii() or not word[0].isalpha() or _UNSPACED.match(word):
        return False
    if _GREEK.search(word):
        return glued or len(word) < _SHORTEST_GREEK
    if glued and _LIKE_LATIN.issuperset(word):
        return True
    return len(word) == 1 and (glued or word not in _UNIT_LETTERS)
