"""The heads of `snn_anml.meta.heads` as plain loops over single numbers, which count every operation they do."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

from snn_anml.meta.heads import PRIOR_STRENGTH
from snn_anml.meta.softmax_layer import ADAM_BETAS, ADAM_EPS
from snn_anml.meta.streaming import SMALLEST


@dataclass
class Tally:
    """Counts by item; `item` is what is being done."""

    item: str = ""
    counts: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))

    def add(self, name, n=1):
        self.counts[self.item][name] += n


class Number:
    """A value in a register. An addition of a product that nothing else has used is a multiply-accumulate."""

    def __init__(self, value, tally, product=False):
        self.value, self.tally, self.product = value, tally, product

    def _number(self, other):
        return other if isinstance(other, Number) else Number(other, self.tally)

    def _added(self, other, value):
        fused = self.product or other.product
        self.tally.add("multiplies", -1 if fused else 0)
        self.tally.add("macs" if fused else "adds")
        return Number(value, self.tally)

    def __add__(self, other):
        other = self._number(other)
        return self._added(other, self.value + other.value)

    def __sub__(self, other):
        other = self._number(other)
        return self._added(other, self.value - other.value)

    __radd__ = __add__

    def __rsub__(self, other):
        return self._number(other) - self

    def __mul__(self, other):
        self.tally.add("multiplies")
        return Number(self.value * self._number(other).value, self.tally, product=True)

    __rmul__ = __mul__

    def __truediv__(self, other):
        self.tally.add("divisions")
        return Number(self.value / self._number(other).value, self.tally)

    def __rtruediv__(self, other):
        return self._number(other) / self

    def kept(self):
        """The same, used more than once: no addition absorbs its multiplication."""
        return Number(self.value, self.tally)

    def sqrt(self):
        self.tally.add("roots")
        return Number(math.sqrt(self.value), self.tally)

    def exp(self):
        self.tally.add("exponentials")
        return Number(math.exp(self.value), self.tally)

    def at_least(self, least):
        return Number(max(self.value, least), self.tally)  # a comparison, which is not counted


class Memory:
    """Values that last from one drawing to the next, zero at first."""

    def __init__(self, tally):
        self.tally, self.values = tally, defaultdict(float)

    def __getitem__(self, key):
        self.tally.add("reads")
        return Number(self.values[key], self.tally)

    def __setitem__(self, key, number):
        self.tally.add("writes")
        self.values[key] = number.value

    def row(self, c, width):
        return [self.values[c, i] for i in range(width)]


def unit(drawing, tally):
    """The drawing at length 1."""
    square = Number(0.0, tally)
    for value in drawing.values():
        square = square + value * value
    scale = 1 / square.sqrt().at_least(SMALLEST)
    return {i: (value * scale).kept() for i, value in drawing.items()}


class Softmax:
    """`sgd`, `unit-sgd` and `adam`; the bias, if any, is column F."""

    biased = True

    def __init__(self, outputs, width, rate, tally):
        self.outputs, self.width, self.rate, self.tally = outputs, width, rate, tally
        self.weights = Memory(tally)

    def errors(self, x, target):
        t = self.tally
        t.item = "forward"
        logits = []
        for c in range(self.outputs):
            z = self.weights[c, self.width] if self.biased else Number(0.0, t)
            for i, value in x.items():
                z = z + self.weights[c, i] * value
            logits.append(z)
        t.item = "softmax"
        top = max(z.value for z in logits)
        powers = [(z - top).exp() for z in logits]
        total = Number(0.0, t)
        for power in powers:
            total = total + power
        share = 1 / total
        errors = [(power * share).kept() for power in powers]
        t.item = "gradient"
        errors[target] = errors[target] - 1.0
        return errors

    def learn(self, c, drawings):
        for x in drawings:
            self.step(x, self.errors(x, c))


class SGD(Softmax):
    def step(self, x, errors):
        self.tally.item = "update"
        for c, error in enumerate(errors):
            change = (error * self.rate).kept()
            for i, value in x.items():
                self.weights[c, i] = self.weights[c, i] - change * value
            if self.biased:
                self.weights[c, self.width] = self.weights[c, self.width] - change


class UnitSGD(SGD):
    biased = False

    def learn(self, c, drawings):
        for drawing in drawings:
            self.tally.item = "forward"
            x = unit(drawing, self.tally)
            self.step(x, self.errors(x, c))


class Adam(Softmax):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.first, self.second = Memory(self.tally), Memory(self.tally)
        self.power1, self.power2 = (Number(1.0, self.tally) for _ in ADAM_BETAS)

    def step(self, x, errors):
        t, (b1, b2) = self.tally, ADAM_BETAS
        t.item = "update"
        self.power1, self.power2 = (self.power1 * b1).kept(), (self.power2 * b2).kept()
        correction = (1 - self.power2).sqrt()
        rate = ((correction * self.rate) / (1 - self.power1)).kept()
        epsilon = (correction * ADAM_EPS).kept()
        t.item = "state"
        squares = {i: (value * value).kept() for i, value in x.items()}
        for c, error in enumerate(errors):
            t.item = "state"
            e1 = (error * (1 - b1)).kept()
            e2 = ((error * error) * (1 - b2)).kept()
            for i in range(self.width + 1):
                t.item = "state"
                m, v = self.first[c, i] * b1, self.second[c, i] * b2
                if i == self.width:
                    m, v = m + e1, v + e2
                elif i in x:
                    m, v = m + e1 * x[i], v + e2 * squares[i]
                self.first[c, i], self.second[c, i] = m, v
                t.item = "update"
                self.weights[c, i] = self.weights[c, i] - rate * (m / (v.sqrt() + epsilon))


class ClassMean:
    def __init__(self, outputs, width, rate, tally):
        self.width, self.tally, self.rows = width, tally, Memory(tally)

    def learn(self, c, drawings):
        t, shots = self.tally, len(drawings)
        t.item = "state"
        for x in drawings:
            for i, value in x.items():
                self.rows[c, i] = self.rows[c, i] + value
        t.item = "update"
        square = Number(0.0, t)
        for i in sorted(set().union(*drawings)):
            w = (self.rows[c, i] * (2 / shots)).kept()
            self.rows[c, i] = w
            square = square + w * w
        self.rows[c, self.width] = square * -0.25


class Cosine:
    def __init__(self, outputs, width, rate, tally):
        self.rate, self.tally, self.rows = rate, tally, Memory(tally)

    def learn(self, c, drawings):
        t, support = self.tally, set()
        for k, drawing in enumerate(drawings, 1):
            t.item = "forward"
            x = unit(drawing, t)
            support |= set(x)
            if k == 1:
                t.item = "update"
                for i, value in x.items():
                    self.rows[c, i] = value
                continue
            along = Number(0.0, t)
            for i, value in x.items():
                along = along + self.rows[c, i] * value
            t.item = "update"
            square, turned = Number(0.0, t), {}
            for i in support:
                w = self.rows[c, i]
                turned[i] = w + (self.rate / k) * (x.get(i, Number(0.0, t)) - along * w)
                square = square + turned[i] * turned[i]
            scale = 1 / square.sqrt().at_least(SMALLEST)
            for i, value in turned.items():
                self.rows[c, i] = value * scale


class Gaussian:
    def __init__(self, outputs, width, rate, tally):
        self.width, self.variance, self.tally = width, rate, tally
        self.first, self.second = Memory(tally), Memory(tally)

    def learn(self, c, drawings):
        t, shots = self.tally, len(drawings)
        t.item = "state"
        for x in drawings:
            for i, value in x.items():
                self.first[c, i] = self.first[c, i] + value
                self.second[c, i] = self.second[c, i] + value * value
        t.item = "update"
        above, prior = PRIOR_STRENGTH + shots / 2, PRIOR_STRENGTH * self.variance
        support = set().union(*drawings)
        for i in range(self.width):
            if i not in support:
                self.second[c, i] = Number(above / prior, t)
                continue
            total = self.first[c, i]
            mean = (total * (1 / shots)).kept()
            around = self.second[c, i] - total * mean
            self.first[c, i] = mean
            self.second[c, i] = above / (prior + around * 0.5)


LOOPS = {"sgd": SGD, "unit-sgd": UnitSGD, "adam": Adam, "class-mean": ClassMean, "cosine": Cosine, "gaussian": Gaussian}


def learned(head, features, rate, outputs):
    """Learns (classes, shots, F) class by class; the loop that has, and the counts of each class by item."""
    tally = Tally()
    loop = LOOPS[head](outputs, features.shape[2], rate, tally)
    by_class = []
    for c, drawings in enumerate(features.tolist()):
        tally.counts.clear()
        loop.learn(c, [{i: Number(v, tally) for i, v in enumerate(drawing) if v} for drawing in drawings])
        by_class.append({item: {n: k for n, k in one.items() if k} for item, one in tally.counts.items()})
    return loop, by_class
