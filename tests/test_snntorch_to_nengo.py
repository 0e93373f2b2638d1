"""A tutorial's network on NengoDL spikes as in snnTorch."""

import pytest

from experiments.snntorch_to_nengo import STEPS, main, run
from tests.helpers import require


def test_nengo_dl_spikes_as_snntorch():
    """Trained float weights: a flip is allowed only where the membrane was within rounding of the threshold."""
    require("nengo-dl")
    fidelity, reference = run(samples=5, iterations=10)
    assert fidelity.slots == 5 * STEPS * (12 * 12 * 12 + 24 * 4 * 4 + 10)
    assert all(spikes.any() for spikes in reference.spikes.values())
    if fidelity.origin is not None:
        assert fidelity.origin[1].margin < 1e-5
    else:
        assert max(layer.max_membrane_difference for layer in fidelity.layers.values()) < 1e-4


def test_mistakes_are_named(capsys):
    with pytest.raises(SystemExit):
        main(["--samples", "201"])
    assert "201 drawings were asked for; there are 200" in capsys.readouterr().err
