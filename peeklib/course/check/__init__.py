"""Checks for the book's exercises: silent about the answer, plain about what is wrong.

A module for each chapter; a page calls `pk.check.stacked(answer, …)`. The first line of each check
says what the answer is. `None` means "not answered yet" and says so; a right answer prints a line; a
wrong one raises `Hint`, an AssertionError of which a notebook shows one line and no traceback. Expected
values are computed, never stored.

Example:
    >>> import peeklib as pk
    >>> pk.check.rank_to_reach(None, {5: 0.5, 10: 0.3, 20: 0.2}, target=0.4)
    ○ not answered yet: put your answer in place of None and run the cell again
    >>> pk.check.rank_to_reach(20, {5: 0.5, 10: 0.3, 20: 0.2}, target=0.4)
    Traceback (most recent call last):
    peeklib.course.check.answers.Hint: rank 20 will do, but it is not the smallest that will
    >>> pk.check.rank_to_reach(10, {5: 0.5, 10: 0.3, 20: 0.2}, target=0.4)
    ✓ right
"""

from .chapter01 import neuron_counts, neuron_row, silent_neurons
from .chapter02 import even_weights, factor_update, from_pixels, stacked
from .chapter03 import compressible, multiplied, rank_to_reach, rescaled, spreads_apart
from .chapter04 import alexnet_features, colour_image, smallest_tolerance
from .chapter05 import ceiling, energy_rank, higher_rank
from .chapter06 import best_known, chance_overlap, closest_pair, overlap
from .chapter07 import leading_channel, moved_most, placed
from .chapter08 import coordinate_sweep, products_over_sweeps, shrink, step_share
from .chapter09 import normalized, set_purity, tail_cut
from .chapter10 import along_mean, noise_share
from .chapter11 import most_gained, most_silent, negative_share
from .chapter12 import alignment, flat_gain, images_needed
from .chapter13 import dead_neurons, permuted_neurons, size_share
from .chapter14 import kendall_by_hand, safest, tau_within, worst_environment
from .chapter15 import break_even, same_size, summed_along
from .chapter16 import constant_kept, most_lost, votes_by_hand

__all__ = ["neuron_counts", "neuron_row", "silent_neurons"]
__all__ += ["stacked", "factor_update", "even_weights", "from_pixels"]
__all__ += ["rank_to_reach", "compressible", "rescaled", "multiplied", "spreads_apart"]
__all__ += ["alexnet_features", "colour_image", "smallest_tolerance"]
__all__ += ["ceiling", "energy_rank", "higher_rank"]
__all__ += ["closest_pair", "overlap", "best_known", "chance_overlap"]
__all__ += ["leading_channel", "moved_most", "placed"]
__all__ += ["products_over_sweeps", "coordinate_sweep", "shrink", "step_share"]
__all__ += ["set_purity", "tail_cut", "normalized"]
__all__ += ["noise_share", "along_mean"]
__all__ += ["most_silent", "most_gained", "negative_share"]
__all__ += ["images_needed", "alignment", "flat_gain"]
__all__ += ["size_share", "dead_neurons", "permuted_neurons"]
__all__ += ["kendall_by_hand", "worst_environment", "safest", "tau_within"]
__all__ += ["same_size", "summed_along", "break_even"]
__all__ += ["constant_kept", "most_lost", "votes_by_hand"]
