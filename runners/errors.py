"""What can go wrong with a unit of work.

::

    RunnerError
    ├── ImageRefused        the image cannot be used (permanent: the same bytes are refused again)
    ├── PipelineUnavailable the pipeline cannot run on this machine
    └── WorkerDied          the worker ended or hung (transient: tried again elsewhere)
"""


class RunnerError(Exception):
    """Base of everything this package raises."""


class ImageRefused(RunnerError):
    """The image cannot be used; the message is the reason shown to people."""


class PipelineUnavailable(RunnerError):
    """A library or model is missing, or the reference images do not give what they must."""


class WorkerDied(RunnerError):
    """The worker process ended, hung, or broke its protocol."""
