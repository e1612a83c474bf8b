"""How personalised aesthetics is measured: which people, how many of their photographs, how often."""

from dataclasses import dataclass

import numpy as np

from analysis.taste.raters import Raters


@dataclass(frozen=True)
class Protocol:
    """A way to measure how well a person's scores are predicted from some of them."""

    name: str
    about: str
    shots: tuple[int, ...]
    """How many of a person's photographs are learned from; tested is on all her others."""
    n_draws: int
    """How often these are drawn anew; the same for every method."""
    n_people: int | None = None
    """People who are tested, drawn from those who scored enough; None: all."""
    n_folds: int | None = None
    """Parts of these people: each part is left out of the generic model that it is tested with. None: a part
    per person."""
    fewest_tested: int = 20
    """Photographs that have to be left for a person to be tested."""

    def __post_init__(self) -> None:
        if not self.shots or min(self.shots) < 4 or sorted(set(self.shots)) != list(self.shots):
            raise ValueError(f"shots are numbers from 4 on, ascending, not {self.shots}")
        if self.n_draws < 1 or self.fewest_tested < 2:
            raise ValueError("draws are 1 or more, and 2 photographs or more are tested")


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "curve",
            "everybody who scored enough, 10, 25, 50 and 100 photographs, 10 draws; each person is left out "
            "of the generic model that she is tested with",
            (10, 25, 50, 100),
            10,
        ),
        Protocol(
            "flickr-aes",
            "as on FLICKR-AES: 37 people, 100 photographs each (and 10), 10 draws; the generic model is of "
            "all other people",
            (10, 100),
            10,
            37,
            1,
            5,
        ),
        Protocol(
            "para",
            "as on PARA: 40 people in 4 parts, 10 and 100 photographs, 10 draws; the generic model of each "
            "part is of all other people",
            (10, 100),
            10,
            40,
            4,
        ),
    )
}
"""By name. The lists of people that publications test are part of the data sets: give them by name."""


def can_be_tested(raters: Raters, protocol: Protocol) -> bool:
    """True where there are two people, and somebody scored enough photographs, not all alike."""
    n_people = len(np.unique(raters.person))
    fewest = protocol.shots[0] + protocol.fewest_tested
    for person in range(len(raters.names) if n_people > 1 else 0):
        of_person = raters.person == person
        if len(np.unique(raters.row[of_person])) >= fewest and np.ptp(raters.score[of_person]) > 0:
            return True
    return False
