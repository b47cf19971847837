"""Random Fourier features: numeric observations as unit vectors whose cosine falls with distance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from precedent import checks
from precedent.errors import ValidationError

__all__ = ["FourierEncoder", "hashed"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

# What `fit` chooses for two components. Bandwidths in standard deviations: the narrow ones tell neighbours
# apart, the wide ones carry over to what was never seen.
_NARROWEST, _WIDEST = 0.15, 6.0
# Rows that a scale can be taken from.
_FEWEST = 2
_MATRIX = 2  # axes
# Scaled observations are cut here: beyond five standard deviations only "far out" is known.
_CLIP = 5.0
# The share of the squared norm that the scaled observation itself has.
_PLAIN_SHARE = 0.5


class FourierEncoder:
    """Random Fourier features of numeric observations (Rahimi and Recht 2007), called on arrays.

    Observations are scaled to [0, 1] by `low` and `high`. The cosine of two embeddings is then, up to an
    error of about 1 / sqrt(dimension), the Gaussian kernel exp(-d^2 / (2 bandwidth^2)) of the distance d
    between the scaled observations. Sines and cosines come in pairs, so every embedding has norm 1 exactly.

    `fit` chooses scale and bandwidths from data, which is what to use where the best bandwidth is not known.

    Args:
        low: The least value of each component.
        high: The greatest value of each component.
        dimension: How long an embedding is: an even number from 2 to 16,384.
        bandwidth: The distance at which the similarity has fallen to exp(-1/2) = 0.61.
        seed: Keys the random frequencies; the same on every machine.

    Example:
        >>> encode = FourierEncoder(low=[-1.0, -2.0], high=[1.0, 2.0], dimension=256, bandwidth=0.2)
        >>> here, near, far = encode([[0.0, 0.0], [0.02, 0.0], [0.8, -1.5]])
        >>> bool(here @ near > 0.99), bool(abs(here @ far) < 0.2)
        (True, True)

    Raises:
        ValidationError: A bound is infinite or not below the other (the component is named; replace it by the
            range that matters), or an option is out of its range.
    """

    __slots__ = ("_dimension", "_fingerprint", "_fitted", "_frequencies", "_made_of", "_origin", "_span")

    # The kernel is taken at (observation - origin) / span; an endless span leaves a component out.
    _origin: Doubles
    _span: Doubles
    _frequencies: Doubles
    _dimension: int
    _fingerprint: str
    # Whether the scaled observation is cut and stands beside the features.
    _fitted: bool
    # What `to_dict` tells.
    _made_of: dict[str, Any]

    def __init__(self, low: Any, high: Any, dimension: int, bandwidth: float, *, seed: int = 0) -> None:
        from precedent._core import fourier_frequencies

        bottom, top = _bounds("low", low), _bounds("high", high)
        if top.shape != bottom.shape:
            raise ValidationError(f"high: expected {len(bottom)} components, as low has, got {len(top)}")
        span = top - bottom
        if not (span > 0).all():
            at = int(np.flatnonzero(~(span > 0))[0])
            raise ValidationError(
                f"high[{at}]: expected more than low[{at}], {bottom[at]:g}, got {top[at]:g}"
            )
        self._dimension = checks.integer("dimension", dimension, low=2, high=16_384)
        if self._dimension % 2:
            raise checks.refuse("dimension", "an even number: sines and cosines come in pairs", dimension)
        width = checks.number("bandwidth", bandwidth)
        if width <= 0:
            raise checks.refuse("bandwidth", "more than 0", width)
        seed = checks.integer("seed", seed, high=2**64 - 1)
        self._origin, self._span, self._fitted = bottom, span, False
        with np.errstate(over="ignore"):
            self._frequencies = fourier_frequencies(len(bottom), self._dimension // 2, seed) / width
        if not np.isfinite(self._frequencies).all():
            raise checks.refuse("bandwidth", "a share of the range that observations span", width)
        settings = repr((self._dimension, width, seed)).encode()
        self._fingerprint = hashed("fourier-v1", bottom.tobytes(), top.tobytes(), settings)
        self._made_of = {
            "low": bottom.tolist(),
            "high": top.tolist(),
            "dimension": self._dimension,
            "bandwidth": width,
            "seed": seed,
        }

    @classmethod
    def fit(cls, observations: Any, dimension: int, *, seed: int = 0) -> Self:
        """Return an encoder whose scale and bandwidths come from data.

        Each component is brought to mean 0 and standard deviation 1 and cut at 5. The bandwidths are spread
        evenly in logarithm, from 0.15 to 6 standard deviations for two components, so that the kernel is a
        mixture of Gaussians: it falls with distance at every scale. With m components that vary distances
        grow as the root of m, and the nearest neighbours move away even faster: the widest bandwidth is
        6 sqrt(m / 2), the narrowest 0.075 m, at most a quarter of the widest. Half of the squared norm
        belongs to these features, half to the scaled observation itself, projected onto a sphere: every
        embedding has norm 1, and the cosine still falls with distance (up to where an observation's mirror
        image lies). A component that is the same in all rows has no scale; it is left out, here and later.

        Args:
            observations: `[n, m]`, at least two rows that differ: what was recorded, all of it or a fair
                sample.
            dimension: How long an embedding is: from m + 3 to 16,384. 512 is a good value for up to ten
                components.
            seed: Keys the random frequencies; the same on every machine.

        Example:
            >>> import numpy as np
            >>> seen = np.random.default_rng(0).normal(size=(500, 2)) * [1.0, 50.0]
            >>> encode = FourierEncoder.fit(seen, 256)
            >>> here, near, far = encode([[0.0, 0.0], [0.02, 1.0], [2.0, -100.0]])
            >>> bool(here @ near > 0.98), bool(here @ far < 0.3)
            (True, True)

        Raises:
            ValidationError: Not a matrix of finite numbers, fewer than two rows, or none that differ; or an
                option is out of its range.
        """
        seen = _numbers(observations)
        if seen.ndim != _MATRIX or not seen.shape[1]:
            raise ValidationError(f"observations: expected a matrix [n, m], got shape {seen.shape}")
        if len(seen) < _FEWEST:
            raise ValidationError(
                f"observations: expected at least {_FEWEST} rows to take a scale from, got {len(seen)}"
            )
        varies = seen.max(axis=0) > seen.min(axis=0)
        if not varies.any():
            raise ValidationError("observations: expected rows that differ, got the same row every time")
        with np.errstate(over="ignore", invalid="ignore"):
            deviation = np.where(varies, seen.std(axis=0), 0.0)
            mean = seen.mean(axis=0)
        if not np.isfinite(deviation).all() or (varies & (deviation == 0.0)).any():
            at = int(np.flatnonzero(~np.isfinite(deviation) | (varies & (deviation == 0.0)))[0])
            raise ValidationError(
                f"observations: expected numbers whose spread is a double, got others in column {at}"
            )
        # Where the sum overflows and the spread does not, all rows are the same.
        return cls._of_scale(np.where(np.isfinite(mean), mean, seen[0]), deviation, dimension, seed)

    @classmethod
    def _of_scale(cls, mean: Doubles, deviation: Doubles, dimension: int, seed: int) -> Self:
        """Return what `fit` makes of these means and deviations; deviation 0 = left out."""
        from precedent._core import fourier_frequencies

        components = len(mean)
        made = object.__new__(cls)
        made._dimension = checks.integer("dimension", dimension, low=components + 3, high=16_384)
        seed = checks.integer("seed", seed, high=2**64 - 1)
        made._origin, made._fitted = mean, True
        made._span = np.where(deviation > 0, deviation, np.inf)
        pairs = (made._dimension - components - 1) // 2
        spread = (np.arange(pairs) + 0.5) / pairs
        share = max(np.count_nonzero(deviation) / 2, 1.0)
        widest = _WIDEST * np.sqrt(share)
        narrowest = min(_NARROWEST * share, widest / 4)
        bandwidths = narrowest * (widest / narrowest) ** spread
        made._frequencies = fourier_frequencies(components, pairs, seed) / bandwidths
        settings = repr((made._dimension, seed)).encode()
        made._fingerprint = hashed("fourier-fit-v1", mean.tobytes(), deviation.tobytes(), settings)
        made._made_of = {
            "mean": mean.tolist(),
            "deviation": deviation.tolist(),
            "dimension": made._dimension,
            "seed": seed,
        }
        return made

    @property
    def dimension(self) -> int:
        """How long an embedding is."""
        return self._dimension

    @property
    def fingerprint(self) -> str:
        """What tells these features from others."""
        return self._fingerprint

    def to_dict(self) -> dict[str, Any]:
        """Return what it is made of, in plain Python: keep it (as JSON, say) beside the file it filled."""
        return {
            key: list(value) if isinstance(value, list) else value for key, value in self._made_of.items()
        }

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> Self:
        """Return the encoder that `to_dict` told of: the same features, bit for bit.

        Raises:
            ValidationError: It is not what `to_dict` returns.
        """
        if not isinstance(mapping, Mapping):
            raise checks.refuse("FourierEncoder", "a mapping, what to_dict returns", mapping)
        given = dict(mapping)
        if set(given) == {"low", "high", "dimension", "bandwidth", "seed"}:
            return cls(
                given["low"], given["high"], given["dimension"], given["bandwidth"], seed=given["seed"]
            )
        if set(given) != {"mean", "deviation", "dimension", "seed"}:
            shown = ", ".join(sorted(map(repr, given))) or "none"
            raise ValidationError(f"FourierEncoder: expected what to_dict returns, got keys {shown}")
        mean, deviation = (checks.finite(of, _one_each(of, given[of])) for of in ("mean", "deviation"))
        if mean.shape != deviation.shape or (deviation < 0).any() or not deviation.any():
            raise ValidationError(
                f"deviation: expected {len(mean)} numbers of at least 0, not all 0, got {deviation.tolist()}"
            )
        return cls._of_scale(mean, deviation, given["dimension"], given["seed"])

    def __call__(self, observations: Any) -> Floats:
        """Return embeddings `[n, dimension]` of observations `[n, m]`, or `[dimension]` of one `[m]`.

        Raises:
            ValidationError: Not finite numbers, or not `m` of them; or, where `low` and `high` were given, a
                number so far from them that its angles overflow float64. A fitted encoder takes any such
                number for far out.
        """
        given = _numbers(observations)
        components = len(self._origin)
        if given.ndim not in (1, 2) or given.shape[-1] != components:
            raise ValidationError(
                f"observations: expected {components} components each, got shape {given.shape}"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = (given - self._origin) / self._span
        features = np.zeros((*given.shape[:-1], self._dimension), np.float32)
        plain = 0.0
        if self._fitted:
            scaled[..., np.isinf(self._span)] = 0.0  # a difference that overflows would be NaN
            np.clip(scaled, -_CLIP, _CLIP, out=scaled)
            plain = _PLAIN_SHARE
            self._lift(scaled, features)
        angles = self._angles(scaled, given)
        end = 2 * angles.shape[-1]
        amplitude = np.sqrt((1.0 - plain) * 2.0 / end)
        features[..., 0:end:2] = np.cos(angles) * amplitude
        features[..., 1:end:2] = np.sin(angles) * amplitude
        return features

    def _angles(self, scaled: Doubles, given: Doubles) -> Doubles:
        """Return the angles of scaled observations; those that were given are for the error's message."""
        with np.errstate(over="ignore", invalid="ignore"):
            angles: Doubles = scaled @ self._frequencies
        sound = np.isfinite(angles).all(axis=-1)
        if not sound.all():
            row = np.argwhere(~sound)[0]
            at = (*row, np.abs(scaled[tuple(row)]).argmax())
            place = ", ".join(map(str, at))
            raise checks.refuse(
                f"observations[{place}]",
                "a number nearer to low and high, for its angles overflow",
                given[at],
            )
        return angles

    def _lift(self, scaled: Doubles, features: Floats) -> None:
        """Put the scaled observation behind the features, projected onto the sphere from its far pole.

        Appended as it is, it would not let the cosine fall with distance: far out, all of one direction would
        be alike. A typical observation comes to lie on the equator.
        """
        components = scaled.shape[-1]
        flat = scaled / np.sqrt(np.count_nonzero(np.isfinite(self._span)))
        square = (flat**2).sum(axis=-1, keepdims=True)
        amplitude = np.sqrt(_PLAIN_SHARE) / (1.0 + square)
        end = 2 * self._frequencies.shape[1]
        features[..., end : end + components] = 2.0 * flat * amplitude
        features[..., end + components : end + components + 1] = (1.0 - square) * amplitude

    def __repr__(self) -> str:
        fitted = ", fitted" if self._fitted else ""
        return f"FourierEncoder({len(self._origin)} components to {self._dimension} dimensions{fitted})"


