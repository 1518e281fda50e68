from . import figures as figures
from .datasets.tables import load_pairs as load_pairs
from .demo.build import build_demo as build_demo
from .distances.metric import FeatureDistance as FeatureDistance
from .errors import InputError as InputError
from .extraction.extract import extract as extract
from .figures.explorer import explore as explore
from .report.pipeline import make_report as make_report
from .scores.runs import Run as Run
from .scores.runs import load_run as load_run
from .statistics.correlation import correlation_table as correlation_table

__version__: str
