"""peeklib: look into a neural network by factorizing its inputs and hidden layers together.

`__init__.pyi` lists every public name and the module that it comes from; a module is loaded when
first asked for.
"""

from pathlib import Path

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# When each file changed last, as of now: once one changes, what runs may be neither old nor new
AGES = {path: path.stat().st_mtime_ns for path in Path(__file__).parent.rglob("*.py")}
