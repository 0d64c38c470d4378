"""Statistics measured again: those of all batches together, whatever the moving averages were."""

import jax
import numpy as np

from jaxvid.evaluate import precise_bn


def batch_stats(x):
    return {
        "norm": {"mean": x.mean(0), "var": x.var(0)},
        "deep": {"er": {"mean": x[0], "var": x[1]}},
    }


def test_the_statistics_become_those_of_all_batches_together():
    rng = np.random.default_rng(0)
    clips = rng.normal(3.0, 2.0, (5, 8, 4)).astype(np.float32) + np.arange(5)[:, None, None]
    variables = {
        "params": {"w": np.ones(2, np.float32)},
        "batch_stats": jax.tree.map(np.zeros_like, batch_stats(clips[0])),
    }

    def statistics(variables, inputs, rng):
        assert variables["params"]["w"].shape == (2,)
        return batch_stats(inputs)

    step = jax.jit(precise_bn.make_step(statistics, lambda rng, batch: (batch, None)))
    made = precise_bn.estimate(
        step, variables, iter(clips), lambda batch: batch, count=4, seed=0, show=False
    )
    seen = clips[:4].reshape(-1, 4)  # the fifth was not asked for
    norm = made["batch_stats"]["norm"]
    np.testing.assert_allclose(norm["mean"], seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(norm["var"], seen.var(0), rtol=1e-5)
    assert made["params"] is variables["params"]
    deeper = made["batch_stats"]["deep"]["er"]
    np.testing.assert_allclose(deeper["mean"], clips[:4, 0].mean(0), rtol=1e-5)
