"""Sketches of columns: what a window of rows looked like, in little memory. They merge over replicas and times.

```python
layout = Layout((NumberColumn("distance", edges=(200.0, 900.0)),))
a, b = Sketch(layout), Sketch(layout)
a.update({"distance": np.array([100.0, 300.0])})
b.update({"distance": np.array([1000.0])})
a.merge(b)  # as if one sketch had seen all three rows
```
"""

from headrace.sketches.layout import CategoryColumn, Layout, NumberColumn
from headrace.sketches.sketch import CategoryFigures, LayoutError, NumberFigures, Sketch
from headrace.sketches.values import Values

__all__ = [
    "CategoryColumn",
    "CategoryFigures",
    "Layout",
    "LayoutError",
    "NumberColumn",
    "NumberFigures",
    "Sketch",
    "Values",
]
