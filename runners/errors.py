"""What can go wrong with a unit of work.

::

    RunnerError
    ├── ImageRefused        the image cannot be used (permanent: the same bytes are refused again)
    │   └── BeyondLimits    this node does not take it (until somebody changes the limit)
    ├── PipelineUnavailable the pipeline cannot run on this machine
    ├── UnitFailed          this time it did not work, the worker is well (transient: tried again)
    └── WorkerDied          the worker ended or hung (transient: tried again elsewhere)
"""


class RunnerError(Exception):
    """Base of everything this package raises."""


class ImageRefused(RunnerError):
    """The image cannot be used; the message is the reason shown to people."""


class BeyondLimits(ImageRefused):
    """The image is larger than this node's settings or memory allow; another node or setting may take it."""


class PipelineUnavailable(RunnerError):
    """A library or model is missing, or the reference images do not give what they must."""


class UnitFailed(RunnerError):
    """Memory, disk or the pipeline failed at this unit; that may pass, so it is no result."""


class WorkerDied(RunnerError):
    """The worker process ended, hung, or broke its protocol."""
