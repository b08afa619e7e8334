"""The vectorised steps of pre- and postprocessing, the same in the services and offline.

```python
spec = {"steps": [{"impute": {"columns": {"seats": 149}}}, …], "outputs": {…}}
program = compile_steps("preprocessing", spec)
result = program.run({"seats": Column.of("seats", seats)}, len(seats))
result.columns["input"].array, result.errors
```
"""

from headrace.steps.errors import SpecError
from headrace.steps.frame import Frame
from headrace.steps.options import Options
from headrace.steps.program.compilation import compile_steps, spec_json, spec_sha256
from headrace.steps.program.program import Result
from headrace.steps.step import ReadStep, Step

__all__ = [
    "Frame",
    "Options",
    "ReadStep",
    "Result",
    "SpecError",
    "Step",
    "compile_steps",
    "spec_json",
    "spec_sha256",
]
