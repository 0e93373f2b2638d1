"""Read-outs of statistics: against plain loops, autograd and scipy's densities."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import gamma, norm

from snn_anml.config import MetaConfig
from snn_anml.meta.heads import PRIOR_STRENGTH, STREAMING, learn_in_sequence, learn_shuffled
from snn_anml.meta.streaming import (
    Readouts,
    class_mean_scores,
    cosine_scores,
    gaussian_scores,
    left_out_scores,
    precisions,
    turned,
)

C, N, Q, F = 5, 4, 7, 6


def drawings(seed=0, classes=C, shots=N):
    generator = torch.Generator().manual_seed(seed)
    support = torch.rand(classes, shots, F, dtype=torch.float64, generator=generator)
    return support, torch.rand(Q, F, dtype=torch.float64, generator=generator)


def test_class_means_rank_by_distance():
    support, queries = drawings()
    scores = class_mean_scores(support, queries)
    distance = torch.cdist(queries, support.mean(1)).pow(2)
    torch.testing.assert_close(scores - queries.pow(2).sum(1, keepdim=True), -distance)


def test_cosine_rows_are_gradient_steps_on_one_minus_the_cosine():
    support, queries = drawings()
    rows = []
    for of_class in support:
        w = of_class[0] / of_class[0].norm()
        for k, f in enumerate(of_class[1:], 2):
            w = w.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(1 - torch.cosine_similarity(w, f, dim=0), w)
            w = (w - 0.7 / k * gradient).detach()
            w = w / w.norm()
        rows.append(w)
    torch.testing.assert_close(turned(support, 0.7), torch.stack(rows))
    expected = torch.stack([torch.cosine_similarity(queries, w[None]) for w in rows], 1)
    torch.testing.assert_close(cosine_scores(support, queries, 0.7), expected)


@pytest.mark.parametrize("kind", ["class-mean", "cosine", "gaussian"])
@pytest.mark.parametrize("shots", [2, 4])
def test_a_left_out_drawing_is_scored_as_if_it_had_not_been_seen(kind, shots):
    support, _ = drawings(shots=shots)
    found = left_out_scores(kind, support, 3.0, 0.2)
    for c in range(C):
        for k in range(shots):
            query, others = support[c, k][None], torch.cat([support[c, :k], support[c, k + 1 :]])
            for of, known in enumerate([others if d == c else support[d] for d in range(C)]):
                if kind == "class-mean":
                    expected = class_mean_scores(known[None], query)
                elif kind == "cosine":
                    row = torch.nn.functional.normalize(known, dim=1).sum(0)
                    expected = torch.cosine_similarity(query, row[None])
                else:
                    expected = gaussian_scores(known[None], query, 3.0, 0.2)
                torch.testing.assert_close(found[c * shots + k, of], expected.squeeze())


def test_left_out_scores_are_differentiable():
    support, _ = drawings(shots=3)
    for kind in ("class-mean", "cosine", "gaussian"):
        assert torch.autograd.gradcheck(
            lambda x, kind=kind: left_out_scores(kind, x, 3.0, 0.2), support.requires_grad_()
        )


def test_features_of_silence_have_no_direction():
    support, queries = drawings()
    support[0] = 0
    scores = cosine_scores(support, queries, 1.0)
    assert scores.isfinite().all()
    assert (scores[:, 0] == 0).all()


def test_gaussian_scores_are_log_densities():
    support, queries = drawings()
    p = precisions(support, 3.0, 0.2)
    scores = gaussian_scores(support, queries, 3.0, 0.2)
    for c in range(C):
        density = norm.logpdf(queries.numpy(), support[c].mean(0).numpy(), 1 / np.sqrt(p[c].numpy())).sum(1)
        np.testing.assert_allclose(scores[:, c].numpy() - F / 2 * math.log(2 * math.pi), density, rtol=1e-9)


def test_precisions_are_the_most_probable_ones():
    """The mean at its most probable value; the Gamma prior has the mode 1 / v and the weight of 2 a drawings."""
    support, _ = drawings()
    a, v = 3.0, 0.2
    found = precisions(support, a, v)
    for c, feature in ((0, 0), (3, 5)):
        x = support[c, :, feature].numpy()

        def loss(p, x=x):
            return -(norm.logpdf(x, x.mean(), 1 / np.sqrt(p)).sum() + gamma.logpdf(p, a + 1, scale=1 / (a * v)))

        best = minimize_scalar(loss, bounds=(1e-3, 1e3), method="bounded", options={"xatol": 1e-8})
        assert found[c, feature].item() == pytest.approx(best.x, rel=1e-4)


@pytest.mark.parametrize("kind", STREAMING)
def test_gradients(kind):
    support, queries = drawings(classes=3, shots=3)
    readouts = Readouts().double()
    names = [name for name, _ in readouts.named_parameters()]

    def logits(support, queries, *values):
        return torch.func.functional_call(
            _Logits(readouts, kind),
            {f"readouts.{n}": v for n, v in zip(names, values, strict=True)},
            (support, queries),
        )

    parameters = [p.detach().clone().requires_grad_() for p in readouts.parameters()]
    assert torch.autograd.gradcheck(logits, (support.requires_grad_(), queries.requires_grad_(), *parameters))


class _Logits(torch.nn.Module):
    def __init__(self, readouts, kind):
        super().__init__()
        self.readouts, self.kind = readouts, kind

    def forward(self, support, queries):
        return self.readouts.logits(self.kind, support, queries)


SCORES = {
    "class-mean": lambda support, queries, rate: class_mean_scores(support, queries),
    "cosine": cosine_scores,
    "gaussian": lambda support, queries, rate: gaussian_scores(support, queries, PRIOR_STRENGTH, rate),
}


@pytest.mark.parametrize("head", STREAMING)
def test_heads_of_the_meta_test_score_alike(head):
    support, queries = (x.float() for x in drawings())
    for milestone, learned in learn_in_sequence(head, support, 0.3, (2, C)):
        expected = SCORES[head](support[:milestone], queries, 0.3).argmax(1)
        assert torch.equal(learned.predict(queries), expected)
    order = torch.randperm(C * N, generator=torch.Generator().manual_seed(0))
    assert torch.equal(learn_shuffled(head, support, 0.3, order).predict(queries), expected)


def test_learners_need_queries_and_a_head_of_zeros():
    from snn_anml.errors import UserError

    assert MetaConfig(learners=("sgd", "gaussian"), queries=2).learners == ("sgd", "gaussian")
    for options, match in (
        ({"learners": ()}, "at least one learner"),
        ({"learners": ("cosine",), "queries": 0}, "meta.queries"),
        ({"learners": ("cosine",), "head": "meta"}, "meta.head"),
    ):
        with pytest.raises(UserError, match=match):
            MetaConfig(**options)
