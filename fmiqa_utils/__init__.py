"""fmiqa: what vision foundation models see when an image is distorted.

>>> import fmiqa_utils
>>> [name for name in dir(fmiqa_utils) if name.startswith("load")]
['load_pairs', 'load_run']

The public names are listed in `__init__.pyi`; each is imported when it is first used, for torch takes seconds.
"""

import lazy_loader

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
