"""The dashboards, a module each."""

from boards.budgets import BUDGETS
from boards.savings import SAVINGS
from boards.serving import SERVING
from boards.usage import USAGE

DASHBOARDS = (SAVINGS, BUDGETS, SERVING, USAGE)
