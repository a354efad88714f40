"""What the two studies claim, what would count as reproducing it, and how a chapter reports what it found.

Saini & Papalexakis (2018), and Zhang (2015), whose claims are named "zhang-…".

A criterion has parts, fixed here. A chapter measures, hands in one truth value for each part, and gets a
`Finding`, which shows itself: the verdict is "reproduced" if all parts hold, "not reproduced" if none does,
"partly" otherwise. The page `ledger` collects the findings.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from .data import Dataset

VERDICTS = ("not reproduced", "partly", "reproduced")


class Claim(NamedTuple):
    """One accuracy, figure or sentence of a study (paraphrased), and the parts of our criterion."""

    where: str
    says: str
    parts: tuple[str, ...]


CLAIMS = {
    "equation-1": Claim(
        "section 2.1, eq. 1",
        "The objective is the sum over input channels and layers of the squared residuals, with one shared F.",
        (
            "The reported loss is that sum, computed entry by entry in float64, to one part in a million.",
        ),
    ),
    "updates": Claim(
        "section 2.1, update rules",
        "Multiplicative updates of F, then P and O, solve it.",
        (
            "The loss never rises (to rounding) over 200 rounds.",
            "No other solver of ours ends more than 1 % lower, at any of three ranks.",
        ),
    ),
    "accuracy-data": Claim(
        "section 3.3",
        "One epoch on 25, 50, 75, 100 % of MNIST gives 83, 89, 93, 95 % test accuracy.",
        ("Every mean over the seeds lies within 3 points.", "The means rise with the data."),
    ),
    "figure-3": Claim(
        "section 3.3, Figure 3",
        "The RMSE is lower for smaller training sets, at every rank from 10 to 50.",
        (
            "The mean over the seeds rises with the data at all five ranks.",
            "All four networks stand in this order in at least 4 of 5 seeds, at all five ranks.",
        ),
    ),
    "compressible": Claim(
        "section 3.3",
        "Networks trained on less data are more compressible: fewer dimensions explain them.",
        (
            "The relative error, which has no unit, rises with the data as the RMSE does.",
            "With equal say for each block, the error of relu1 rises by 5 % or more from 25 to 100 % of the data.",
            "With equal say for each block, the error of relu2 does.",
        ),
    ),
    "figure-4": Claim(
        "section 3.3, Figure 4",
        "The top singular values of A₀ are higher the more data there was.",
        (
            "The mean of the first 100 rises with the data, as a mean over the seeds.",
            "So does the mean of the 21st to 100th divided by the first, which has no unit.",
        ),
    ),
    "figure-5": Claim(
        "section 3.3, Figure 5",
        "The top singular values of A₁, the deepest layer, differ clearly in the same order.",
        (
            "The mean of the first 100 rises with the data, as a mean over the seeds.",
            "So does the mean of the 21st to 100th divided by the first, which has no unit.",
        ),
    ),
    "subspace": Claim(
        "section 3.3",
        "A poorer network maps the data into a subspace of much lower dimension.",
        (
            "The entropy rank of A₁ rises with the data, in order, in at least 4 of 5 seeds.",
            "At 100 % of the data it is at least a quarter higher than at 25 %.",
            "The entropy rank of A₀ rises in order too.",
        ),
    ),
    "figure-6": Claim(
        "section 3.3, Figure 6",
        "AlexNet on CIFAR-10: the RMSE is lower for smaller training sets, at every rank.",
        (
            "The mean RMSE over the seeds rises with the data at all five ranks.",
            "The mean relative error does.",
        ),
    ),
    "alexnet-mnist": Claim(
        "section 3.3",
        "The pattern persists for AlexNet on MNIST.",
        (
            "The mean RMSE over the seeds rises with the data at all five ranks.",
            "The mean relative error does.",
        ),
    ),
    "accuracy-classes": Claim(
        "section 3.4",
        "Trained on {0}, {0–4}, {5–9}, {0–9}, the network reaches 9, 50, 47, 93 % on all test images.",
        ("Every mean over the seeds lies within 3 points.",),
    ),
    "class-counts": Claim(
        "section 3.4",
        "The gap between {0–4} and {5–9} comes from their slightly different numbers of training images.",
        (
            "There are more training images of 0–4 than of 5–9.",
            "On test images of its own classes alone, neither network is better by more than half a point: "
            "the gap is one of test images, and not of what was learnt.",
        ),
    ),
    "figure-7": Claim(
        "section 3.4, Figure 7",
        "The fewer the training classes, the lower the RMSE, at every rank.",
        (
            "The mean RMSE of {0} is below those of {0–4} and {5–9}, and these below that of {0–9}, at all five ranks.",
            "So is the mean relative error.",
            "The order of the RMSE holds in at least 4 of 5 seeds, at all five ranks.",
        ),
    ),
    "figure-8": Claim(
        "section 3.4, Figure 8",
        "The top quarter of the singular values of A₁ shows the same order.",
        (
            "The mean of the first 80 is in that order, as a mean over the seeds.",
            "So is the mean of the 21st to 80th divided by the first, which has no unit.",
        ),
    ),
    "accuracy-order": Claim(
        "section 3.5",
        "Trained class by class, 9 first, the network reaches 9 % and recognizes most of the 9s.",
        (
            "The mean accuracy over the seeds lies within 3 points of 9 %.",
            "More than half of the 9s are recognized, as a mean over the seeds.",
        ),
    ),
    "first-class": Claim(
        "section 3.5",
        "A network trained class by class is good only at the class it saw first.",
        ("In most runs over class orders and seeds, the class recognized best is the first one.",),
    ),
    "figure-2": Claim(
        "section 3.5, Figure 2",
        "Rank-10 latent images show the digits 9; 1; 6; 0; 3 and 8; 7; 1 and 2.",
        (
            "At least 5 of these 7 sets of classes are the top classes of some component, as a mean over the seeds.",
            "For at least 5 of the 10 components, one or two classes hold half of the loading, as a mean over the seeds.",
        ),
    ),
    "shared-9-1-6": Claim(
        "section 3.5, observation 1",
        "Neurons of the last layer that are active for 9 are also active for 1 and 6.",
        (
            "The overlap of 9 and 1 is above the median of all pairs of digits in at least 4 of 5 seeds.",
            "The overlap of 9 and 6 is.",
        ),
    ),
    "shared-1-7-9-2": Claim(
        "section 3.5, observation 2",
        "Neurons that fire for 1 also fire for 7 and 9; those for 7 also for 2.",
        (
            "The overlap of 1 and 7 is above the median of all pairs of digits in at least 4 of 5 seeds.",
            "The overlap of 7 and 2 is.",
        ),
    ),
    "apart-0-3-8": Claim(
        "section 3.5, observation 3",
        "Neurons that fire for 0 are different from those that fire for 3 and 8.",
        (
            "The overlap of 0 with 3, and with 8, is below the median of all pairs in at least 4 of 5 seeds.",
            "It is no larger than that of random sets of as many neurons in at least 4 of 5 seeds.",
        ),
    ),
    "figure-9": Claim(
        "section 3.5, Figure 9",
        "Rank-10 loadings show that most of a network trained class by class is not used.",
        (
            "In both layers, more neurons have negligible loadings than after shuffled training, in at least 4 of 5 seeds.",
            "In both layers, the entropy rank of the loadings is lower, in at least 4 of 5 seeds.",
            "More than half of the neurons of both layers have negligible loadings, as a mean over the seeds.",
        ),
    ),
    "headline": Claim(
        "abstract and section 4",
        "Without labels, the rank of the factorization tells how well a network is trained.",
        (
            "Over all MNIST networks of the three case studies, accuracy and RMSE at rank 30 have a Spearman "
            "correlation of 0.8 or more.",
            "So have accuracy and relative error at rank 30.",
            "The RMSE keeps its order if a layer is rescaled and the next one scaled back, which changes no answer.",
        ),
    ),
    "zhang-readable": Claim(
        "Zhang 2015, section 4.2.1, Figures 2 and 3",
        "Images with the highest activations on a neuron have features in common, of neurons of high variance as of "
        "random ones.",
        (
            "In pool5, the mean class purity of the top 8 images of the 50 neurons of highest variance is above that of "
            "999 in 1,000 sets of as many random images, in every seed.",
            "So is that of 50 random neurons.",
            "So it is not in an untrained network.",
        ),
    ),
    "zhang-variance": Claim(
        "Zhang 2015, section 4.2.1",
        "Variance is a rough proxy for interpretability: below a threshold images have less in common, above it the "
        "relation is coarse.",
        (
            "Over all neurons of pool5 that vary, variance and class purity have a positive Spearman correlation, above "
            "that of 999 in 1,000 permutations, in every seed.",
            "The quarter of neurons of lowest variance has a lower mean purity than the rest, in every seed.",
            "Over the other three quarters the correlation is below 0.5, in every seed.",
        ),
    ),
    "zhang-redundant": Claim(
        "Zhang 2015, sections 4.2.1 and 4.2.3",
        "Single neurons are redundant, with near-identical sets of images above all at the low end; the leading singular "
        "directions are not.",
        (
            "In pool5, the top-8 sets of the 8 neurons of highest variance share more images than those of 8 random "
            "directions, as a mean over the seeds.",
            "Those of the first 8 singular directions share less than half as many as those of the neurons, as a mean "
            "over the seeds.",
            "Of the neurons, the bottom sets share more than the top sets, in every seed.",
        ),
    ),
    "zhang-random": Claim(
        "Zhang 2015, section 4.2.2",
        "Images along random directions have less in common than those of neurons, and high variance does not help.",
        (
            "In pool5, the mean purity of 50 random directions is below that of 50 random neurons, in every seed.",
            "The purity of the 50 random directions of highest variance of 1,000 differs from theirs by less than two "
            "standard errors, in at least 4 of 5 seeds.",
        ),
    ),
    "zhang-raw": Claim(
        "Zhang 2015, section 4.2",
        "Normalized or raw activations make little difference to the images.",
        (
            "In pool5, the purity of the top sets of the 8 neurons of highest variance differs by less than 0.1 between "
            "the two, as a mean over the seeds.",
            "Their overlap differs by less than 0.05.",
        ),
    ),
    "zhang-classes": Claim(
        "Zhang 2015, section 4.2.3",
        "Top images of singular directions span several classes, those of neurons are often of one kind.",
        (
            "In pool5, the class entropy of the top and bottom sets of the first 8 singular directions is above that of "
            "the top sets of the 8 neurons of highest variance, in at least 4 of 5 seeds.",
            "It is above that of 8 random neurons, in at least 4 of 5 seeds.",
        ),
    ),
    "zhang-magnitude": Claim(
        "Zhang 2015, abstract and section 4.2.3",
        "How interpretable a singular direction is, is loosely correlated with its singular value.",
        (
            "Over the first 50 directions of pool5, singular value and class purity (mean of both ends) have a positive "
            "Spearman correlation, above that of 99 in 100 permutations, in at least 4 of 5 seeds.",
            "The first 8 have a higher mean purity than the 43rd to 50th, in every seed.",
        ),
    ),
    "zhang-later": Claim(
        "Zhang 2015, section 4.2.3",
        "Beyond the eighth singular direction the sets of top images are quite similar to each other.",
        (
            "In pool5, the top sets of the 9th to 50th direction share more than twice as many images as those of the "
            "first 8, as a mean over the seeds.",
            "More of their pairs are of the same class, in at least 4 of 5 seeds.",
        ),
    ),
    "zhang-thorough": Claim(
        "Zhang 2015, section 4.2.3",
        "The leading 8 singular directions leave most of a layer unexplained: an error of 7,050 (95 % of the norm, by our "
        "reckoning).",
        (
            "In pool5, the relative error of rank 8 is above 0.9, as a mean over the seeds.",
            "It is above 0.71, so that more than half of the energy is lost, as a mean over the seeds.",
        ),
    ),
    "zhang-abstract": Claim(
        "Zhang 2015, section 4.3",
        "Earlier layers yield colour and texture, later ones approach categories.",
        (
            "The class purity of the first 8 singular directions is higher in the last two layers than in the first "
            "two, in every seed.",
            "The top images differ less in mean colour, compared with random sets, in the first two layers than in "
            "the last two, in every seed.",
        ),
    ),
    "zhang-large": Claim(
        "Zhang 2015, section 4.3",
        "Earlier layers have fewer large singular values.",
        (
            "Above one cut-off for all layers, 2.7 % of the norm of pool5 as in the study, the first two layers have "
            "fewer singular values than the last two, in every seed.",
            "So they have above 2.7 % of each layer's own norm.",
            "So they have above those of the same index once every neuron's activations are permuted over the images "
            "(parallel analysis, Horn 1965).",
        ),
    ),
}


@dataclass(frozen=True)
class Finding:
    """What a chapter found about one claim; shows itself as a box of HTML."""

    name: str
    holds: tuple[bool, ...]
    measured: str
    chapter: str  #: the notebook, without its suffix
    stand_in: str | None = None  #: the data it ran on, where that is not the paper's

    @property
    def verdict(self) -> str:
        """ "reproduced" if every part holds, "not reproduced" if none, else "partly"; none on stand-in data."""
        if self.stand_in:
            return f"no verdict on {self.stand_in}"
        return VERDICTS[2 if all(self.holds) else int(any(self.holds))]

    def __repr__(self):
        return f"{self.name}: {self.verdict}. {self.measured}"

    def _repr_mimebundle_(self, **_):
        """HTML, under a name by which another page can show it too."""
        data = {"text/plain": repr(self), "text/html": self.to_html()}
        return data, {"scrapbook": {"name": f"claim-{self.name}", "mime_prefix": ""}}

    def to_html(self) -> str:
        """A definition list: the claim, our criterion part by part, what we measured, and the verdict."""
        claim = CLAIMS[self.name]
        parts = "".join(
            f"<li>{'✓' if held else '✗'} {html.escape(part)}</li>"
            for part, held in zip(claim.parts, self.holds, strict=True)
        )
        kind = "none" if self.stand_in else ("no", "partly", "yes")[VERDICTS.index(self.verdict)]
        rows = {
            f"The study says ({claim.where})": html.escape(claim.says),
            "Our criterion": f"<ul>{parts}</ul>",
            "We measure": html.escape(self.measured),
            "Verdict": f'<a href="../notebooks/{self.chapter}.html#claim-{self.name}">{html.escape(self.verdict)}</a>',
        }
        cells = "".join(
            f"<div><dt>{html.escape(head)}</dt><dd>{text}</dd></div>" for head, text in rows.items()
        )
        return f'<dl class="peek-claim" data-verdict="{kind}" id="claim-{self.name}">{cells}</dl>'


def judge(
    name: str, holds: Sequence[bool], measured: str, *, chapter: str, data: Dataset | None
) -> Finding:
    """The finding for one claim.

    Args:
        name: key of `CLAIMS`.
        holds: whether each part of its criterion holds, in order.
        measured: the numbers behind that, with their spread, in words.
        chapter: name of the notebook, without its suffix.
        data: what was measured on; a stand-in gets no verdict. None if the numbers come from a table of evidence.

    Raises:
        KeyError, ValueError: for an unknown claim, or another number of parts.
    """
    if name not in CLAIMS:
        raise KeyError(f"no claim {name!r}; there are {list(CLAIMS)}")
    holds = tuple(bool(held) for held in holds)
    if len(holds) != len(CLAIMS[name].parts):
        raise ValueError(
            f"claim {name!r} has {len(CLAIMS[name].parts)} parts, not {len(holds)}: {CLAIMS[name].parts}"
        )
    return Finding(
        name,
        holds,
        measured,
        chapter,
        data.name if data is not None and data.stand_in_for else None,
    )


def by_seed(table: pd.DataFrame, column: str, **where) -> pd.Series:
    """One column of a table of evidence, a value for each seed, from the rows where other columns have these values.

    Raises:
        ValueError: if that leaves no row, or several of one seed.
    """
    for name, value in where.items():
        table = table[table[name] == value]
    found = table.set_index("seed")[column].sort_index()
    if found.empty or not found.index.is_unique:
        raise ValueError(
            f"{where} leaves {len(found)} rows for {found.index.nunique()} seeds; name one for each"
        )
    return found


def spread(values: pd.Series, form: str = ".2f") -> str:
    """Mean and range in words: "0.82 (0.79 to 0.85)"."""
    return f"{values.mean():{form}} ({values.min():{form}} to {values.max():{form}})"