def _numbers(given: Any) -> Doubles:
    numbers = _doubles("observations", given)
    if not np.isfinite(numbers).all():
        raise ValidationError("observations: expected finite numbers, got NaN or infinity")
    return numbers


def _one_each(field: str, given: Any) -> Doubles:
    numbers = _doubles(field, given).copy()
    if numbers.ndim != 1 or not numbers.size:
        raise ValidationError(
            f"{field}: expected one number a component, got an array of shape {numbers.shape}"
        )
    return numbers


def _bounds(field: str, given: Any) -> Doubles:
    bounds = _one_each(field, given)
    # The largest float32 stands for infinity in the spaces of some environments.
    endless = ~(np.abs(bounds) < np.finfo(np.float32).max)
    if endless.any():
        at = int(np.flatnonzero(endless)[0])
        raise ValidationError(
            f"{field}[{at}]: expected a finite bound (the range that matters), got {bounds[at]:g}"
        )
    return bounds


def _doubles(field: str, given: Any) -> Doubles:
    checks.unmasked(field, given)
    try:
        numbers = np.asarray(given)
    except (TypeError, ValueError):
        raise checks.refuse(field, "numbers", given) from None
    if numbers.dtype.kind not in "fiu" and numbers.size:
        raise checks.refuse(field, "numbers", given)
    return numbers.astype(np.float64, copy=False)


def hashed(kind: str, *parts: bytes) -> str:
    """Return a short name for what bytes describe."""
    from hashlib import sha256

    return f"{kind}-{sha256(b'|'.join(parts)).hexdigest()[:16]}"
