"""Image data sets: from a folder, the user's cache, a download, or embedded stand-ins.

`loading` looks for a data set by its name. It may be there as torchvision keeps it (`originals`) or
as image files (`image_files`), or be drawn (`stand_ins`).
"""

from .dataset import Dataset, Split, subset
from .loading import load_dataset
from .stand_ins import digits, digits_rgb

__all__ = ["Dataset", "Split", "digits", "digits_rgb", "load_dataset", "subset"]
