"""Two networks on the same images: the difference of their accuracies."""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

from scipy.stats import binomtest


@dataclass(frozen=True)
class PairedDifference:
    """How much more often the second of two is right, on the same images.

    Attributes:
        n: Number of images.
        first_only: Images that only the first predicts rightly.
        second_only: Images that only the second does.
    """

    n: int
    first_only: int
    second_only: int

    @property
    def mean(self) -> float:
        """The difference of the accuracies, second minus first."""
        return (self.second_only - self.first_only) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95% interval, by the standard error of paired proportions."""
        differing = self.first_only + self.second_only
        error = sqrt(differing / self.n - self.mean**2) / sqrt(self.n)
        margin = NormalDist().inv_cdf(0.975) * error
        return self.mean - margin, self.mean + margin

    @property
    def p_value(self) -> float:
        """McNemar's exact test, two-sided.

        Source: Q. McNemar, "Note on the sampling error of the difference between
        correlated proportions or percentages", Psychometrika 12(2), 1947.
        """
        differing = self.first_only + self.second_only
        if not differing:
            return 1.0
        return float(binomtest(self.first_only, differing).pvalue)
