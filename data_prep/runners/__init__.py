"""Where a task runs over many items: in this process, in processes of this machine, or on a Ray cluster.

    with runners.Local(jobs=8, time_limit=600) as runner:
        for result in runner.run(task, items): ...

There is one result for each item, in the order of the items. An error, a crash of the process or an overrun costs only
its own item: a `Failure` stands in the place of the result. A task is a picklable callable. Each worker unpickles it
once a run and keeps it. So a model that the task loads at its first call, and leaves out of `__getstate__`, is loaded
once per worker.
"""

from data_prep.runners.base import Failure, Here, attempt, reason_of
from data_prep.runners.local import Local
from data_prep.runners.options import add_arguments, from_arguments
from data_prep.runners.ray import Ray

__all__ = ["Failure", "Here", "Local", "Ray", "add_arguments", "attempt", "from_arguments", "reason_of"]
