"""A short fuzz on each run; `make fuzz` runs a long one."""

import pytest

from tests.fuzz.wire import fuzz


@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", [11])
def test_no_bytes_break_either_end_of_the_wire(seed):
    fuzz(5000, seed)
