"""peeklib: look into a neural network by factorizing its inputs and hidden layers together."""

from . import check, directions, models, plots, ranking, scores, spectra, subjects, tensors, zoo
from .cache import cached
from .course import evidence
from .course.findings import recheck
from .data import Dataset, Split, load_dataset, profile, subset
from .explorer import Explorer, show
from .hooks import input_blocks, record, relu_layers, to_float
from .ledger import CLAIMS, judge
from .nmf import CoupledFactors, Sweep, coupled_nmf, rank_sweep
from .report import Peek
from .spectra import effective_rank, spectrum
from .study import peek
from .training import Trained, accuracy, train

__version__ = "0.1.0"
__all__ = [
    "CLAIMS",
    "CoupledFactors",
    "Dataset",
    "Explorer",
    "Peek",
    "Split",
    "Sweep",
    "Trained",
    "accuracy",
    "cached",
    "check",
    "coupled_nmf",
    "directions",
    "effective_rank",
    "evidence",
    "input_blocks",
    "judge",
    "load_dataset",
    "models",
    "peek",
    "plots",
    "profile",
    "rank_sweep",
    "ranking",
    "recheck",
    "record",
    "relu_layers",
    "scores",
    "show",
    "spectra",
    "spectrum",
    "subjects",
    "subset",
    "tensors",
    "to_float",
    "train",
    "zoo",
]
