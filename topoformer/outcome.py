"""What a method may say beside its order: a bound it has proven, what each of its phases contributed, how far it is."""

from collections.abc import Callable
from typing import NamedTuple

from graphs import Order
from graphs.cuts import Witness
from graphs.implied import Refutation


class Phase(NamedTuple):
    """What was known when a phase of a search ended."""

    name: str
    seconds: float  # that it took
    peak_bytes: int
    bound_bytes: int


class Standing(NamedTuple):
    """How far a search is: told whenever a phase begins, and when the best order or the bound changes."""

    phase: str  # that has begun
    value: float  # of what is minimised, for the best order so far: bytes, seconds or parts of the program's
    peak_bytes: int  # of that order
    bound_bytes: int  # no order has a lower peak
    seconds_left: float


Progress = Callable[[Standing], None]


class Outcome(NamedTuple):
    """An order with what its search has proven."""

    order: Order
    bound_bytes: int = 0  # no legal order has a lower peak
    witness: Witness | Refutation | None = None  # its proof, where it is a minimum cut or follows from such
    phases: tuple[Phase, ...] = ()
    interrupted: bool = False  # by the user, before it was done
    narrowed: str = ""  # by how much precedences narrowed the search
