import pathlib

from . import directions as directions
from . import plots as plots
from . import solvers as solvers
from . import spectra as spectra
from . import tensors as tensors
from .course import check as check
from .course import evidence as evidence
from .course import models as models
from .course import ranking as ranking
from .course import subjects as subjects
from .course import zoo as zoo
from .course.cache import cached as cached
from .course.data import Dataset as Dataset
from .course.data import Split as Split
from .course.data import load_dataset as load_dataset
from .course.data import subset as subset
from .course.findings import recheck as recheck
from .course.ledger import CLAIMS as CLAIMS
from .course.ledger import judge as judge
from .course.training import Trained as Trained
from .course.training import accuracy as accuracy
from .course.training import train as train
from .estimator import CoupledNMF as CoupledNMF
from .explorer import Explorer as Explorer
from .explorer import profile as profile
from .explorer import show as show
from .hooks import record as record
from .hooks import relu_layers as relu_layers
from .images import as_images as as_images
from .images import input_blocks as input_blocks
from .images import to_float as to_float
from .nmf import CoupledFactors as CoupledFactors
from .nmf import Sweep as Sweep
from .nmf import coupled_nmf as coupled_nmf
from .nmf import rank_sweep as rank_sweep
from .ranks import RankChoice as RankChoice
from .ranks import choose_rank as choose_rank
from .sketches import Sketch as Sketch
from .sketches import sketch as sketch
from .spectra import effective_rank as effective_rank
from .spectra import spectrum as spectrum
from .store import Store as Store
from .store import Stored as Stored
from .store import open_store as open_store
from .study import scores as scores
from .study.analysis import peek as peek
from .study.compare import Checkpoints as Checkpoints
from .study.compare import Comparison as Comparison
from .study.compare import compare as compare
from .study.files import load as load
from .study.report import Peek as Peek

AGES: dict[pathlib.Path, int]
__version__: str
