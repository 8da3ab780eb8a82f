"""Bayesian optimisation over permutations, a batch at a time: ask for orders, tell what they gave."""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bayesopt_perm._kernels import Float64Array, Int64Array
from bayesopt_perm.acquisition import ACQUISITIONS, estimated_optimum
from bayesopt_perm.batch import BATCH_RULES, Round, pick
from bayesopt_perm.covariance import NAMES
from bayesopt_perm.journal import Journal, JournalError
from bayesopt_perm.result import Evaluation
from bayesopt_perm.search import NATURAL_MOVES, Scorer, candidates, every_candidate
from bayesopt_perm.space import MOVES, PermutationSpace
from bayesopt_perm.surrogate import Choice, Surrogate, check_kernel, conditioned, fit
from bayesopt_perm.threads import one_thread

__all__ = ["BayesOpt"]

LARGEST = 1e150  # of a value, or its square overflows
MOST_DRAWS = 50  # rounds of random orders before all are gone through
SMALL = 3000  # members of a space that are all scored rather than searched


class BayesOpt:
    """Minimises an objective over ``space`` with few evaluations, several at once.

    ``orders = opt.ask()`` gives int64[batch_size, n] orders to evaluate, ``opt.tell(orders, values)`` takes float64
    values; NaN, infinity, a number beyond 1e150 or None means that the evaluation failed. Orders may be told in any
    number and sequence, also ones never asked for; those asked for and not told are ``pending`` and count for the next
    ask. The first ``initial`` orders are those of ``start``, then random ones. What is asked depends on the seed and on
    what was asked and told before, on nothing else. By default a batch is chosen by LAW, the acquisition-weighted
    kernel of Oh et al., NeurIPS 2022 (arXiv 2102.13382), section 3.

    Args:
        space: what is searched.
        batch_size: orders of one ask, at least 1.
        seed: of every random choice, not negative.
        initial: evaluations before there is a model, at least 2.
        kernel: "auto", a name of ``bayesopt_perm.covariance.NAMES``, several of them (the likeliest is used), or a
            gpytorch kernel.
        acquisition: "logei", "ei", "ucb" or "est".
        batch: a key of ``bayesopt_perm.batch.BATCH_RULES``.
        start: orders to begin with, int64[s, n]: what is in use today, or what a cheaper search found.
        moves: names of moves for the search inside a round; "auto" takes those that suit the kernel chosen.
        journal: a file that makes the search survive the process; opened again, it goes on where it stopped.
        tag: what is minimised, in any words: a journal with another tag is refused.

    Raises:
        ValueError: if an argument is not as above, or the space has fewer members than a batch.
        JournalError: if the journal is in use, damaged or of another search.

    Example:
        >>> import numpy as np
        >>> from bayesopt_perm import BayesOpt, PermutationSpace
        >>> minutes = np.array([3, 1, 2, 5])
        >>> opt = BayesOpt(PermutationSpace(4), batch_size=3, initial=6)
        >>> for _ in range(8):  # all 24 orders, three at a time
        ...     orders = opt.ask()  # int64[3, 4]
        ...     opt.tell(orders, minutes[orders].cumsum(1)[:, :-1].sum(1))  # minutes that all jobs wait, together
        >>> opt.best.order.tolist(), opt.best.value, len(opt.pending)
        ([1, 2, 0, 3], 10.0, 0)
        >>> opt.surrogate().predict(opt.best.order[None])[0].round(1).tolist()
        [10.0]
    """

    def __init__(
        self,
        space: PermutationSpace,
        *,
        batch_size: int = 5,
        seed: int = 0,
        initial: int = 30,
        kernel: str | Sequence[str] | Any = "auto",
        acquisition: str = "logei",
        batch: str = "law",
        moves: str | Sequence[str] = "auto",
        start: ArrayLike | None = None,
        journal: str | os.PathLike[str] | None = None,
        tag: str | None = None,
    ) -> None:
        _known("acquisition", acquisition, ACQUISITIONS)
        _known("batch", batch, BATCH_RULES)
        _names("moves", moves, MOVES)
        if isinstance(kernel, str | Sequence):
            _names("kernel", kernel, NAMES)
        else:
            check_kernel(kernel)
        for name, number, least in (("batch_size", batch_size, 1), ("initial", initial, 2), ("seed", seed, 0)):
            if number < least:
                raise ValueError(f"'{name}' must be at least {least} (got {number})")
        given = np.asarray(start if start is not None else ())
        self.start = space.check(given).copy() if given.size else np.empty((0, space.n), np.int64)
        wanted = max(int(initial), len(self.start))
        members = space.count(at_most=max(batch_size, SMALL, wanted) + 1)
        if batch_size > members:
            raise ValueError(f"'batch_size' is {batch_size}, but the space has only {members} members")
        self.space, self.batch_size, self.seed = space, int(batch_size), int(seed)
        self.initial = min(wanted, members)
        self.kernel, self.acquisition, self.batch, self.moves, self.tag = kernel, acquisition, batch, moves, tag
        self.history: list[Evaluation] = []
        self.choice: Choice | None = None
        self._small = members <= SMALL
        self._asks = 0
        self._given = 0  # orders asked for or told so far: the next one's number
        self._pending: dict[bytes, tuple[int, Int64Array]] = {}
        self._numbers: list[int] = []  # of each evaluation; the surrogate takes them in this order, whoever is first
        self._journal = None
        if journal is not None:
            self._journal = Journal(journal, self._header())
            try:
                for entry in self._journal.entries:
                    self._replay(entry)
            except (KeyError, TypeError, ValueError) as error:
                self._journal.close()
                raise JournalError(f"{self._journal.path}: an entry is not one of this version ({error})") from error

    @property
    def pending(self) -> Int64Array:
        """Orders asked for and not told yet, int64[p, n], as they were asked."""
        return np.array([order for _, order in self._pending.values()], np.int64).reshape(-1, self.space.n)

    @property
    def best(self) -> Evaluation | None:
        """The evaluation with the lowest value, None before the first success."""
        good = [evaluation for evaluation in self.history if evaluation.failure is None]
        return min(good, key=lambda evaluation: evaluation.value, default=None)

    def ask(self, count: int | None = None) -> Int64Array:
        """At most ``count`` (default: the batch size) new orders, int64[b, n]; none once every member was asked for.

        Until ``initial`` orders were asked for they are random, and never more than are left of those.

        Raises:
            ValueError: if ``count`` is not positive.
        """
        count = self.batch_size if count is None else count
        if count < 1:
            raise ValueError(f"'count' must be at least 1 (got {count})")
        rng = np.random.default_rng([self.seed, self._asks])
        values = self._values()
        known = len(self.history) + len(self._pending)
        if known < self.initial or not np.isfinite(values).any():
            orders = self._first(min(count, self.initial - known) if known < self.initial else count, rng)
        else:
            with one_thread(known):
                orders = self._round(values, count, rng)
        choice = asdict(self.choice) if self.choice else None
        self._write({"ask": self._asks, "orders": orders.tolist(), "choice": choice})
        self._asked(orders)
        return orders

    def tell(self, orders: ArrayLike, values: ArrayLike, failures: Sequence[str | None] | None = None) -> None:
        """Take the ``values`` (float64[b]) of ``orders`` (int64[b, n]); ``failures`` may say why one has none.

        Raises:
            ValueError: if an order is not a member of the space or the numbers of the two differ.
        """
        rows = self.space.check(orders)
        numbers = np.array(values, np.float64).reshape(-1)  # a copy; None becomes NaN
        if len(numbers) != len(rows) or (failures is not None and len(failures) != len(rows)):
            raise ValueError(f"{len(rows)} orders need as many values (got {len(numbers)})")
        reasons: list[str | None] = list(failures) if failures is not None else [None] * len(rows)
        for index, value in enumerate(numbers):
            if not abs(value) <= LARGEST:
                numbers[index], reasons[index] = math.nan, reasons[index] or f"the value is {value}"
            elif reasons[index]:
                numbers[index] = math.nan
        written = [None if math.isnan(value) else value for value in numbers.tolist()]
        self._write({"tell": rows.tolist(), "values": written, "failures": reasons})
        self._told(rows, numbers, reasons)

    def surrogate(self) -> Surrogate:
        """The model of what was told so far; failures count as the worst value seen, which keeps the search away.

        Raises:
            ValueError: if nothing was told yet, or all of it failed.
        """
        values = self._values()
        if not np.isfinite(values).any():
            raise ValueError("a surrogate needs at least one evaluation that gave a value")
        values = np.where(np.isnan(values), np.nanmax(values), values)
        ranked = np.argsort(self._numbers, kind="stable")
        orders = np.array([self.history[index].order for index in ranked])
        return fit(orders, values[ranked], self.kernel, self.choice)

    def close(self) -> None:
        """Let another process have the journal."""
        if self._journal:
            self._journal.close()

    def _values(self) -> Float64Array:
        return np.array([evaluation.value for evaluation in self.history], np.float64)

    def _seen(self) -> set[bytes]:
        return {evaluation.order.tobytes() for evaluation in self.history} | set(self._pending)

    def _first(self, count: int, rng: np.random.Generator) -> Int64Array:
        """``count`` new orders without a model: those of ``start``, then random ones."""
        seen = self._seen()
        given = {order.tobytes(): order for order in self.start if order.tobytes() not in seen}
        orders = np.array(list(given.values())[:count], np.int64).reshape(-1, self.space.n)
        return np.concatenate([orders, self._random(count - len(orders), seen | set(given), rng)])

    def _random(self, count: int, seen: set[bytes], rng: np.random.Generator) -> Int64Array:
        if self._small:
            rest = [order for order in self.space if order.tobytes() not in seen]
            chosen = rng.permutation(len(rest))[:count]
            return np.array([rest[index] for index in chosen], np.int64).reshape(-1, self.space.n)
        found: dict[bytes, Int64Array] = {}
        draws = 0
        while len(found) < count and draws < MOST_DRAWS:
            for order in self.space.sample(count - len(found), rng):
                if order.tobytes() not in seen:
                    found[order.tobytes()] = order
            draws += 1
        if len(found) < count:  # hardly any are left
            for order in self.space:
                if len(found) == count:
                    break
                if order.tobytes() not in seen:
                    found[order.tobytes()] = order
        return np.array(list(found.values()), np.int64).reshape(-1, self.space.n)

    def _round(self, values: Float64Array, count: int, rng: np.random.Generator) -> Int64Array:
        """A batch, divided between the likeliest kernel and those that the values do not tell from it yet."""
        told = self.surrogate()
        self.choice = told.choice
        models = [told]
        for kernel, lengthscale, noise in self.choice.rivals if self.choice else ():
            models.append(conditioned(Choice(kernel, lengthscale, noise, 0), told.orders, told.y))
        first = self._asks % len(models)  # so that they take turns where there are more of them than orders
        found: list[Int64Array] = []
        for place in range(len(models)):
            share = (count + len(models) - 1 - place) // len(models)
            if share:
                found.extend(self._part(models[(first + place) % len(models)], values, share, found, rng))
        if len(found) < count and not self._small:  # what the search met was less than a batch
            seen = self._seen() | {order.tobytes() for order in found}
            found.extend(self._random(count - len(found), seen, rng))
        return np.array(found, np.int64).reshape(-1, self.space.n)

    def _part(
        self, told: Surrogate, values: Float64Array, count: int, chosen: Sequence[Int64Array], rng: np.random.Generator
    ) -> Int64Array:
        """At most ``count`` orders that ``told`` thinks well of, those in ``chosen`` being asked for too."""
        model = told.pending(np.concatenate([self.pending, np.array(chosen, np.int64).reshape(-1, self.space.n)]))
        best = (float(np.nanmin(values)) - model.center) / model.spread
        scorer = Scorer(model, ACQUISITIONS[self.acquisition], best)
        if self.acquisition == "est":
            around = scorer(
                np.concatenate([self.space.sample(500 if not self.space.precedence else 10, rng), told.orders])
            )
            scorer = Scorer(model, scorer.acquisition, estimated_optimum(around.mean, around.sd, best))
        seen = self._seen() | {order.tobytes() for order in chosen}
        if self._small:
            found = every_candidate(scorer, self.space, seen)
        else:
            found = candidates(scorer, self.space, self._moves(told.choice), seen, rng)
        return pick(self.batch, Round(model, found, self.acquisition, best, rng), count)

    def _moves(self, choice: Choice | None) -> Sequence[str]:
        if self.moves == "auto":
            return NATURAL_MOVES[choice.kernel] if choice else ("swap", "insert")
        return [self.moves] if isinstance(self.moves, str) else self.moves

    def _header(self) -> dict[str, Any]:
        kernel = self.kernel if isinstance(self.kernel, str | Sequence) else type(self.kernel).__name__
        return {
            "n": self.space.n,
            "precedence": self.space.precedence,
            "seed": self.seed,
            "initial": self.initial,
            "kernel": kernel,
            "acquisition": self.acquisition,
            "batch": self.batch,
            "moves": self.moves,
            "start": self.start.tolist() if len(self.start) else None,
        } | ({} if self.tag is None else {"tag": self.tag})

    def _write(self, entry: dict[str, Any]) -> None:
        if self._journal:
            self._journal.append(entry)

    def _replay(self, entry: dict[str, Any]) -> None:
        if "ask" in entry:
            self.choice = Choice(**entry["choice"]) if entry["choice"] else None
            self._asked(np.array(entry["orders"], np.int64).reshape(-1, self.space.n))
        else:
            values = np.array(entry["values"], np.float64)
            self._told(np.array(entry["tell"], np.int64).reshape(-1, self.space.n), values, entry["failures"])

    def _asked(self, orders: Int64Array) -> None:
        self._asks += 1
        for order in orders:
            self._pending[order.tobytes()] = (self._given, order.copy())  # the caller may change his
            self._given += 1

    def _told(self, orders: Int64Array, values: Float64Array, failures: Sequence[str | None]) -> None:
        for order, value, failure in zip(orders, values.tolist(), failures, strict=True):
            number, _ = self._pending.pop(order.tobytes(), (self._given, order))
            self._given += number == self._given
            self.history.append(Evaluation(order.copy(), value, failure))
            self._numbers.append(number)


def _known(argument: str, name: Any, choices: Any) -> None:
    if name not in choices:
        raise ValueError(f"unknown '{argument}' {name!r} (known: {', '.join(choices)})")


def _names(argument: str, given: str | Sequence[str], choices: Any) -> None:
    """``given`` must be "auto", one of ``choices`` or several of them."""
    if not len(given):
        raise ValueError(f"'{argument}' must not be empty (known: auto, {', '.join(choices)})")
    if isinstance(given, str):
        _known(argument, given, ["auto", *choices])
    else:
        for name in given:
            _known(argument, name, choices)
