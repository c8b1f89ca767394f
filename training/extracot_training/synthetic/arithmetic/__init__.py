"""Arithmetic written out digit by digit, and questions that ask for nothing else.

``written`` writes a calculation out, ``tasks`` draws calculations, ``asking`` asks for them in a
sentence, ``make`` is the seeded drawing. A small model copies single digits reliably and guesses
whole sums, so what it learns from works with single digits.
"""

from extracot_training.synthetic.arithmetic.make import Arithmetic, ArithmeticProblem

__all__ = ["Arithmetic", "ArithmeticProblem"]
