"""When the test part of logs begins, and over which days the items' impressions are counted before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adasid_exp.data.log_core import HOUR

DAY = 24 * HOUR


@dataclass(frozen=True, kw_only=True)
class LogWindows:
    """Cuts in time, at whole hours.

    Attributes:
        test_share: of the impressions, the latest: the test window holds at least so many of them.
        validation_share: of the others, the latest.
        count_days: days before the test window over which interactions are counted.
    """

    test_share: float
    validation_share: float
    count_days: int

    def edges(self, hours: np.ndarray, counts: np.ndarray, ticks_per_second: int) -> dict[str, int | None]:
        """``count_start, validation_start, test_start`` in ticks; all None where there is no impression.

        Args:
            hours: since 1970, ascending, int64.
            counts: impressions of each.
            ticks_per_second: of the timestamps.
        """
        if not len(hours):
            return {"count_start": None, "validation_start": None, "test_start": None}
        test = _latest(counts, self.test_share)
        validation = _latest(counts[:test], self.validation_share) if test else 0
        second = int(hours[test]) * HOUR
        return {
            "count_start": (second - self.count_days * DAY) * ticks_per_second,
            "validation_start": int(hours[validation]) * HOUR * ticks_per_second,
            "test_start": second * ticks_per_second,
        }


def _latest(counts: np.ndarray, share: float) -> int:
    """The last place from which on there lies at least the share of all."""
    behind = np.cumsum(counts[::-1])[::-1]
    return int(np.flatnonzero(behind >= share * behind[0])[-1])
