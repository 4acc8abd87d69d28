"""A sample of fixed size of what `scripts/faults` runs whole: every operation of every scenario, every fault."""

import os

from tests.faults import harness
from tests.faults.scenarios import SCENARIOS


def test_a_sample_of_faults_is_reported_and_recovered_and_loses_nothing(tmp_path):
    count = int(os.environ.get("DVLITE_FAULTS", "60"))
    rows = harness.play(tmp_path, count=count // len(SCENARIOS), seed=1)
    lost = {key: row.lost for key, row in rows.items() if row.lost}
    assert lost == {}
    assert sum(row.runs for row in rows.values()) >= count * 0.9


def test_the_harness_itself_sees_a_loss(tmp_path, monkeypatch):
    """A program that swallows an error of the disk would be found."""
    from dvlite.stores.local.batch import LocalBatch

    monkeypatch.setattr(LocalBatch, "publish", lambda self: None)  # says done, and stores nothing
    import pytest

    with pytest.raises(AssertionError):
        harness.Bench(harness.SCENARIOS[0], tmp_path)
