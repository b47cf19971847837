"""Holds the libraries to one thread before any of them is loaded."""

import os

from peers import ONE_THREAD

os.environ.update(ONE_THREAD)
