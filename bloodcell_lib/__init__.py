"""Helpers of the blood-cell notebooks: dataset, models, training, metrics, records and plots."""

import os
from importlib.metadata import PackageNotFoundError, version

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow greets on stderr, into every notebook

try:
    __version__ = version("bloodcell")
except PackageNotFoundError:  # the folder is used without having been installed
    __version__ = "0+unknown"
