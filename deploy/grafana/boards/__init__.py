"""The three dashboards, a module each."""

from boards.budgets import BUDGETS
from boards.savings import SAVINGS
from boards.serving import SERVING

DASHBOARDS = (SAVINGS, BUDGETS, SERVING)
