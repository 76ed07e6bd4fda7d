"""onnxruntime without its telemetry, for training and serving: every other module imports it from here.

Its telemetry starts on import: an identifier and a database in the user's home, and uploads. It is switched off before that.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

__all__ = ["onnxruntime"]
