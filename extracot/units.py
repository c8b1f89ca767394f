"""Units that exclude each other, by what they measure: hours and minutes, feet and square feet.

Knows English names, signs and codes, singular and in lower case; of other words it says nothing.
"""

from __future__ import annotations

from itertools import chain

# Units that exclude each other, by what they measure; spellings of one unit share a line's item.
# Food's calories are kilocalories, so the two are one; capitals do not count (MB and Mb).
_MEASURES = """
    nm/nanometer/nanometre micron/microm/micrometer/micrometre mm/millimeter/millimetre
    cm/centimeter/centimetre dm/decimeter/decimetre m/meter/metre km/kilometer/kilometre
    in/inch/inche ft/foot/feet yd/yard furlong mi/mile nmi
    | mcg/microg/microgram mg/milligram g/gram kg/kilogram/kilo oz/ounce lb/pound stone ton/tonne
    | ns/nanosecond micro/microsecond ms/millisecond s/sec/second min/minute h/hr/hour day week
    fortnight month year/yr decade century/centurie
    | microl/microliter/microlitre ml/milliliter/millilitre cl/centiliter/centilitre
    dl/deciliter/decilitre l/liter/litre tsp/teaspoon tbsp/tablespoon cup pint quart
    gallon/gal bushel barrel
    | $/us$/dollar/usd/buck ¢/cent/penny/pennie €/euro/eur £/sterling/gbp/quid ¥/yen/jpy
    ₹/rupee/inr franc/chf yuan/cny/rmb peso/mxn/₱ won/krw/₩ ruble/rouble/rub/₽ zloty/pln krona/sek
    c$/ca$/cad a$/au$/aud ₺/lira ₫/dong/vnd ₴/hryvnia/uah ₪/shekel/ils ฿/baht/thb ₦/naira/ngn
    | am pm
    | c/celsiu/centigrade f/fahrenheit k/kelvin
    | deg/degree rad/radian
    | bit byte kb/kilobyte mb/megabyte gb/gigabyte tb/terabyte kib/kibibyte mib/mebibyte
    gib/gibibyte kbit/kilobit mbit/megabit gbit/gigabit
    | j/joule kj/kilojoule mj/megajoule cal/calorie/kcal/kilocalorie wh kwh mwh ev btu
    | w/watt kw/kilowatt mw/megawatt gw/gigawatt hp/horsepower
    | n/newton kn/kilonewton
    | pa/pascal kpa/kilopascal mpa/megapascal psi bar atm/atmosphere mmhg
    | hz/hertz khz/kilohertz mhz/megahertz ghz/gigahertz rpm
    | v/volt kv/kilovolt mv/millivolt
    | amp/ampere ma/milliamp/milliampere
    | acre ha/hectare
"""
MEASURE = {
    spelling: (dimension, unit)
    for dimension, line in enumerate(_MEASURES.split("|"))
    for unit, item in enumerate(line.split())
    for spelling in item.split("/")
}
_POWERS = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}
# Units of two in one word.
_COMPOUNDS = {
    "mph": ("mi", "h"),
    "kph": ("km", "h"),
    "kmh": ("km", "h"),
    "kmph": ("km", "h"),
    "knot": ("nmi", "h"),
    "fps": ("ft", "s"),
    "mps": ("m", "s"),
    "kbps": ("kbit", "s"),
    "mbps": ("mbit", "s"),
    "gbps": ("gbit", "s"),
}
_SHORT_WORDS = "st nd rd th pt pc qt yo wk mo mpg mol ohm ct px ppm bpm dpi doz dz rev"
SHORT = frozenset((*MEASURE, *_COMPOUNDS, *_SHORT_WORDS.split()))


def units_differ(left: tuple[str, ...], right: tuple[str, ...]) -> bool:
    """Whether two units measure the same thing in another way: hours and minutes, a.m. and p.m.,
    feet and square feet. What only one of them measures does not count.

    >>> units_differ(("mile", "per", "hour"), ("mile", "per", "minute"))
    True
    >>> units_differ(("$", "a", "day"), ("day",)), units_differ(("cm^2",), ("square", "cm"))
    (False, False)
    """
    one, other = _known_units(left), _known_units(right)
    shared = {unit[0] for unit in one} & {unit[0] for unit in other}
    pairs = zip(
        (unit for unit in one if unit[0] in shared),
        (unit for unit in other if unit[0] in shared),
        strict=False,
    )
    return any(a != b for a, b in pairs)


def _known_units(words: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """What they measure, the unit, and its power without a sign; no unit twice running."""
    found: list[tuple[int, int, str]] = []
    before = ""
    for index, word in enumerate(chain.from_iterable(_COMPOUNDS.get(w, (w,)) for w in words)):
        name, _, power = word.partition("^")
        measure = MEASURE.get("nmi" if (before, name) == ("nautical", "mile") else name)
        # Between words, "in" is no inch.
        if measure and (name != "in" or index == 0 or before in _POWERS or before == "per"):
            unit = (*measure, _POWERS.get(before) or power.strip("-") or "1")
            found += [unit] if found[-1:] != [unit] else []
        before = word
    return found
