"""All pairs of variants on the same images, a block of them at a time: their p values, and ranks that these allow.

It knows no files and no trials.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from aezoo.run.means import Vector
from aezoo.table.statistics import AT_CONFIDENCE, CONFIDENCE, LEVELS, ROUNDING, TINY, Errors, t_squared

MOST = 8_000
"""Variants that are held against each other, at the most: of so many there are 32 million pairs, some seconds' work."""
BLOCK = 256
Places = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Pairs:
    """All pairs of variants on the same images. None stands for one that nothing separates from any other."""

    def __init__(self, variants: Sequence[Errors | None]) -> None:
        self.logs: Vector = np.array([math.nan if each is None else each.log for each in variants])
        self._variants = [each if each is not None and len(each.by_image) > 1 else None for each in variants]

    def p_values(self, places: Sequence[int], against: int) -> list[float]:
        """Return how often chance alone would set each of some variants as far from another; 1 where that is often.

        Often is 5 % or more: what is not told apart on its own is not told apart in company either.
        """
        company = _Company([self._variants[place] for place in (*places, against)])
        p_values = np.ones(len(places))
        if len(company) and company.places[-1] == len(places):
            own = np.arange(len(company) - 1)
            other = np.full_like(own, len(own))
            squares, variances = company.squares(own, other), company.variances(own, other)
            told = squares > company.least(AT_CONFIDENCE, own, other, variances)
            p_values[company.places[own[told]]] = company.p_values(
                own[told], other[told], squares[told], variances[told]
            )
        return [float(p_value) for p_value in p_values]

    def ranks(self, places: Sequence[int]) -> list[tuple[int, int]] | list[tuple[None, None]]:
        """Return the best and the worst rank among some variants that the evidence allows, Holm-corrected over them.

        Each is None where they are more than `MOST`.
        """
        if len(places) > MOST:
            return [(None, None)] * len(places)
        low, high = np.ones(len(places), np.int64), np.full(len(places), len(places))
        with _one_thread() if len(places) > BLOCK else contextlib.nullcontext():
            for better, worse in self.told_apart(places):
                high -= np.bincount(better, minlength=len(places))
                low += np.bincount(worse, minlength=len(places))
        return list(zip(low.tolist(), high.tolist(), strict=True))

    def told_apart(self, places: Sequence[int]) -> Iterator[tuple[Places, Places]]:
        """Yield the better and the worse of those pairs of some variants that hold at 5 %, Holm-corrected over them.

        They are numbered as in `places`.
        """
        company = _Company([self._variants[place] for place in places])
        for better, worse in company.told_apart(len(places) * (len(places) - 1) // 2):
            yield company.places[better], company.places[worse]


def _one_thread() -> contextlib.AbstractContextManager[object]:
    """Return a context in which products of matrices take one thread: of small ones others would but wait for it."""
    from threadpoolctl import threadpool_limits

    limits: contextlib.AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits


class _Company:
    """Those of some variants that are known, each by its number among them; `places` are theirs among all.

    Arrays are (variants,), (variants, levels) for the squares of half widths that come from the seeds, and (variants,
    images), scaled so that a product of two rows is the covariance of their means.
    """

    def __init__(self, variants: Sequence[Errors | None]) -> None:
        known = {place: each for place, each in enumerate(variants) if each is not None}
        self.places: Places = np.array(list(known), dtype=np.int64)
        self._logs: Vector = np.array([each.log for each in known.values()])
        self._means: Vector = np.array([each.mean for each in known.values()])
        if known:
            self._of_seeds = np.stack([each.of_seeds for each in known.values()])
            images = np.stack([each.by_image for each in known.values()])
            images -= images.mean(axis=1, keepdims=True)
            self._images: Vector = images / np.sqrt(images.shape[1] * (images.shape[1] - 1))
            self._own = np.square(self._images).sum(axis=1)
            self._of_images = t_squared(images.shape[1] - 1)

    def __len__(self) -> int:
        return len(self.places)

    def squares(self, a: Places, b: Places) -> Vector:
        """Return the squared differences of logs; 0 where two losses differ by rounding alone."""
        rounding = ROUNDING * np.maximum(self._means[a], self._means[b])
        same = np.abs(self._means[a] - self._means[b]) <= rounding
        squares: Vector = np.where(same, 0.0, np.square(self._logs[a] - self._logs[b]))
        return squares

    def variances(self, a: Places, b: Places) -> Vector:
        """Return the variance that the images give each difference."""
        products: Vector = (self._images[a] * self._images[b]).sum(axis=1)
        return self._spread(a, b, products)

    def least(self, level: int | Places, a: Places, b: Places, variances: Vector) -> Vector:
        """Return the squares of the half widths at a level: what is beyond has a lesser p value."""
        of_seeds: Vector = self._of_seeds[a, level] + self._of_seeds[b, level]
        squares: Vector = of_seeds + variances * self._of_images[level]
        return squares

    def p_values(self, a: Places, b: Places, squares: Vector, variances: Vector) -> Vector:
        """Return the p values of pairs, as `Estimate` has them; each of them is below 5 %."""
        # Of each pair, a level that it is beyond, and the last before that which it is not known to be beyond.
        beyond, not_beyond = np.full_like(a, AT_CONFIDENCE), np.full_like(a, -1)
        while np.any(beyond - not_beyond > 1):
            middle = np.maximum((beyond + not_beyond) // 2, 0)
            is_beyond = squares > self.least(middle, a, b, variances)
            beyond, not_beyond = np.where(is_beyond, middle, beyond), np.where(is_beyond, not_beyond, middle)
        before = np.maximum(not_beyond, 0)
        near, far = (np.log(self.least(level, a, b, variances) + TINY) for level in (beyond, before))
        share = (np.log(squares) - near) / np.where(far > near, far - near, 1.0)
        logs = np.log(LEVELS)
        p_values: Vector = np.exp(logs[beyond] + np.where(beyond > 0, share, 0.0) * (logs[before] - logs[beyond]))
        return p_values

    def told_apart(self, count: int) -> Iterator[tuple[Places, Places]]:
        """Yield the better and the worse of the pairs that hold at 5 %, Holm-corrected for `count` pairs.

        Holm's bar for the next p value is 5 % over the number of pairs that it has not told apart. It is no lower than
        when those are all, and no higher than when all are told apart that are so on their own. The p values of those
        between the two decide, and no others are computed.
        """
        error = 1 - CONFIDENCE
        lowest = int(np.searchsorted(LEVELS, error / max(1, count))) - 1
        sure = alone = 0
        open_blocks = []
        for block in self._blocks():
            a, b, squares, variances = self._pairs(*block)
            beyond = self._beyond(lowest, a, b, squares, variances)
            row, column = np.nonzero(beyond)
            told = int(self._beyond(AT_CONFIDENCE, a, b, squares, variances).sum())
            sure, alone = sure + len(row), alone + told
            open_blocks += [block] if told > len(row) else []
            yield self._better_first(a[row, 0], b[0, column])
        highest = AT_CONFIDENCE
        if alone < count:
            highest = min(highest, int(np.searchsorted(LEVELS, error / (count - alone))))
        between: list[tuple[Places, Places, Vector]] = []
        for block in open_blocks:
            a, b, squares, variances = self._pairs(*block)
            row, column = np.nonzero(
                self._beyond(highest, a, b, squares, variances) & ~self._beyond(lowest, a, b, squares, variances)
            )
            pairs = a[row, 0], b[0, column]
            between.append((*pairs, self.p_values(*pairs, squares[row, column], variances[row, column])))
        if between:
            a, b, p_values = (np.concatenate(parts) for parts in zip(*between, strict=True))
            order = np.argsort(p_values, kind="stable")
            fails = np.append(p_values[order] * (count - sure - np.arange(len(order))) >= error, True)
            held = order[: int(np.argmax(fails))]
            yield self._better_first(a[held], b[held])

    def _blocks(self) -> Iterator[tuple[slice, slice]]:
        """Yield the blocks of all pairs, each once: the places of rows, and those of columns."""
        starts = range(0, len(self), BLOCK)
        for row, column in combinations_with_replacement(starts, 2):
            yield slice(row, min(row + BLOCK, len(self))), slice(column, min(column + BLOCK, len(self)))

    def _pairs(self, rows: slice, columns: slice) -> tuple[Places, Places, Vector, Vector]:
        """Return the pairs of a block: a column and a row of places, squared differences and variances as matrices.

        A block on the diagonal has pairs twice, or a variant with itself: there the difference is 0.
        """
        a, b = np.arange(rows.start, rows.stop)[:, None], np.arange(columns.start, columns.stop)[None]
        squares = self.squares(a, b)
        if rows == columns:
            squares = np.triu(squares, 1)
        return a, b, squares, self._spread(a, b, self._images[rows] @ self._images[columns].T)

    def _spread(self, a: Places, b: Places, products: Vector) -> Vector:
        """Return the variances of differences, by the products of their images."""
        variances: Vector = np.maximum(0.0, self._own[a] + self._own[b] - 2 * products)
        return variances

    def _beyond(self, level: int, a: Places, b: Places, squares: Vector, variances: Vector) -> Mask:
        """Say which pairs have a p value of less than a level; none where there is no such level."""
        if level < 0:
            return np.zeros(squares.shape, dtype=bool)
        return squares > self.least(level, a, b, variances)

    def _better_first(self, a: Places, b: Places) -> tuple[Places, Places]:
        ahead = self._logs[a] < self._logs[b]
        return np.where(ahead, a, b), np.where(ahead, b, a)
