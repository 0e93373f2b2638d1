"""Exact export of spiking networks: a neutral graph, simulators that run it, and proof that they agree."""

from converters import energy
from converters.anml import record_anml
from converters.certificate import Certificate, certify, load_certificate, save_certificate
from converters.events import EVENT, Binned, EventInput, binned, events_of, spikes_of
from converters.fidelity import Fidelity, compare
from converters.from_torch import GraphBuilder, Wire, from_torch, lowering, supported
from converters.gate_forms import compare_gate_forms
from converters.gates import Lowered, lower_gates
from converters.graph import Graph
from converters.graph_io import graph_hash, load_graph, save_graph
from converters.loihi import LayerReport, loihi_report
from converters.native_nengo import to_native_nengo
from converters.nengo_network import to_nengo
from converters.nir_read import load_nir
from converters.nir_write import LossyExportWarning, save_nir
from converters.open_graph import open_graph
from converters.passes import Snapped, drive_by_spikes, snap
from converters.plain_lif import zero_reset
from converters.quantize import quantize_activations, quantize_gates, quantize_weights
from converters.recording import Recording
from converters.simulate import (
    Simulator,
    backends,
    check,
    encode_inputs,
    open_simulator,
    register,
    simulate,
)

__all__ = [
    "EVENT",
    "Binned",
    "Certificate",
    "EventInput",
    "Fidelity",
    "Graph",
    "GraphBuilder",
    "LayerReport",
    "LossyExportWarning",
    "Lowered",
    "Recording",
    "Simulator",
    "Snapped",
    "Wire",
    "backends",
    "binned",
    "certify",
    "check",
    "compare",
    "compare_gate_forms",
    "drive_by_spikes",
    "encode_inputs",
    "energy",
    "events_of",
    "from_torch",
    "graph_hash",
    "load_certificate",
    "load_graph",
    "load_nir",
    "loihi_report",
    "lower_gates",
    "lowering",
    "open_graph",
    "open_simulator",
    "quantize_activations",
    "quantize_gates",
    "quantize_weights",
    "record_anml",
    "register",
    "save_certificate",
    "save_graph",
    "save_nir",
    "simulate",
    "snap",
    "spikes_of",
    "supported",
    "to_native_nengo",
    "to_nengo",
    "zero_reset",
]
