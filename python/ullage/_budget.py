"""Budgets: what objects may cost in total, in several currencies, and what they do."""

import math
from collections import Counter
from collections.abc import Mapping

from ullage import _sizes

Amount = int | float | str
Given = Mapping[str, Amount] | Amount
"""What users give as a budget or as a cost: an amount by currency, or one amount if there is one currency."""
Cost = Mapping[str, int]

# A bound on the number of objects is a budget too: each costs one of these.
_EACH = "instances"


class Budget:
    """Bounds by currency, and what is spent. Not locked: its owner's lock guards it."""

    def __init__(self, maxsize: int | None, budget: Given | None) -> None:
        given = {} if budget is None else budget if isinstance(budget, Mapping) else {"bytes": budget}
        if budget is not None and not given:
            raise ValueError("a budget of several currencies names at least one, as in {'bytes': '8 GiB'}")
        for currency in given:
            if not isinstance(currency, str) or currency in ("", _EACH):
                raise TypeError(f"a currency of a budget is a name such as 'bytes' or 'vram'; got {currency!r}")
        self.given = {currency: _sizes.size(amount, f"budget of {currency}") for currency, amount in given.items()}
        self.maxsize = _sizes.count(maxsize, "maxsize")
        self._bounds = self.given if self.maxsize is None else {_EACH: self.maxsize, **self.given}
        self._spent: Counter[str] = Counter()
        self._peak: Counter[str] = Counter()

    # Questions.

    def cost(self, given: Given | None, source: str) -> Cost:
        """What `source` said that an object costs. Raises ValueError for what could never be spent."""
        if given is None:
            return {_EACH: 1}
        if not isinstance(given, Mapping):
            if len(self.given) != 1:
                raise TypeError(f"{source} must return a mapping of {', '.join(self.given)} to numbers; got {given!r}")
            given = dict.fromkeys(self.given, given)
        cost = {_EACH: 1}
        for currency, amount in given.items():
            if currency not in self.given:
                raise ValueError(f"{source} returned {currency!r}; the budget knows {', '.join(self.given)}")
            cost[currency] = _amount(amount, f"{source} of {currency}")
            if cost[currency] > (bound := self.given[currency]):
                raise ValueError(f"it costs {cost[currency]} {currency}, more than the whole budget of {bound}")
        return cost

    def lacking(self, cost: Cost | None = None) -> dict[str, int]:
        """By currency, how much must be given back for this to be spent too, or so that no bound is passed."""
        lacking = {}
        for currency, bound in self._bounds.items():
            more = 0 if cost is None else cost.get(currency, 0)
            short = self._spent[currency] + more - bound
            if short > 0 and (more or cost is None):
                lacking[currency] = short
        return lacking

    def spent(self) -> dict[str, int]:
        """By currency."""
        return {currency: self._spent[currency] for currency in self.given}

    def peak(self) -> dict[str, int]:
        """The most that was ever spent, by currency."""
        return {currency: self._peak[currency] for currency in self.given}

    # Moves.

    def spend(self, cost: Cost, back: Cost | None = None) -> None:
        """Takes one cost, and gives another back."""
        self._spent.update(cost)
        self._spent.subtract(back or {})
        self._peak |= self._spent

    def clear(self) -> None:
        """Nothing is spent."""
        self._spent.clear()


def _amount(amount: object, name: str) -> int:
    """A number of at least 0, or a size such as "4 GiB"."""
    if isinstance(amount, str):
        return _sizes.size(amount, name)
    if isinstance(amount, float):
        if not 0 <= amount < math.inf:
            raise ValueError(f"{name} must be a number of at least 0; got {amount}")
        return math.ceil(amount)
    return _sizes.whole(amount, name)
