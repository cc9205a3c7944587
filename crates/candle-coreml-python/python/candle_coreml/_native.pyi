import os
from collections.abc import Mapping

class MLModel:
    def __new__(
        cls,
        path: str | os.PathLike[str],
        *,
        function_name: str | None = None,
        threads: int | None = None,
        strict_fp16: bool = False,
    ) -> MLModel: ...
    def predict(self, inputs: Mapping[str, object]) -> dict[str, object]: ...
