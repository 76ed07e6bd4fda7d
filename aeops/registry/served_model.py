"""The MLflow model: a thin wrapper of the bundle's Detector. MLflow keeps a copy of this file and runs it to serve the model.

In the copy, the imports name the package that the model carries: see aeops/registry/carried_code.py.

mlflow.pyfunc.load_model("models:/digits@champion").predict(batch, params={"reconstruction": True})
"""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class ServedModel(PythonModel):  # type: ignore[misc]  # MLflow's base is untyped
    """Answer one dict a sample: score, p_value, is_anomaly, flags, and on request reconstruction and code."""

    def load_context(self, context: Any) -> None:
        # Imported here: MLflow also runs this file where the model is logged, which needs no onnxruntime.
        from aeops.bundle.detector import Detector

        self.detector = Detector(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> Any:
        """Score a batch (n, *shape) of raw values, of texts (n,), or the rows of a frame by the names of its columns.

        A frame is answered by a frame with a row for each of its rows; see docs/tables.md and docs/series.md.

        Args:
            context: MLflow's; the bundle is loaded already.
            model_input: the batch, its shape and dtype enforced by the signature.
            params: reconstruction, code: whether to answer them too; both false by default.

        Raises:
            MlflowException: the detector refuses all samples, or takes none such; answered as status 400.
        """
        from aeops.bundle.answers import to_answers
        from aeops.errors import DataError

        try:
            frame: Any = model_input
            if hasattr(frame, "to_dict"):
                return self._answer_frame(frame, **(params or {}))
            scores = self.detector.score(model_input, **(params or {}))
            self.detector.require_scored(scores["flags"])
            return to_answers(scores)
        except DataError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _answer_frame(self, frame: Any, reconstruction: bool = False, code: bool = False) -> Any:
        import pandas as pd  # who sends a frame has it

        from aeops.bundle.answers import to_answers

        scores = self.detector.score_frame(frame, reconstruction, code)
        self.detector.require_scored(scores["flags"])
        return pd.DataFrame(to_answers(scores), index=frame.index)


set_model(ServedModel())
