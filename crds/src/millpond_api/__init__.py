"""Millpond's contract: what the operator, the workers, the client and the CLI agree on.

Owns the kinds (`v1alpha1`), the state machines (`lifecycle`), the wire format (`envelope`, `events`), the subject and
stream names (`subjects`) and the pure rules that several sides apply (`retry`, `durations`). Needs only pydantic and
does no I/O, so any side may import it; it imports no other Millpond package.
"""

GROUP = "millpond.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

LABEL_POOL = f"{GROUP}/pool"
LABEL_WORKER = f"{GROUP}/worker"
LABEL_VERSION = f"{GROUP}/version"
"""On a worker's Deployment and pods: the version of its pool's template (8 hexadecimal digits of its hash)."""
UNVERSIONED = "unversioned"
"""What a Deployment and pods without that label are called: an operator from before there were versions made them."""
LABEL_BUSY = f"{GROUP}/busy"
"""On the pods of workers that run something: what the pool's disruption budget protects."""
ANNOTATION_RESTART = f"{GROUP}/restart"
"""On a WorkerPool, and from there on its Deployment and pods: another value replaces its workers, drained first."""
ANNOTATION_RESET = f"{GROUP}/reset"
"""On a Supervisor: another value starts it anew."""
