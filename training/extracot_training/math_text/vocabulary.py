"""Words that mean something in mathematics: units, functions, LaTeX commands, names."""

from __future__ import annotations

_UNIT_NAMES = (
    "% ° °C °F mm cm dm m km ft yd mi inch inches foot feet yard yards mile miles meter meters "
    "metre metres centimeter centimeters centimetre centimetres kilometer kilometers kilometre "
    "kilometres mg g kg t lb lbs oz gram grams kilogram kilograms pound pounds ounce ounces ton "
    "tons ml cl l L liter liters litre litres gallon gallons cup cups s sec secs second seconds "
    "min mins minute minutes h hr hrs hour hours day days week weeks month months year years mph "
    "kmh km/h m/s cent cents dollar dollars euro euros pence USD EUR GBP percent degree degrees "
    "square cubic dozen points times J kJ W kW V A Hz kHz N Pa K mol rad AM PM a.m. p.m."
)
UNITS = frozenset(_UNIT_NAMES.split())
# Units of which a smaller one may follow: "3 ft 2 in", "1 hour 30 minutes".
SMALLER_UNITS = UNITS - {"%", "°", "times", "square", "cubic", "dozen", "points", "percent"} | {
    "in", "PM", "AM", "pm", "am"
}  # fmt: skip

_FUNCTION_NAMES = (
    "sin cos tan sec csc cot sinh cosh tanh coth arcsin arccos arctan asin acos atan ln log lg exp "
    "sqrt cbrt gcd lcm hcf GCD LCM HCF max min abs det dim rank tr lim sup inf Pr Var Cov floor "
    "ceil sgn sign mod Re Im arg deg ker Log Sin Cos Tan div rem nCr nPr cis"
)
FUNCTIONS = frozenset(_FUNCTION_NAMES.split())

# Functions that are ordinary words, too: they want their argument in brackets right behind.
_WORDLIKE_WORDS = "floor ceil sign max min mod deg rank dim div rem det exp arg tr Re Im"
WORDLIKE = frozenset(_WORDLIKE_WORDS.split())

_RELATIONS_WORDS = (
    "le leq leqslant ge geq geqslant ne neq lt gt approx equiv sim simeq cong propto in notin ni "
    "subset subseteq supset supseteq mid nmid perp parallel ll gg doteq"
)
RELATIONS = frozenset(_RELATIONS_WORDS.split())
ARROWS = frozenset(
    [
        "to",
        "rightarrow",
        "longrightarrow",
        "mapsto",
        "implies",
        "iff",
        "Rightarrow",
        "Longrightarrow",
        "Leftrightarrow",
    ]
)
_OPERATORS_WORDS = "times cdot div pm mp cup cap setminus circ oplus otimes wedge vee ast star"
OPERATORS = frozenset(_OPERATORS_WORDS.split())
# Commands of text, not of formulas.
_PROSE_WORDS = (
    "item section subsection subsubsection paragraph textbf textit emph begin end hline noindent "
    "newline par label ref cite caption therefore because underline footnote n t r"
)
PROSE = frozenset(_PROSE_WORDS.split())
# Commands that take what follows as their argument even without braces.
_PREFIX_COMMANDS_WORDS = (
    "sqrt frac dfrac tfrac cfrac binom dbinom tbinom sum prod int iint oint lim angle triangle "
    "overline underline vec hat bar neg forall exists partial nabla measuredangle not sin cos tan "
    "sec csc cot sinh cosh tanh arcsin arccos arctan ln log lg exp gcd max min det dim sup inf Pr "
    "pmod bmod deg ker arg operatorname"
)
PREFIX_COMMANDS = frozenset(_PREFIX_COMMANDS_WORDS.split())

_SHORT_WORDS_WORDS = (
    "ah am an as at be by do eg ex go ha he hi id ie if in is it me mm mr ms my no of oh ok on or "
    "ox pm so to up us vs we"
)
_SHORT_WORDS = frozenset(_SHORT_WORDS_WORDS.split())
# Articles and pronouns that look like names of quantities.
PROSE_LETTERS = frozenset("aAI")


def is_symbol(word: str) -> bool:
    """Whether a word looks like a name in a formula wherever it stands: ``x``, ``AB``, ``dx``,
    ``x_1``.

    >>> [word for word in ["x", "AB", "of", "dx", "the", "a_n"] if is_symbol(word)]
    ['x', 'AB', 'dx', 'a_n']
    """
    if len(word) == 1 or "_" in word:
        return True
    if len(word) == 2 and word.islower():
        return word not in _SHORT_WORDS
    return len(word) <= 4 and word.isupper() and word.lower() not in _SHORT_WORDS
