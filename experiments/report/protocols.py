"""What the page says of each protocol of the meta-test."""

from __future__ import annotations

from typing import NamedTuple

ORACLE = "iid"
"""Stands on a page only where it was run; the others are always defined, since published numbers refer to them."""


class Protocol(NamedTuple):
    """title: its name in titles; note: above a panel; definition: of the summary; axis: name of the axis of classes;
    grey: what is published behind the curves; first: caption of the accuracy on the first ten classes."""

    title: str
    note: str
    definition: str
    axis: str
    grey: str
    first: str


IN_SEQUENCE = "classes learned, one after another"
FORGETTING = (
    "Held-out drawings of the classes learned first (ten, or as many as there are); all classes learned so far "
    "compete. At every number of classes the learning rate is the one picked for that number."
)
PROTOCOLS = {
    "strict": Protocol(
        "strict",
        "learning rates picked on other classes, random order",
        "Protocol strict: the classes come in random order, the learning rate of each head and number of classes is "
        "picked on classes that are held out for it and never reported, and the output layer starts at zero.",
        IN_SEQUENCE,
        "Grey: range of published ANML results, which follow protocol paper; for orientation only.",
        FORGETTING,
    ),
    "paper": Protocol(
        "paper",
        "as published: learning rate picked on these classes",
        "Protocol paper: as published, the classes come in index order, the output layer is freshly drawn, and the "
        "learning rate is picked on the very classes that are reported. That choice is optimistic; whole alphabets "
        "that come first, and the drawn output layer, pull the other way.",
        IN_SEQUENCE,
        "Grey: published curves of ANML and OML, the same protocol.",
        FORGETTING,
    ),
    ORACLE: Protocol(
        "iid (oracle)",
        "oracle: all drawings shuffled, no continual learning",
        "Protocol iid: an oracle, not continual learning. As strict and with the same classes in every draw, but at "
        "every number of classes the output layer starts at zero again and sees the drawings of all of them once "
        "each, shuffled. No class is older than another, so nothing is forgotten: what strict falls short of it is "
        "what learning one class after another costs.",
        "classes learned, all at once",
        "Grey: the oracle of the ANML paper, at 600 classes.",
        "Held-out drawings of the ten classes that come first under strict (or as many as there are). Here they are no "
        "older than the others, so that a fall is not forgetting, but the competition of more classes.",
    ),
}
