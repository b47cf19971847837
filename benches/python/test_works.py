"""Every work under pytest-benchmark: one group a work, ours and the peers as its cases.

.venv-bench/bin/python -m pytest -c /dev/null --rootdir . benches/python -k "predict"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tables import MILLION
from works import WORKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rounds import Work


NAMED = {name: work for section in WORKS if section != MILLION for name, work in WORKS[section].items()}
MOST = 12  # contenders of a work


@pytest.fixture(scope="module", params=list(NAMED))
def work(request, tmp_path_factory) -> Iterator[Work]:
    """One work with its data; pytest builds it once and lets it go before the next."""
    with NAMED[request.param](tmp_path_factory.mktemp("work")) as made:
        yield made


@pytest.mark.parametrize("place", range(MOST))
def test_contender(work: Work, place: int, benchmark) -> None:
    if place >= len(work.contenders):
        missing = ", ".join(work.missing)
        pytest.skip(f"not installed: {missing}" if missing else "no further peer")
    contender = work.contenders[place]
    benchmark.group = work.title
    benchmark.name = contender.name
    benchmark.extra_info.update(units=contender.units, unit=work.unit, quality=contender.quality)
    benchmark.pedantic(contender.call, setup=contender.prepare, rounds=work.rounds, warmup_rounds=1)
