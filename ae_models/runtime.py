"""The door to onnxruntime, for training, serving and whoever else asks a bundle: nobody imports it past this file.

Its telemetry starts when it is imported: an identifier and a database in the user's home, and uploads. It is off before that.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

__all__ = ["onnxruntime"]
